/* check.c - `quire check`: every structure and every checksum of a store, while it is in use or not. With --repair: check_repair.c. */
#include "check.h"
#include "progress.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

struct check {
	struct session *session;
	struct json json;
	bool as_json;
	struct progress progress;
	uint64_t all_bytes;
};

static const char help[] =
	"usage: quire check STORE [--structure] [--rate BYTES] [--repair [--dry-run]] [--json]\n\n"
	"Looks at every structure of the store and reads every object against its checksums. Each finding\n"
	"is a line; the exit code is 1 if there was one.\n\n"
	"  --structure   not the objects' bytes\n"
	"  --rate BYTES  read no more than that a second\n"
	"  --repair      what there is twice is made again: a superblock of its other copy, pages of\n"
	"                checksums of what they are about, footers and lists of keys of a log's records,\n"
	"                the catalogue of what is in memory. A record that is lost before its segment was\n"
	"                sealed gets a mark in its place. What there is once stays as it is, and is\n"
	"                named: reading it is an error, everything else goes on, but for a log, or the\n"
	"                volumes of a class, of which nobody knows then where they go on: those are not\n"
	"                opened. Nothing is written over but what can't be read, or a superblock that is\n"
	"                another store's. A log that somebody has open in a daemon stays as it is. Exit\n"
	"                code 0: nothing was found; 3: all was made again; 1: something is lost\n"
	"  --dry-run     says what --repair would do, with the same exit codes, and writes nothing\n"
	"  --json        findings and their number as JSON\n\n"
	"It can't notice two things. What was written last to a log or to volumes has nothing behind it\n"
	"that tells damage from a cut of the power. And a class's file that was put back to an older state\n"
	"beside newer others may hold logs and volumes that end where they did then.\n";

static int take(struct session *s, void *arg, int option)
{
	struct check_args *args = arg;

	if (option == 'r' && !cli_parse_bytes(optarg, &args->rate))
		return session_usage(s, optarg, "not a number of bytes");
	args->structure_only |= option == 's';
	args->repair |= option == 'R';
	args->dry_run |= option == 'n';
	args->json |= option == 'j';
	return CLI_DONE;
}

static int parse_check(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	static const struct option longs[] = {
		{ "structure", no_argument, NULL, 's' },
		{ "rate", required_argument, NULL, 'r' },
		{ "repair", no_argument, NULL, 'R' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct check_args *args = arg;
	const struct session_syntax syntax = {.shorts = ":h", .longs = longs, .help = help};
	int rc = session_options(s, argc, argv, &syntax, take, args);

	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 1)
		return session_usage(s, "check", "which store?");
	if (args->dry_run && !args->repair)
		return session_usage(s, "--dry-run", "of what? It goes with --repair");
	*ret_writes = args->repair && !args->dry_run;
	/* Beside a writer, what was deleted and is used again would seem damaged. */
	s->undisturbed = true;
	*ret_path = argv[optind];
	return CLI_DONE;
}

static void found(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset, const char *text)
{
	struct check *c = arg;

	if (!c->as_json) {
		progress_end(&c->progress);
		fprintf(c->session->out, "%s (object %llu, class %s, at %llu): %s\n", text, (unsigned long long)id,
		        class_words[cls], (unsigned long long)offset, strerror(-error));
		return;
	}
	json_open(&c->json, NULL, '{');
	json_uint(&c->json, "object", id);
	json_string(&c->json, "class", class_words[cls]);
	json_uint(&c->json, "offset", offset);
	json_uint(&c->json, "error", (uint64_t)-error);
	json_string(&c->json, "text", text);
	json_close(&c->json, '}');
}

static int progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	struct check *c = arg;

	c->all_bytes = all_bytes;
	progress_update(&c->progress, all_bytes > 0 ? (double)done_bytes / (double)all_bytes : 0);
	return atomic_load(&c->session->canceled);
}

static int run_check(struct session *s, const void *arg)
{
	const struct check_args *args = arg;

	if (args->repair)
		return check_repair(s, args);
	struct check c = {.session = s, .as_json = args->json};
	struct quire_check_options opts = {
		.size = sizeof(opts),
		.structure_only = args->structure_only,
		.max_bytes_per_s = args->rate,
		.found = found,
		.progress = progress,
		.arg = &c,
	};
	char text[CLI_BYTES_TEXT];

	if (args->json) {
		json_init(&c.json, s->out);
		json_open(&c.json, NULL, '{');
		json_open(&c.json, "findings", '[');
	}
	progress_begin(&c.progress, s->err);
	progress_step(&c.progress, "checking");
	int64_t n = quire_store_check(s->store, &opts);
	progress_end(&c.progress);
	if (args->json) {
		json_close(&c.json, ']');
		json_bool(&c.json, "complete", n >= 0);
		json_uint(&c.json, "bytes", c.all_bytes);
		json_close(&c.json, '}');
	}
	if (n < 0)
		return session_fail(s, s->path, "check: %s", session_why(s, (int)n));
	if (!args->json)
		fprintf(s->out, "%s: %s, %lld %s\n", s->path, cli_format_bytes(c.all_bytes, text), (long long)n,
		        n == 1 ? "finding" : "findings");
	return n > 0 ? CLI_FAILED : CLI_DONE;
}

const struct store_verb check_verb = {"check", sizeof(struct check_args), parse_check, run_check};
