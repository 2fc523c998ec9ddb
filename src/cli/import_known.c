/* import_known.c - see import_known.h. */
#include "import_known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_of(const struct known *k, uint64_t dev, uint64_t inode)
{
	return (size_t)((inode ^ dev * 0x9E3779B97F4A7C15u) * 0xff51afd7ed558ccdu >> 20) & (k->capacity - 1);
}

static bool same(const struct known_file *f, const struct tree_entry *e)
{
	return f->inode == e->inode && f->dev == e->dev && f->len_bytes == e->len_bytes &&
	       f->mtime.tv_sec == e->mtime.tv_sec && f->mtime.tv_nsec == e->mtime.tv_nsec &&
	       f->ctime.tv_sec == e->ctime.tv_sec && f->ctime.tv_nsec == e->ctime.tv_nsec;
}

static int grow(struct known *k)
{
	struct known old = *k;

	k->capacity = old.capacity == 0 ? 1024 : 2 * old.capacity;
	k->files = calloc(k->capacity, sizeof(*k->files));
	if (k->files == NULL) {
		*k = old;
		return -ENOMEM;
	}
	for (size_t i = 0; i < old.capacity; i++) {
		if (old.files[i].blob == 0)
			continue;
		size_t at = slot_of(k, old.files[i].dev, old.files[i].inode);
		while (k->files[at].blob != 0)
			at = (at + 1) & (k->capacity - 1);
		k->files[at] = old.files[i];
	}
	free(old.files);
	return 0;
}

static int add_file(struct known *k, const struct tree_entry *e)
{
	if (k->n * 2 >= k->capacity && grow(k) < 0)
		return -ENOMEM;
	size_t at = slot_of(k, e->dev, e->inode);
	while (k->files[at].blob != 0) {
		if (k->files[at].blob == e->blob)
			return 0; /* in a part and in an index, or in two */
		at = (at + 1) & (k->capacity - 1);
	}
	k->files[at] = (struct known_file){
		.dev = e->dev,
		.inode = e->inode,
		.len_bytes = e->len_bytes,
		.blob = e->blob,
		.mtime = e->mtime,
		.ctime = e->ctime,
	};
	k->n++;
	return 0;
}

/* 0 also for an index of another name. */
static int load_index(struct known *k, struct quire_store *store, uint64_t id, const char *name)
{
	struct quire_blob_props props;
	struct tree_entry e;
	struct tree_reader r;
	int rc = tree_open(&r, store, id);
	bool mine = rc == 0 && strcmp(r.name, name) == 0;

	while (rc == 0 && mine && (rc = tree_next(&r, &e)) > 0) {
		rc = 0;
		/* A clean-up that did not end may have deleted it. */
		if (e.type == TREE_FILE && e.blob != 0 && quire_blob_props(store, e.blob, &props) == 0 && props.committed &&
		    props.len_bytes == e.len_bytes)
			rc = add_file(k, &e);
	}
	tree_close(&r);
	if (rc < 0 || !mine)
		return rc;
	uint64_t *indexes = realloc(k->indexes, (k->n_indexes + 1) * sizeof(*indexes));
	if (indexes == NULL)
		return -ENOMEM;
	k->indexes = indexes;
	indexes[k->n_indexes++] = id;
	return 0;
}

/* It is of no use then, and nothing else is. */
static bool is_damaged(int rc)
{
	return rc == -EUCLEAN || rc == -EBADMSG || rc == -EIO;
}

int known_load(struct known *k, struct quire_store *store, const char *name)
{
	static const uint8_t tags[] = {TREE_TAG_INDEX, TREE_TAG_PART};
	uint64_t ids[64];
	int rc = 0;

	memset(k, 0, sizeof(*k));
	for (unsigned t = 0; t < 2 && rc >= 0; t++) {
		for (uint64_t after = 0; (rc = quire_blob_list_tagged(store, tags[t], after, ids, 64)) > 0;) {
			int n = rc;
			for (int i = 0; i < n && rc >= 0; i++) {
				after = ids[i];
				rc = load_index(k, store, ids[i], name);
				if (!is_damaged(rc))
					continue;
				k->n_damaged++;
				k->damaged = ids[i];
				k->damage = rc;
				rc = 0;
			}
			if (rc < 0)
				break;
		}
	}
	return rc < 0 ? rc : 0;
}

void known_free(struct known *k)
{
	free(k->files);
	free(k->indexes);
	memset(k, 0, sizeof(*k));
}

uint64_t known_use(struct known *k, const struct tree_entry *e)
{
	if (k->n == 0)
		return 0;
	for (size_t at = slot_of(k, e->dev, e->inode); k->files[at].blob != 0; at = (at + 1) & (k->capacity - 1)) {
		if (same(&k->files[at], e)) {
			k->files[at].used = true;
			return k->files[at].blob;
		}
	}
	return 0;
}
