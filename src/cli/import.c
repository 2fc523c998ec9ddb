/* import.c - `quire import`: a tree of files becomes blobs, and an index of it.
 *
 * Batches are committed as they fill, each with a part that describes it; the last transaction commits the index and begins
 * to delete what it replaces: blobs that no index needs any more, parts, the last index of that name. An import that is
 * interrupted leaves parts, by which the next one of that name finds what need not be copied again.
 */
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "json.h"

#define DELETE_AT_ONCE 2048u

struct import_args {
	const char *dir, *name;
	enum quire_class cls;
	bool json;
};

/* ---- what its parts share ---- */

void import_end(struct import *im, int error, const char *what)
{
	pthread_mutex_lock(&im->lock);
	bool first = im->error == 0;
	if (first)
		im->error = error;
	pthread_cond_broadcast(&im->can_push);
	pthread_cond_broadcast(&im->can_pop);
	pthread_mutex_unlock(&im->lock);
	if (!first)
		return;
	progress_end(&im->progress);
	session_fail(im->session, what, error == -ECANCELED ? "interrupted; the same import goes on from there" : "%s",
	             strerror(-error));
}

bool import_is_ending(struct import *im)
{
	pthread_mutex_lock(&im->lock);
	bool ending = im->error != 0;
	pthread_mutex_unlock(&im->lock);
	if (!ending && atomic_load(&im->session->canceled)) {
		import_end(im, -ECANCELED, "import");
		return true;
	}
	return ending;
}

/* "ROOT/a/b", or with name NULL the directory's own. Owned by the caller; NULL: no memory. */
static char *import_path(const struct import_dir *dir, const char *name)
{
	char *path, *parent;

	if (name == NULL)
		return dir->parent != NULL ? import_path(dir->parent, dir->name) : strdup(dir->name);
	parent = import_path(dir, NULL);
	if (parent == NULL || asprintf(&path, "%s/%s", parent, name) < 0)
		path = NULL;
	free(parent);
	return path;
}

void import_leave_out(struct import *im, const struct import_dir *dir, const char *name, const char *why)
{
	char *path = import_path(dir, name);

	pthread_mutex_lock(&im->lock);
	if (why == NULL)
		im->counters.n_skipped++;
	else
		im->counters.n_unread++;
	progress_end(&im->progress);
	session_fail(im->session, path != NULL ? path : name, "%s", why != NULL ? why : "skipped: the store itself, or no file, directory or link");
	pthread_mutex_unlock(&im->lock);
	free(path);
}

void import_dir_put(struct import *im, struct import_dir *dir)
{
	while (dir != NULL) {
		pthread_mutex_lock(&im->lock);
		bool last = --dir->n_refs == 0;
		pthread_mutex_unlock(&im->lock);
		if (!last)
			return;
		struct import_dir *parent = dir->parent;
		close(dir->fd);
		free(dir->name);
		free(dir);
		dir = parent;
	}
}

int import_add_entry(struct import *im, const struct tree_entry *e)
{
	pthread_mutex_lock(&im->lock);
	int rc = tree_add(&im->index, e);
	pthread_mutex_unlock(&im->lock);
	return rc;
}

/* ---- the end ---- */

/* What the new index replaces: first what no index names, then what names it. */
static uint64_t *list_replaced(const struct known *k, size_t *ret_n)
{
	uint64_t *ids = malloc((k->n + k->n_indexes + 1) * sizeof(*ids));
	size_t n = 0;

	for (size_t i = 0; ids != NULL && i < k->capacity; i++)
		if (k->files[i].blob != 0 && !k->files[i].used)
			ids[n++] = k->files[i].blob;
	for (size_t i = 0; ids != NULL && i < k->n_indexes; i++)
		ids[n++] = k->indexes[i];
	*ret_n = n;
	return ids;
}

/* Parts of this very import are of no use once the index is there. */
static int find_parts(struct import *im)
{
	struct known own;
	int rc = known_load(&own, im->session->store, im->name);

	if (rc == 0) {
		free(im->known.indexes);
		im->known.indexes = own.indexes;
		im->known.n_indexes = own.n_indexes;
		own.indexes = NULL;
	}
	known_free(&own);
	return rc;
}

