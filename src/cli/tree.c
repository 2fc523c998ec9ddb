/* tree.c - see tree.h. */
#include "tree.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES (1u << 20)
#define WRITE_BYTES (256u << 10)

/* ---- entries ---- */

void tree_entry_of(struct tree_entry *e, const struct stat *st)
{
	e->len_bytes = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	e->dev = st->st_dev;
	e->inode = st->st_ino;
	e->mtime = st->st_mtim;
	e->ctime = st->st_ctim;
	e->atime = st->st_atim;
	e->mode = st->st_mode & 07777;
	e->uid = st->st_uid;
	e->gid = st->st_gid;
	e->type = S_ISDIR(st->st_mode) ? TREE_DIRECTORY : S_ISLNK(st->st_mode) ? TREE_SYMLINK : TREE_FILE;
}

static size_t tree_entry_bytes(const struct tree_entry *e)
{
	return sizeof(struct tree_entry_le) + e->name_bytes + e->target_bytes;
}

static void put_entry(uint8_t *to, const struct tree_entry *e)
{
	struct tree_entry_le le = {
		.number = htole64(e->number),
		.parent = htole64(e->parent),
		.blob = htole64(e->blob),
		.len_bytes = htole64(e->len_bytes),
		.dev = htole64(e->dev),
		.inode = htole64(e->inode),
		.mtime_s = (int64_t)htole64((uint64_t)e->mtime.tv_sec),
		.ctime_s = (int64_t)htole64((uint64_t)e->ctime.tv_sec),
		.atime_s = (int64_t)htole64((uint64_t)e->atime.tv_sec),
		.mtime_ns = htole32((uint32_t)e->mtime.tv_nsec),
		.ctime_ns = htole32((uint32_t)e->ctime.tv_nsec),
		.atime_ns = htole32((uint32_t)e->atime.tv_nsec),
		.mode = htole32(e->mode),
		.uid = htole32(e->uid),
		.gid = htole32(e->gid),
		.name_bytes = htole16(e->name_bytes),
		.target_bytes = htole16(e->target_bytes),
		.type = (uint8_t)e->type,
		.shared = e->shared,
	};

	memcpy(to, &le, sizeof(le));
	if (e->name_bytes > 0)
		memcpy(to + sizeof(le), e->name, e->name_bytes);
	if (e->target_bytes > 0)
		memcpy(to + sizeof(le) + e->name_bytes, e->target, e->target_bytes);
}

static bool is_component(const char *name, size_t n)
{
	return n > 0 && n <= 255 && memchr(name, '/', n) == NULL && memchr(name, '\0', n) == NULL &&
	       !(n == 1 && name[0] == '.') && !(n == 2 && memcmp(name, "..", 2) == 0);
}

static bool makes_sense(const struct tree_entry *e, const struct tree_entry_le *le)
{
	bool root = e->number == 0;

	if (le->zero[0] != 0 || le->zero[1] != 0 || le->shared > 1 || e->mode > 07777 || e->type < TREE_DIRECTORY ||
	    e->type > TREE_LINK)
		return false;
	if (le32toh(le->mtime_ns) > 999999999 || le32toh(le->ctime_ns) > 999999999 || le32toh(le->atime_ns) > 999999999)
		return false;
	if (root ? e->name_bytes != 0 || e->type != TREE_DIRECTORY || e->parent != 0 : !is_component(e->name, e->name_bytes))
		return false;
	if ((e->type == TREE_SYMLINK) != (e->target_bytes != 0) || e->target_bytes > TREE_MAX_NAME ||
	    memchr(e->target, '\0', e->target_bytes) != NULL)
		return false;
	return root || e->parent != e->number;
}

/* Reads the entry that begins at `from`: its length; 0: it does not end within n bytes; -EUCLEAN. Checks all that can be
 * checked in one entry: a name is one path component. */
static int64_t take_entry(const uint8_t *from, size_t n, struct tree_entry *ret)
{
	struct tree_entry_le le;

	if (n < sizeof(le))
		return 0;
	memcpy(&le, from, sizeof(le));
	struct tree_entry e = {
		.number = le64toh(le.number),
		.parent = le64toh(le.parent),
		.blob = le64toh(le.blob),
		.len_bytes = le64toh(le.len_bytes),
		.dev = le64toh(le.dev),
		.inode = le64toh(le.inode),
		.mtime = {(int64_t)le64toh((uint64_t)le.mtime_s), le32toh(le.mtime_ns)},
		.ctime = {(int64_t)le64toh((uint64_t)le.ctime_s), le32toh(le.ctime_ns)},
		.atime = {(int64_t)le64toh((uint64_t)le.atime_s), le32toh(le.atime_ns)},
		.mode = le32toh(le.mode),
		.uid = le32toh(le.uid),
		.gid = le32toh(le.gid),
		.type = (enum tree_type)le.type,
		.shared = le.shared != 0,
		.name_bytes = le16toh(le.name_bytes),
		.target_bytes = le16toh(le.target_bytes),
	};
	if (n < tree_entry_bytes(&e))
		return e.target_bytes > TREE_MAX_NAME ? -EUCLEAN : 0;
	e.name = (const char *)from + sizeof(le);
	e.target = e.name + e.name_bytes;
	if (!makes_sense(&e, &le))
		return -EUCLEAN;
	*ret = e;
	return (int64_t)tree_entry_bytes(&e);
}

