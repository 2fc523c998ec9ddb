/* export.c - `quire export`: an imported tree is built again, beside where it shall be, and put there when it is whole.
 *
 * The index is believed as far as it was checked: a name is one component, nothing that exists is followed or
 * overwritten, and each directory is reached from the root by directories that this export has made. Modes and times
 * of directories are set last.
 */
#include "store_verbs.h"
#include "tree.h"

#include "progress.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (4u << 20)
#define MAX_DEPTH 8192u

struct export_args {
	const char *out, *name;
};

/* A directory, or a file of several names: what later entries refer to. */
struct place {
	uint64_t number, parent;
	char *name;              /* owned */
	struct tree_entry entry; /* of a directory: its mode and times; its name is not used */
	bool is_directory;
};

struct export {
	struct session *session; /* borrowed */
	int root;                /* owned */
	struct place **places;   /* owned; a hash table, capacity a power of two */
	size_t n, capacity;
	struct place **in_order; /* owned array; of the same places */
	uint64_t at_number;      /* directory that `at` is open at */
	int at;                  /* owned; -1: none */
	void *buf;               /* owned */
	struct progress progress;
	uint64_t n_files, n_bytes, n_all_bytes;
};

/* ---- places ---- */

static struct place **slot(const struct export *x, uint64_t number)
{
	size_t i = (size_t)(number * 0x9E3779B97F4A7C15u >> 20);

	while (x->places[i & (x->capacity - 1)] != NULL && x->places[i & (x->capacity - 1)]->number != number)
		i++;
	return &x->places[i & (x->capacity - 1)];
}

static struct place *find(const struct export *x, uint64_t number)
{
	return x->capacity == 0 ? NULL : *slot(x, number);
}

static int grow(struct export *x)
{
	size_t capacity = x->capacity == 0 ? 256 : 2 * x->capacity;
	struct place **table = calloc(capacity, sizeof(*table));
	struct place **in_order = realloc(x->in_order, capacity * sizeof(*in_order));

	if (in_order != NULL)
		x->in_order = in_order;
	if (table == NULL || in_order == NULL) {
		free(table);
		return -ENOMEM;
	}
	free(x->places);
	x->places = table;
	x->capacity = capacity;
	for (size_t i = 0; i < x->n; i++)
		*slot(x, in_order[i]->number) = in_order[i];
	return 0;
}

/* -EUCLEAN: the number is another's already. */
static int add_place(struct export *x, const struct tree_entry *e)
{
	if (2 * x->n >= x->capacity && grow(x) < 0)
		return -ENOMEM;
	if (find(x, e->number) != NULL)
		return -EUCLEAN;
	struct place *p = calloc(1, sizeof(*p));
	char *name = strndup(e->name, e->name_bytes);
	if (p == NULL || name == NULL) {
		free(p);
		free(name);
		return -ENOMEM;
	}
	*p = (struct place){.number = e->number, .parent = e->parent, .name = name, .entry = *e};
	p->is_directory = e->type == TREE_DIRECTORY;
	*slot(x, e->number) = p;
	x->in_order[x->n++] = p;
	return 0;
}

/* The directories above and including `number`, lowest first, without the root; owned. -EUCLEAN, -ENOMEM. */
static int chain_of(const struct export *x, uint64_t number, struct place ***ret)
{
	struct place **chain = malloc(MAX_DEPTH * sizeof(struct place *));
	int n = 0;

	if (chain == NULL)
		return -ENOMEM;
	for (; number != 0; number = chain[n++]->parent) {
		struct place *p = find(x, number);
		if (p == NULL || !p->is_directory || n == MAX_DEPTH) {
			free(chain);
			return -EUCLEAN;
		}
		chain[n] = p;
	}
	*ret = chain;
	return n;
}