static int apply(struct quire_store *store, const uint64_t *commit, const uint64_t *ids, size_t n)
{
	size_t step = DELETE_AT_ONCE;

	for (size_t at = 0; at < n || commit != NULL;) {
		size_t k = n - at < step ? n - at : step;
		int rc = quire_blob_apply(store, commit, commit != NULL, ids + at, (unsigned)k, NULL);
		if (rc == -EMSGSIZE && step > 1) {
			step /= 2;
			continue;
		}
		if (rc < 0)
			return rc;
		commit = NULL;
		at += k;
	}
	return 0;
}

static int finish(struct import *im)
{
	size_t n;
	int rc = import_commit_rest(im);

	if (rc == 0)
		rc = tree_finish(&im->index);
	if (rc == 0)
		rc = find_parts(im);
	if (rc < 0)
		return rc;
	uint64_t *ids = list_replaced(&im->known, &n);
	if (ids == NULL)
		return -ENOMEM;
	rc = apply(im->session->store, &im->index.id, ids, n);
	if (rc == 0)
		im->index.id = 0;
	free(ids);
	return rc;
}

static void report(const struct import *im, bool json)
{
	const struct import_counters *c = &im->counters;
	FILE *out = im->session->out;
	char text[CLI_BYTES_TEXT];
	struct json j;

	if (!json) {
		fprintf(out, "%s: %llu files, %s (%llu there already), %llu directories, %llu links; %llu skipped, %llu not read\n",
		        im->name, (unsigned long long)c->n_files, cli_format_bytes(c->n_bytes, text),
		        (unsigned long long)c->n_reused, (unsigned long long)c->n_directories,
		        (unsigned long long)c->n_links, (unsigned long long)c->n_skipped, (unsigned long long)c->n_unread);
		return;
	}
	json_init(&j, out);
	json_open(&j, NULL, '{');
	json_string(&j, "name", im->name);
	json_uint(&j, "files", c->n_files);
	json_uint(&j, "bytes", c->n_bytes);
	json_uint(&j, "reused", c->n_reused);
	json_uint(&j, "directories", c->n_directories);
	json_uint(&j, "links", c->n_links);
	json_uint(&j, "skipped", c->n_skipped);
	json_uint(&j, "not_read", c->n_unread);
	json_close(&j, '}');
}

/* ---- the whole ---- */

static int import_tree(struct import *im, const char *dir, int fd)
{
	struct session *s = im->session;
	int rc = known_load(&im->known, s->store, im->name);

	if (rc < 0) {
		close(fd);
		return session_fail(s, s->path, "indexes of earlier imports: %s", strerror(-rc));
	}
	if (im->known.n_damaged > 0)
		(void)session_fail(s, s->path, "%u indexes of earlier imports can't be read, the last is object %llu: %s; what they tell of is imported anew",
		                   im->known.n_damaged, (unsigned long long)im->known.damaged, strerror(-im->known.damage));
	rc = tree_begin(&im->index, s->store, TREE_TAG_INDEX, im->name);
	if (rc < 0) {
		close(fd);
		tree_abandon(&im->index);
		return session_fail(s, s->path, "%s", strerror(-rc));
	}
	progress_begin(&im->progress, s->err);
	progress_step(&im->progress, "importing");
	import_walk(im, dir, fd);
	if (!import_is_ending(im)) {
		rc = finish(im);
		if (rc < 0)
			import_end(im, rc, s->path);
	} else {
		(void)import_commit_rest(im); /* what is whole need not be copied again */
	}
	progress_end(&im->progress);
	tree_abandon(&im->index);
	return im->error != 0 ? CLI_FAILED : CLI_DONE;
}

/* Imports of this process that are under way: the store has one process that writes. */
static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static struct running {
	const char *name;
	struct running *next;
} *running;