/* ---- reading ---- */

/* More of the blob behind what is left in the buffer. The bytes that came: 0 at its end. */
static int64_t refill(struct tree_reader *r)
{
	memmove(r->buf, r->buf + r->used, r->n - r->used);
	r->n -= r->used;
	r->used = 0;
	struct iovec v = {r->buf + r->n, READ_BYTES};
	int64_t got = quire_blob_read(r->store, r->id, r->at, &v, 1, NULL);
	if (got > 0) {
		r->at += (uint64_t)got;
		r->n += (size_t)got;
	}
	return got;
}

int tree_open(struct tree_reader *r, struct quire_store *store, uint64_t id)
{
	struct tree_header_le h;

	memset(r, 0, sizeof(*r));
	r->store = store;
	r->id = id;
	r->buf = malloc(2 * READ_BYTES); /* an entry that is cut is shorter than that */
	if (r->buf == NULL)
		return -ENOMEM;
	int64_t got = refill(r);
	if (got < 0)
		return (int)got;
	if (r->n < sizeof(h))
		return -EUCLEAN;
	memcpy(&h, r->buf, sizeof(h));
	r->name_bytes = le32toh(h.name_bytes);
	if (memcmp(h.magic, TREE_MAGIC, sizeof(h.magic)) != 0 || h.zero != 0 || r->name_bytes > TREE_MAX_NAME ||
	    r->n - sizeof(h) < r->name_bytes || memchr(r->buf + sizeof(h), '\0', r->name_bytes) != NULL)
		return -EUCLEAN;
	memcpy(r->name, r->buf + sizeof(h), r->name_bytes);
	r->used = sizeof(h) + r->name_bytes;
	return 0;
}

void tree_close(struct tree_reader *r)
{
	free(r->buf);
	r->buf = NULL;
}

int tree_next(struct tree_reader *r, struct tree_entry *ret)
{
	int64_t taken = take_entry(r->buf + r->used, r->n - r->used, ret);

	if (taken == 0) {
		int64_t got = refill(r);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return r->n == 0 ? 0 : -EUCLEAN;
		taken = take_entry(r->buf, r->n, ret);
		if (taken == 0)
			return -EUCLEAN;
	}
	if (taken < 0)
		return (int)taken;
	r->used += (size_t)taken;
	return 1;
}

/* ---- writing ---- */

static int flush(struct tree_writer *w)
{
	struct iovec v = {w->buf, w->n};
	int rc = w->n > 0 ? quire_blob_write(w->store, w->id, &v, 1, NULL) : 0;

	w->n = 0;
	return rc;
}

int tree_begin(struct tree_writer *w, struct quire_store *store, uint8_t tag, const char *name)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .tag = tag};
	struct tree_header_le h = {.name_bytes = htole32((uint32_t)strlen(name))};

	memset(w, 0, sizeof(*w));
	w->store = store;
	w->buf = malloc(WRITE_BYTES);
	if (w->buf == NULL)
		return -ENOMEM;
	memcpy(h.magic, TREE_MAGIC, sizeof(h.magic));
	memcpy(w->buf, &h, sizeof(h));
	memcpy(w->buf + sizeof(h), name, strlen(name));
	w->n = sizeof(h) + strlen(name);
	return quire_blob_alloc(store, &hints, &w->id);
}

int tree_add(struct tree_writer *w, const struct tree_entry *e)
{
	size_t n = tree_entry_bytes(e);
	int rc = w->n + n > WRITE_BYTES ? flush(w) : 0;

	if (rc < 0)
		return rc;
	put_entry(w->buf + w->n, e);
	w->n += n;
	return 0;
}

int tree_finish(struct tree_writer *w)
{
	return flush(w);
}

void tree_abandon(struct tree_writer *w)
{
	if (w->id != 0)
		(void)quire_blob_abort(w->store, w->id);
	w->id = 0;
	free(w->buf);
	w->buf = NULL;
}