/* A descriptor of a directory that was made, kept in x->at. */
static int open_place(struct export *x, uint64_t number)
{
	struct place **chain;

	if (x->at >= 0 && x->at_number == number)
		return x->at;
	if (x->at >= 0)
		close(x->at);
	x->at = -1;
	int n = chain_of(x, number, &chain);
	if (n < 0)
		return n;
	int fd = fcntl(x->root, F_DUPFD_CLOEXEC, 3), rc = fd < 0 ? -errno : 0;
	while (rc == 0 && n-- > 0) {
		int next = openat(fd, chain[n]->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = next < 0 ? -errno : 0;
		close(fd);
		fd = next;
	}
	free(chain);
	if (rc < 0)
		return rc;
	x->at = fd;
	x->at_number = number;
	return fd;
}

/* ---- attributes ---- */

static void set_owner(int dir, const char *name, const struct tree_entry *e)
{
	if (geteuid() == 0)
		(void)!fchownat(dir, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
}

static int set_attributes(int fd, const struct tree_entry *e)
{
	const struct timespec times[2] = {e->atime, e->mtime};

	set_owner(fd, "", e);
	return fchmod(fd, e->mode) < 0 || futimens(fd, times) < 0 ? -errno : 0;
}

/* ---- entries ---- */

static int write_file(struct export *x, int fd, const struct tree_entry *e)
{
	for (uint64_t at = 0; at < e->len_bytes;) {
		struct iovec v = {x->buf, PIECE_BYTES};
		int64_t n = atomic_load(&x->session->canceled) ? -ECANCELED
		                                               : quire_blob_read(x->session->store, e->blob, at, &v, 1, NULL);
		if (n <= 0)
			return n < 0 ? (int)n : -EUCLEAN;
		if ((uint64_t)n > e->len_bytes - at)
			return -EUCLEAN;
		for (int64_t done = 0; done < n;) {
			ssize_t k = write(fd, (char *)x->buf + done, (size_t)(n - done));
			if (k < 0 && errno == EINTR)
				continue;
			if (k <= 0)
				return k < 0 ? -errno : -ENOSPC;
			done += k;
		}
		at += (uint64_t)n;
		x->n_bytes += (uint64_t)n;
		progress_update(&x->progress, (double)x->n_bytes / (double)(x->n_all_bytes + 1));
	}
	return 0;
}

static int make_file(struct export *x, int dir, const char *name, const struct tree_entry *e)
{
	struct quire_blob_props props;
	int rc = quire_blob_props(x->session->store, e->blob, &props);

	if (rc < 0 || props.len_bytes != e->len_bytes)
		return rc < 0 ? rc : -EUCLEAN;
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_file(x, fd, e);
	if (rc == 0)
		rc = set_attributes(fd, e);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	x->n_files++;
	return rc;
}

static int make_symlink(int dir, const char *name, const struct tree_entry *e)
{
	const struct timespec times[2] = {e->atime, e->mtime};
	char target[TREE_MAX_NAME + 1];

	memcpy(target, e->target, e->target_bytes);
	target[e->target_bytes] = '\0';
	if (symlinkat(target, dir, name) < 0)
		return -errno;
	set_owner(dir, name, e);
	return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int make_link(struct export *x, int dir, const char *name, const struct tree_entry *e)
{
	const struct place *p = find(x, e->blob);

	if (p == NULL || p->is_directory)
		return -EUCLEAN;
	int mine = fcntl(dir, F_DUPFD_CLOEXEC, 3); /* open_place will close the other */
	int from = mine < 0 ? -errno : open_place(x, p->parent);
	int rc = from < 0 ? from : linkat(from, p->name, mine, name, 0) < 0 ? -errno : 0;
	if (mine >= 0)
		close(mine);
	return rc;
}

static int make_entry(struct export *x, const struct tree_entry *e)
{
	char name[256];

	if (e->number == 0)
		return x->n == 0 ? add_place(x, e) : -EUCLEAN;
	if (x->n == 0)
		return -EUCLEAN; /* no root */
	memcpy(name, e->name, e->name_bytes);
	name[e->name_bytes] = '\0';
	int dir = open_place(x, e->parent);
	if (dir < 0)
		return dir;
	switch (e->type) {
	case TREE_DIRECTORY:
		if (mkdirat(dir, name, 0700) < 0)
			return -errno;
		return add_place(x, e);
	case TREE_FILE: {
		int rc = make_file(x, dir, name, e);
		return rc == 0 && e->shared ? add_place(x, e) : rc;
	}
	case TREE_SYMLINK:
		return make_symlink(dir, name, e);
	case TREE_LINK:
		return make_link(x, dir, name, e);
	}
	return -EUCLEAN;
}

/* Innermost first: what is set is not changed by what comes later. */
static int finish_directories(struct export *x)
{
	for (size_t i = x->n; i-- > 0;) {
		struct place *p = x->in_order[i];
		if (!p->is_directory)
			continue;
		int fd = open_place(x, p->number), rc = fd < 0 ? fd : set_attributes(fd, &p->entry);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- the whole ---- */

static int build(struct export *x, uint64_t id)
{
	struct session *s = x->session;
	struct tree_reader r;
	struct tree_entry e = {0};
	int rc = tree_open(&r, s->store, id), code = CLI_DONE;
	bool at_entry = false;

	while (rc >= 0 && (at_entry = false, rc = tree_next(&r, &e)) > 0) {
		at_entry = true;
		rc = make_entry(x, &e);
		if (rc < 0)
			break;
	}
	progress_end(&x->progress);
	if (rc < 0 && at_entry && e.type == TREE_FILE)
		code = session_fail(s, s->path, "'%.*s', object %llu: %s", (int)e.name_bytes, e.name, (unsigned long long)e.blob,
		                    strerror(-rc));
	else if (rc < 0 && at_entry)
		code = session_fail(s, s->path, "'%.*s': %s", (int)e.name_bytes, e.name, strerror(-rc));
	else if (rc < 0)
		code = session_fail(s, s->path, "index, object %llu: %s", (unsigned long long)id, strerror(-rc));
	tree_close(&r);
	if (code == CLI_DONE && x->n == 0)
		code = session_fail(s, s->path, "index, object %llu: empty", (unsigned long long)id);
	rc = code == CLI_DONE ? finish_directories(x) : 0;
	return rc < 0 ? session_fail(s, s->path, "modes and times: %s", strerror(-rc)) : code;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

/* The newest index of that name; name NULL: the newest. 0: none. *ret_bad: one behind it that can't be read, and *ret_why; it may be the one. */
static uint64_t find_index(struct session *s, const char *name, uint64_t *ret_bad, int *ret_why)
{
	uint64_t ids[64], best = 0;
	int n;

	*ret_bad = 0;
	for (uint64_t after = 0; (n = quire_blob_list_tagged(s->store, TREE_TAG_INDEX, after, ids, 64)) > 0;) {
		for (int i = 0; i < n; i++) {
			struct tree_reader r;
			after = ids[i];
			int rc = name != NULL ? tree_open(&r, s->store, ids[i]) : 0;
			if (rc < 0) {
				*ret_bad = ids[i];
				*ret_why = rc;
			} else if (name == NULL || strcmp(r.name, name) == 0) {
				best = ids[i];
				*ret_bad = 0;
			}
			if (name != NULL)
				tree_close(&r);
		}
	}
	return best;
}

static int build_in(struct session *s, uint64_t id, int root)
{
	struct quire_store_stat st;
	struct export x = {.session = s, .root = root, .at = -1, .buf = aligned_alloc(4096, PIECE_BYTES)};

	if (quire_store_stat(s->store, &st) == 0)
		x.n_all_bytes = st.classes[0].used_bytes + st.classes[1].used_bytes + st.classes[2].used_bytes;
	progress_begin(&x.progress, s->err);
	progress_step(&x.progress, "exporting");
	int code = x.buf != NULL ? build(&x, id) : session_fail(s, "export", "%s", strerror(ENOMEM));
	if (x.at >= 0)
		close(x.at);
	for (size_t i = 0; i < x.n; i++) {
		free(x.in_order[i]->name);
		free(x.in_order[i]);
	}
	free(x.in_order);
	free(x.places);
	free(x.buf);
	return code;
}

/* 0: nothing is there, or an empty directory. */
static int expect_empty(const char *out)
{
	DIR *dir = opendir(out);
	int rc = dir != NULL ? 0 : errno == ENOENT ? 0 : errno == ENOTDIR ? -EEXIST : -errno;

	for (struct dirent *d; rc == 0 && dir != NULL && (d = readdir(dir)) != NULL;)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			rc = -ENOTEMPTY;
	if (dir != NULL)
		closedir(dir);
	return rc;
}

static int export_to(struct session *s, uint64_t id, const char *out)
{
	char *partial;
	int code, rc = expect_empty(out);

	if (rc < 0)
		return session_fail(s, out, "%s", strerror(-rc));
	if (asprintf(&partial, "%s.partial-XXXXXX", out) < 0)
		return session_fail(s, out, "%s", strerror(ENOMEM));
	int root = mkdtemp(partial) == NULL ? -1 : open(partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0) {
		code = session_fail(s, out, "%s", strerror(errno));
		free(partial);
		return code;
	}
	code = build_in(s, id, root);
	close(root);
	/* Over an empty directory too; over anything else it fails. */
	if (code == CLI_DONE && rename(partial, out) < 0)
		code = session_fail(s, out, "%s", strerror(errno));
	if (code != CLI_DONE)
		(void)nftw(partial, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(partial);
	return code;
}

static int run_export(struct session *s, const void *arg)
{
	const struct export_args *args = arg;
	int why;
	uint64_t bad, id = find_index(s, args->name, &bad, &why);

	if (bad != 0)
		return session_fail(s, s->path, "index, object %llu, which may be that of %s: %s", (unsigned long long)bad, args->name, strerror(-why));
	if (id == 0)
		return session_fail(s, s->path, args->name != NULL ? "no tree of the name %s was imported" : "no tree was imported%s",
		                    args->name != NULL ? args->name : "");
	char *out = session_path(s, args->out);
	if (out == NULL)
		return session_fail(s, args->out, "%s", strerror(errno));
	size_t n = strlen(out);
	while (n > 1 && out[n - 1] == '/')
		out[--n] = '\0';
	int code = export_to(s, id, out);
	free(out);
	return code;
}

static const char help[] =
	"usage: quire export STORE OUT [--name NAME]\n\n"
	"Builds an imported tree again, each byte verified, in OUT, which is not there yet or empty. It appears\n"
	"when it is whole.\n\n"
	"  --name NAME  of the tree (default: the one that was imported last)\n";

static int take_name(struct session *s, void *arg, int option)
{
	struct export_args *args = arg;

	(void)s;
	(void)option;
	args->name = optarg;
	return CLI_DONE;
}

static int parse_export(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct export_args *args = arg;
	const struct session_syntax syntax = {.shorts = ":h", .longs = longs, .help = help};
	int rc = session_options(s, argc, argv, &syntax, take_name, args);

	(void)ret_writes;
	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 2)
		return session_usage(s, "export", "a store, and where to");
	args->out = argv[optind + 1];
	*ret_path = argv[optind];
	return CLI_DONE;
}

const struct store_verb export_verb = {"export", sizeof(struct export_args), parse_export, run_export};
