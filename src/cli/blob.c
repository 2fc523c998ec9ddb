/* blob.c - `quire blob put|get|ls|rm|props`: single objects of a store, by their ids. */
#include "json.h"
#include "store_verbs.h"
#include "tree.h"

#include <quire/blob.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (4u << 20)
#define MAX_AT_ONCE 4096 /* of a transaction */
#define MAX_TAG 254u     /* 255 is the store's */

enum blob_what { BLOB_PUT, BLOB_GET, BLOB_LS, BLOB_RM, BLOB_PROPS, BLOB_N_WHATS };

struct blob_args {
	enum blob_what what;
	bool json, details;
	enum quire_class cls;
	uint64_t tag;
	const char *output;
	char **rest; /* borrowed: of argv */
	int n_rest;
};

struct blob_verb {
	bool writes;
	int least, most; /* words behind the store */
	const char *ask; /* for them */
	struct session_word is;
};

static const struct blob_verb verbs[] = {
	[BLOB_PUT] = {true, 0, MAX_AT_ONCE, "", {"put", "ct",
		"usage: quire blob put STORE [FILE|-]… [--class CLASS] [--tag N]\n\n"
		"Makes each file, or standard input, an object, all of them in one transaction, and prints their ids.\n\n"
		"  --class CLASS  capacity (default), staging or pmem\n"
		"  --tag N        what the object is to whoever made it: 1 to 254; `blob ls --long` shows it\n"
		"                 Not 73, 80 and 116, which are of imported trees' indexes and of saved pools\n"}},
	[BLOB_GET] = {false, 1, 1, "which object?", {"get", "o",
		"usage: quire blob get STORE ID [--output FILE]\n\n"
		"Writes an object to standard output; every byte was verified.\n\n"
		"  --output FILE  to that file, which appears whole, or not at all\n"}},
	[BLOB_LS] = {false, 0, 0, "of one store", {"ls", "lj",
		"usage: quire blob ls STORE [--long] [--json]\n\n"
		"Lists the ids of a store's objects.\n\n"
		"  --long  and of each: bytes, class, tag, extents\n"
		"  --json  all that is known of each\n"}},
	[BLOB_RM] = {true, 1, MAX_AT_ONCE, "which objects?", {"rm", "",
		"usage: quire blob rm STORE ID…\n\n"
		"Removes objects, in one transaction: all of them or, where one isn't there, none.\n"}},
	[BLOB_PROPS] = {false, 1, 1, "which object?", {"props", "j",
		"usage: quire blob props STORE ID [--json]\n\n"
		"What an object is: id, bytes, class, tag, extents; as JSON more.\n"}},
};

static const char help[] =
	"usage: quire blob put STORE [FILE|-]… [--class CLASS] [--tag N]   prints ids; all in one transaction\n"
	"       quire blob get STORE ID [--output FILE]                    verified; FILE appears whole, or not at all\n"
	"       quire blob ls STORE [--long] [--json]\n"
	"       quire blob rm STORE ID…                                    in one transaction\n"
	"       quire blob props STORE ID [--json]\n\n"
	"`quire blob VERB --help` tells more.\n";