static bool running_add(struct running *r)
{
	bool added = true;

	pthread_mutex_lock(&running_lock);
	for (const struct running *other = running; other != NULL; other = other->next)
		added = added && strcmp(other->name, r->name) != 0;
	if (added) {
		r->next = running;
		running = r;
	}
	pthread_mutex_unlock(&running_lock);
	return added;
}

static void running_remove(struct running *r)
{
	pthread_mutex_lock(&running_lock);
	for (struct running **at = &running; *at != NULL; at = &(*at)->next) {
		if (*at == r) {
			*at = r->next;
			break;
		}
	}
	pthread_mutex_unlock(&running_lock);
}

/* A directory of the walk keeps its descriptor while files of it are copied. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int run_named(struct session *s, const struct import_args *args, const char *name, int fd)
{
	struct import *im = calloc(1, sizeof(*im));
	struct running me = {.name = name};

	if (im == NULL || !running_add(&me)) {
		close(fd);
		int code = im == NULL ? session_fail(s, name, "%s", strerror(ENOMEM))
		                      : session_fail(s, name, "%s: another import of that name is under way", strerror(EBUSY));
		free(im);
		return code;
	}
	im->session = s;
	im->name = name;
	im->cls = args->cls;
	(void)fstatat(s->cwd, s->path, &im->store_dir, 0);
	pthread_mutex_init(&im->lock, NULL);
	pthread_cond_init(&im->can_push, NULL);
	pthread_cond_init(&im->can_pop, NULL);
	raise_descriptor_limit();
	int code = import_tree(im, args->dir, fd);
	if (code == CLI_DONE) {
		report(im, args->json);
		if (im->counters.n_unread > 0)
			code = CLI_FAILED;
	}
	running_remove(&me);
	known_free(&im->known);
	free(im->unread);
	pthread_cond_destroy(&im->can_push);
	pthread_cond_destroy(&im->can_pop);
	pthread_mutex_destroy(&im->lock);
	free(im);
	return code;
}

static int run_import(struct session *s, const void *arg)
{
	const struct import_args *args = arg;
	char link[64], path[TREE_MAX_NAME + 1];
	int fd = openat(s->cwd, args->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return session_fail(s, args->dir, "%s", strerror(errno));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = args->name != NULL ? 0 : readlink(link, path, sizeof(path));
	if (n < 0 || n >= (ssize_t)sizeof(path)) {
		close(fd);
		return session_fail(s, args->dir, "its path is the import's name, unless --name tells another: %s",
		                    n < 0 ? strerror(errno) : "too long");
	}
	path[n] = '\0';
	return run_named(s, args, args->name != NULL ? args->name : path, fd);
}

static const char help[] =
	"usage: quire import STORE DIR [--name NAME] [--class CLASS] [--json]\n\n"
	"Makes each file below DIR a blob, and an index of names, modes, owners, times and links. If it was\n"
	"interrupted, or the tree has changed, the same command goes on: what is unchanged is not copied again.\n\n"
	"  --name NAME    of the tree in the store (default: the path of DIR)\n"
	"  --class CLASS  that holds the files (default capacity)\n"
	"  --json         the summary as JSON\n";

static int take(struct session *s, void *arg, int option)
{
	struct import_args *args = arg;

	if (option == 'c' && !parse_class(optarg, &args->cls))
		return session_usage(s, optarg, "no class: capacity, staging, pmem");
	if (option == 'n')
		args->name = optarg;
	args->json |= option == 'j';
	return CLI_DONE;
}

static int parse_import(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' }, { "class", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },       { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct import_args *args = arg;
	const struct session_syntax syntax = {.shorts = ":h", .longs = longs, .help = help};
	int rc = session_options(s, argc, argv, &syntax, take, args);

	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 2)
		return session_usage(s, "import", "a store and a directory");
	if (args->name != NULL && (args->name[0] == '\0' || strlen(args->name) > TREE_MAX_NAME))
		return session_usage(s, "import", "a name has 1 to %u bytes", TREE_MAX_NAME);
	args->dir = argv[optind + 1];
	*ret_path = argv[optind];
	*ret_writes = true;
	return CLI_DONE;
}

const struct store_verb import_verb = {"import", sizeof(struct import_args), parse_import, run_import};
