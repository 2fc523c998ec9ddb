/* demo_scan.c - the largest readable files of a directory tree. */
#include "demo_scan.h"
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Contenders hold a descriptor and a mapping for each file. */
#define MAX_FILES 4096u
#define SPARE_DESCRIPTORS 128u

struct candidate {
	char *path; /* owned */
	uint64_t len_bytes;
	dev_t dev;
	ino_t ino;
};

struct candidates {
	struct candidate *v; /* owned */
	size_t n, room;
};

static void candidates_free(struct candidates *all)
{
	for (size_t i = 0; i < all->n; i++)
		free(all->v[i].path);
	free(all->v);
}

static int candidates_add(struct candidates *all, const char *path, const struct stat *st)
{
	if (all->n == all->room) {
		size_t room = all->room == 0 ? 4096 : all->room * 2;
		struct candidate *v = realloc(all->v, room * sizeof(*v));
		if (v == NULL)
			return -ENOMEM;
		all->v = v;
		all->room = room;
	}
	char *copy = strdup(path);
	if (copy == NULL)
		return -ENOMEM;
	all->v[all->n++] = (struct candidate){
		.path = copy, .len_bytes = (uint64_t)st->st_size, .dev = st->st_dev, .ino = st->st_ino
	};
	return 0;
}

static int by_size_then_identity(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->len_bytes != y->len_bytes)
		return x->len_bytes < y->len_bytes ? 1 : -1;
	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return strcmp(x->path, y->path);
}

/* Files of a page or more: smaller ones would never be taken before the limit is reached. */
static int collect(const char *dir, size_t page_bytes, struct candidates *all)
{
	char *const roots[] = { (char *)(uintptr_t)dir, NULL };
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR | FTS_XDEV, NULL);
	int rc = 0;

	if (fts == NULL)
		return -errno;
	for (FTSENT *e = fts_read(fts); e != NULL && rc == 0; e = fts_read(fts))
		if (e->fts_info == FTS_F && S_ISREG(e->fts_statp->st_mode) &&
		    (uint64_t)e->fts_statp->st_size >= page_bytes)
			rc = candidates_add(all, e->fts_path, e->fts_statp);
	fts_close(fts);
	return rc;
}

static size_t max_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= 2 * SPARE_DESCRIPTORS)
		return SPARE_DESCRIPTORS / 2;
	return limit.rlim_cur - SPARE_DESCRIPTORS < MAX_FILES ? limit.rlim_cur - SPARE_DESCRIPTORS :
	                                                        MAX_FILES;
}

/* 0 if taken, else it is to be skipped. */
static int take(struct demo_corpus *c, struct candidate *from, uint64_t max_bytes)
{
	struct stat st;
	int fd = open(from->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != from->len_bytes) {
		close(fd);
		return -ESTALE;
	}
	uint64_t left = max_bytes - c->bytes;
	uint64_t len = from->len_bytes < left ? from->len_bytes : left;

	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	c->files[c->n_files] = (struct demo_file){ .path = from->path, .fd = fd, .len_bytes = len };
	from->path = NULL;
	c->first_page[c->n_files + 1] =
		c->first_page[c->n_files] + (len + c->page_bytes - 1) / c->page_bytes;
	c->n_files++;
	c->bytes += len;
	return 0;
}

static int choose(struct demo_corpus *c, struct candidates *all, uint64_t max_bytes)
{
	size_t limit = max_files();

	qsort(all->v, all->n, sizeof(all->v[0]), by_size_then_identity);
	c->files = calloc(limit, sizeof(*c->files));
	c->first_page = calloc(limit + 1, sizeof(*c->first_page));
	if (c->files == NULL || c->first_page == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < all->n && c->n_files < limit && c->bytes + c->page_bytes <= max_bytes; i++) {
		const struct candidate *before = i > 0 ? &all->v[i - 1] : NULL;
		if (before != NULL && before->dev == all->v[i].dev && before->ino == all->v[i].ino)
			continue;
		if (take(c, &all->v[i], max_bytes) != 0)
			c->n_unreadable++;
	}
	return 0;
}

int demo_scan(const char *dir, uint64_t max_bytes, struct demo_corpus *c)
{
	struct candidates all = { 0 };
	struct stat st;
	int rc = 0;

	if (stat(dir, &st) != 0)
		return cli_fail(dir, "%s", strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return cli_fail(dir, "not a directory");
	rc = collect(dir, c->page_bytes, &all);
	if (rc == 0)
		rc = choose(c, &all, max_bytes);
	candidates_free(&all);
	if (rc != 0)
		return cli_fail(dir, "%s", strerror(-rc));
	if (c->n_files == 0)
		return cli_fail(dir, "no readable file of a page or more");
	return CLI_DONE;
}