static const struct option longs[] = {
	{ "class", required_argument, NULL, 'c' },  { "tag", required_argument, NULL, 't' },
	{ "output", required_argument, NULL, 'o' }, { "long", no_argument, NULL, 'l' },
	{ "json", no_argument, NULL, 'j' },         { "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* What this library and command know their own objects by; NULL: free for others. */
static const char *user_of_tag(uint64_t tag)
{
	switch (tag) {
	case TREE_TAG_INDEX:
		return "indexes of imported trees have it";
	case TREE_TAG_PART:
		return "parts of indexes of imported trees have it";
	case QUIRE_TMEM_IMAGE_TAG:
		return "images of saved pools have it";
	default:
		return NULL;
	}
}

static int take(struct session *s, void *arg, int option)
{
	struct blob_args *args = arg;

	if (option == 'c' && !parse_class(optarg, &args->cls))
		return session_usage(s, optarg, "no class: capacity, staging, pmem");
	if (option == 't' && !cli_parse_count(optarg, MAX_TAG, &args->tag))
		return session_usage(s, optarg, "not a tag: 1 to %u", MAX_TAG);
	const char *user = option == 't' ? user_of_tag(args->tag) : NULL;
	if (user != NULL)
		return session_usage(s, optarg, "not a tag for others: %s", user);
	if (option == 'o')
		args->output = optarg;
	args->details |= option == 'l';
	args->json |= option == 'j';
	return CLI_DONE;
}

static int parse_blob(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	struct blob_args *args = arg;
	const struct session_words words = {
		.name = "blob",
		.first = &verbs[0].is,
		.row_bytes = sizeof(verbs[0]),
		.n = BLOB_N_WHATS,
		.which = "put, get, ls, rm or props",
		.shorts = ":ho:l",
		.longs = longs,
		.help = help,
	};
	unsigned what;
	int rc = session_word_options(s, argc, argv, &words, take, args, &what);

	if (rc != CLI_GO_ON)
		return rc;
	const struct blob_verb *verb = &verbs[what];
	if (argc - optind < 2)
		return session_usage(s, verb->is.word, "which store?");
	args->what = (enum blob_what)what;
	args->rest = argv + optind + 2;
	args->n_rest = argc - optind - 2;
	if (args->n_rest > MAX_AT_ONCE)
		return session_usage(s, verb->is.word, "at most %d at once", MAX_AT_ONCE);
	if (args->n_rest < verb->least || args->n_rest > verb->most)
		return session_usage(s, verb->is.word, "%s", verb->ask);
	*ret_path = argv[optind + 1];
	*ret_writes = verb->writes;
	return CLI_DONE;
}

/* ---- put ---- */

static int put_stream(struct session *s, const char *name, int fd, uint64_t id, void *buf)
{
	for (;;) {
		ssize_t n = read(fd, buf, PIECE_BYTES);
		if (n == 0)
			return CLI_DONE;
		if (n < 0 && errno == EINTR && !atomic_load(&s->canceled))
			continue;
		if (n < 0)
			return session_fail(s, name, "%s", session_why(s, -errno));
		struct iovec v = {buf, (size_t)n};
		int rc = atomic_load(&s->canceled) ? -ECANCELED : quire_blob_write(s->store, id, &v, 1, NULL);
		if (rc < 0)
			return session_fail(s, name, "%s", session_why(s, rc));
	}
}

static int put_one(struct session *s, const struct blob_args *args, const char *name, void *buf, uint64_t *ret_id)
{
	bool is_input = strcmp(name, "-") == 0;
	struct quire_blob_hints hints = {.size = sizeof(hints), .cls = args->cls, .tag = (uint8_t)args->tag};
	struct stat st;
	int fd = is_input ? s->in : openat(s->cwd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return session_fail(s, name, "%s", session_why(s, -errno));
	if (S_ISREG(st.st_mode) && !is_input)
		hints.expected_bytes = (uint64_t)st.st_size;
	int rc = quire_blob_alloc(s->store, &hints, ret_id);
	int code = CLI_DONE;
	if (rc == -ENOENT)
		code = session_fail(s, name, "the store has no class %s", class_words[args->cls]);
	else if (rc < 0)
		code = session_fail(s, name, "%s", strerror(-rc));
	else
		code = put_stream(s, name, fd, *ret_id, buf);
	if (rc == 0 && code != CLI_DONE)
		(void)quire_blob_abort(s->store, *ret_id);
	if (!is_input)
		close(fd);
	return code;
}

static int run_put(struct session *s, const struct blob_args *args)
{
	char dash[] = "-", *only[] = {dash};
	char **names = args->n_rest > 0 ? args->rest : only;
	unsigned n = args->n_rest > 0 ? (unsigned)args->n_rest : 1, done = 0;
	uint64_t *ids = calloc(n, sizeof(*ids));
	void *buf = aligned_alloc(4096, PIECE_BYTES);
	int code = CLI_DONE;

	if (ids == NULL || buf == NULL)
		code = session_fail(s, "blob", "%s", strerror(ENOMEM));
	while (code == CLI_DONE && done < n) {
		code = put_one(s, args, names[done], buf, &ids[done]);
		done += code == CLI_DONE;
	}
	if (code == CLI_DONE) {
		int rc = quire_blob_commit(s->store, ids, n, NULL);
		if (rc < 0)
			code = session_fail(s, s->path, "commit: %s", strerror(-rc));
	}
	for (unsigned i = 0; i < done; i++) {
		if (code == CLI_DONE)
			fprintf(s->out, "%llu\n", (unsigned long long)ids[i]);
		else
			(void)quire_blob_abort(s->store, ids[i]);
	}
	free(buf);
	free(ids);
	return code;
}

/* ---- get ---- */

static int write_all(struct session *s, const char *name, int fd, const char *from, size_t len_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = write(fd, from, len_bytes);
		if (n < 0 && (errno != EINTR || atomic_load(&s->canceled)))
			return session_fail(s, name, "%s", session_why(s, -errno));
		from += n > 0 ? n : 0;
		len_bytes -= n > 0 ? (size_t)n : 0;
	}
	return CLI_DONE;
}

/* To a descriptor, or, if that is -1, to the caller's output. */
static int copy_out(struct session *s, uint64_t id, int fd, const char *name)
{
	char *buf = aligned_alloc(4096, PIECE_BYTES);
	uint64_t at = 0;
	int code = CLI_DONE;

	while (code == CLI_DONE) {
		struct iovec v = {buf, PIECE_BYTES};
		int64_t n = buf == NULL                      ? -ENOMEM
		            : atomic_load(&s->canceled) ? -ECANCELED
		                                        : quire_blob_read(s->store, id, at, &v, 1, NULL);
		if (n == 0)
			break;
		if (n < 0)
			code = session_fail(s, name, "object %llu, from %llu: %s", (unsigned long long)id,
			                    (unsigned long long)at, session_why(s, (int)n));
		else if (fd < 0)
			code = write_out(s, buf, (size_t)n) ? CLI_DONE : CLI_FAILED;
		else
			code = write_all(s, name, fd, buf, (size_t)n);
		at += n > 0 ? (uint64_t)n : 0;
	}
	free(buf);
	return code;
}

/* Where there is a device or a pipe, which must not be replaced. */
static int get_to_special(struct session *s, uint64_t id, const char *output)
{
	int fd = openat(s->cwd, output, O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return session_fail(s, output, "%s", session_why(s, -errno));
	int code = copy_out(s, id, fd, output);
	close(fd);
	return code;
}

static int get_to_file(struct session *s, uint64_t id, const char *output)
{
	struct stat st;
	char *partial;
	int code;

	if (fstatat(s->cwd, output, &st, 0) == 0 && !S_ISREG(st.st_mode))
		return get_to_special(s, id, output);
	if (asprintf(&partial, "%s.partial-%ld", output, (long)getpid()) < 0)
		return session_fail(s, output, "%s", strerror(ENOMEM));
	int fd = openat(s->cwd, partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0) {
		code = session_fail(s, partial, "%s", strerror(errno));
	} else {
		code = copy_out(s, id, fd, output);
		/* Its bytes before its name: also a power cut leaves the whole of it, or nothing. */
		if (code == CLI_DONE && fsync(fd) < 0)
			code = session_fail(s, output, "%s", strerror(errno));
		if (close(fd) < 0 && code == CLI_DONE)
			code = session_fail(s, output, "%s", strerror(errno));
		if (code == CLI_DONE && renameat(s->cwd, partial, s->cwd, output) < 0)
			code = session_fail(s, output, "%s", strerror(errno));
		if (code != CLI_DONE)
			(void)unlinkat(s->cwd, partial, 0);
	}
	free(partial);
	return code;
}

/* ---- ls, props ---- */

static void print_props(struct session *s, struct json *j, const struct quire_blob_props *p)
{
	if (j == NULL) {
		fprintf(s->out, "%llu\t%llu\t%s\t%u\t%u\n", (unsigned long long)p->id, (unsigned long long)p->len_bytes,
		        class_words[p->cls], p->tag, p->n_extents);
		return;
	}
	json_open(j, NULL, '{');
	json_uint(j, "id", p->id);
	json_uint(j, "bytes", p->len_bytes);
	json_uint(j, "allocated_bytes", p->allocated_bytes);
	json_string(j, "class", class_words[p->cls]);
	json_uint(j, "page_shift", p->page_shift);
	json_uint(j, "tag", p->tag);
	json_uint(j, "extents", p->n_extents);
	json_uint(j, "users", p->n_users);
	json_bool(j, "committed", p->committed);
	json_close(j, '}');
}

static int run_ls(struct session *s, const struct blob_args *args)
{
	uint64_t ids[256], after = 0;
	struct quire_blob_props props;
	struct json j;
	int n = 1;

	json_init(&j, s->out);
	if (args->json)
		json_open(&j, NULL, '[');
	while (n > 0 && !atomic_load(&s->canceled)) {
		n = quire_blob_list(s->store, after, ids, 256);
		for (int i = 0; i < n; i++) {
			after = ids[i];
			if (!args->json && !args->details)
				fprintf(s->out, "%llu\n", (unsigned long long)ids[i]);
			else if (quire_blob_props(s->store, ids[i], &props) == 0)
				print_props(s, args->json ? &j : NULL, &props);
		}
	}
	if (args->json)
		json_close(&j, ']');
	return n < 0 ? session_fail(s, s->path, "%s", strerror(-n)) : CLI_DONE;
}

static int run_props(struct session *s, uint64_t id, bool json)
{
	struct quire_blob_props props;
	struct json j;
	int rc = quire_blob_props(s->store, id, &props);

	if (rc < 0)
		return session_fail(s, s->path, "object %llu: %s", (unsigned long long)id, strerror(-rc));
	json_init(&j, s->out);
	if (!json)
		fputs("id\tbytes\tclass\ttag\textents\n", s->out);
	print_props(s, json ? &j : NULL, &props);
	return CLI_DONE;
}

/* ---- rm ---- */

static int run_rm(struct session *s, const uint64_t *ids, unsigned n)
{
	int rc = quire_blob_delete(s->store, ids, n, NULL);
	struct quire_blob_props props;

	for (unsigned i = 0; i < n && rc == -ESTALE; i++)
		if (quire_blob_props(s->store, ids[i], &props) < 0)
			return session_fail(s, s->path, "nothing was removed: object %llu: %s", (unsigned long long)ids[i],
			                    strerror(-rc));
	return rc < 0 ? session_fail(s, s->path, "nothing was removed: %s", strerror(-rc)) : CLI_DONE;
}

static int run_blob(struct session *s, const void *arg)
{
	const struct blob_args *args = arg;
	uint64_t *ids;
	int code;

	if (args->what == BLOB_PUT)
		return run_put(s, args);
	if (args->what == BLOB_LS)
		return run_ls(s, args);
	ids = calloc((size_t)args->n_rest, sizeof(*ids));
	if (ids == NULL)
		return session_fail(s, "blob", "%s", strerror(ENOMEM));
	for (int i = 0; i < args->n_rest; i++) {
		if (!parse_id(args->rest[i], &ids[i])) {
			free(ids);
			return session_usage(s, args->rest[i], "not an object's id");
		}
	}
	if (args->what == BLOB_RM)
		code = run_rm(s, ids, (unsigned)args->n_rest);
	else if (args->what == BLOB_PROPS)
		code = run_props(s, ids[0], args->json);
	else
		code = args->output != NULL ? get_to_file(s, ids[0], args->output) : copy_out(s, ids[0], -1, s->path);
	free(ids);
	return code;
}

const struct store_verb blob_verb = {"blob", sizeof(struct blob_args), parse_blob, run_blob};
