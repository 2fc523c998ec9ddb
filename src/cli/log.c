/* log.c - `quire log create|ls|append|cat|follow|trim|stat|rm`: which of them, and with what. */
#include "log_text.h"
#include "log_verbs.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define MIN_SEGMENT_BYTES (64u << 10)
#define MAX_SEGMENT_BYTES (1u << 30)

static const struct log_verb {
	int (*run)(struct session *s, const struct log_args *args);
	bool writes;
	struct session_word is;
} verbs[LOG_N_WHATS] = {
	[LOG_CREATE] = {log_create, true, {"create", "csbtnkDK",
		"usage: quire log create STORE NAME [--class CLASS] [--segment-size BYTES] [--keys]\n"
		"                        [--retain-bytes BYTES] [--retain-time TIME] [--retain-records N]\n"
		"                        [--destage CLASS [--destage-keep BYTES]]\n\n"
		"Makes an empty log. Its name: up to 63 letters, digits, `.`, `_`, `-`, the first no `.` and no `-`.\n\n"
		"  --class CLASS         capacity (default), staging, pmem\n"
		"  --segment-size BYTES  a power of two from 64K to 1G (default 16M, less in a small store)\n"
		"  --retain-bytes BYTES  keep at least so much; whole sealed segments beyond it are freed\n"
		"  --retain-time TIME    the same by age: 90s, 5m, 2h, 7d, 4w\n"
		"  --retain-records N    the same by number\n"
		"  --keys                records may have keys, by which the newest is found\n"
		"  --destage CLASS       sealed segments move to that class in the background\n"
		"  --destage-keep BYTES  but for so much of the newest\n"}},
	[LOG_LS] = {log_ls, false, {"ls", "lj",
		"usage: quire log ls STORE [--long] [--json]\n\n"
		"Names of the logs.\n\n"
		"  -l, --long  with class, bytes of a segment, segments, bytes on the medium\n"
		"  --json      all that is known without opening them\n"}},
	[LOG_APPEND] = {log_append, true, {"append", "0wejy",
		"usage: quire log append STORE NAME [--null | --whole] [--keyed] [--each] [--json] < LINES\n\n"
		"Appends a record for each line of the input. They are made durable in groups, as they come; at the end it\n"
		"prints how many are durable, and the number of the last.\n\n"
		"  --null   records end with a zero byte, not with a newline\n"
		"  --whole  the input is one record\n"
		"  --keyed  what is before the first tab is the record's key\n"
		"  --each   print the number of each record, as soon as it is durable\n"
		"  --json   what it prints as JSON\n"}},
	[LOG_CAT] = {log_cat, false, {"cat", "0wfStoNrjq",
		"usage: quire log cat STORE NAME [--from LSN | --since TIME | --key KEY] [--to LSN] [--last N] [--reverse]\n"
		"                     [--null | --whole | --json]\n\n"
		"Writes records that are durable, a line each. It ends at one that is damaged, with exit code 1, and says from\n"
		"which number on it can be gone on.\n\n"
		"  --from LSN    from that number on; `oldest` (default)\n"
		"  --since TIME  from the first of that time or later: 2026-03-01T12:00:00Z, @SECONDS, or an age: 5m\n"
		"  --key KEY     the newest with that key alone\n"
		"  --to LSN      up to that number, itself included\n"
		"  --last N      the last ones of these\n"
		"  --reverse     the newest first\n"
		"  --null        end each with a zero byte\n"
		"  --whole       end them with nothing\n"
		"  --json        a line each: lsn, time, key, and text, or base64 of what is no UTF-8\n"}},
	[LOG_FOLLOW] = {log_follow, false, {"follow", "0wfSNvdj",
		"usage: quire log follow STORE NAME [--from LSN | --since TIME] [--last N] [--durable | --visible]\n"
		"                        [--null | --whole | --json]\n\n"
		"Writes records as they come, until it is interrupted. Through `quire serve` at once; where another process\n"
		"writes the store, by looking again a few times a second.\n\n"
		"  --from LSN    from that number on; `oldest`; default: what comes from now on\n"
		"  --since TIME  from the first of that time or later: 2026-03-01T12:00:00Z, @SECONDS, or an age: 5m\n"
		"  --last N      begin with the last ones that are there\n"
		"  --durable     what would be there after a crash (default)\n"
		"  --visible     what is not durable yet, too\n"
		"  --null        end each with a zero byte\n"
		"  --whole       end them with nothing\n"
		"  --json        a line each: lsn, time, and text, or base64 of what is no UTF-8\n"}},
	[LOG_TRIM] = {log_trim, true, {"trim", "Bj",
		"usage: quire log trim STORE NAME --below LSN [--json]\n\n"
		"Frees sealed segments of which all records are below that number, and says how many there were.\n\n"
		"  --below LSN  what has that number, or a later one, stays\n"}},
	[LOG_STAT] = {log_stat, false, {"stat", "j",
		"usage: quire log stat STORE NAME [--json]\n\n"
		"What the log is and holds; as JSON with all its segments.\n"}},
	[LOG_RM] = {log_rm, true, {"rm", "",
		"usage: quire log rm STORE NAME\n\n"
		"Removes a log that nobody uses, with all its records.\n"}},
};

static const char help[] =
	"usage: quire log create STORE NAME [--class CLASS] [--segment-size BYTES] [--retain-…]\n"
	"       quire log ls STORE [--long] [--json]\n"
	"       quire log append STORE NAME [--null | --whole] [--each] < LINES   a record a line, durable in groups\n"
	"       quire log cat STORE NAME [--from LSN | --since TIME] [--to LSN] [--last N] [--reverse] [--json]\n"
	"       quire log follow STORE NAME [--from LSN | --since TIME] [--json]  until it is interrupted\n"
	"       quire log trim STORE NAME --below LSN\n"
	"       quire log stat STORE NAME [--json]\n"
	"       quire log rm STORE NAME\n\n"
	"`quire log VERB --help` tells more.\n";

#define SHORTS ":hl"
static const struct option longs[] = {
	{ "class", required_argument, NULL, 'c' },        { "segment-size", required_argument, NULL, 's' },
	{ "retain-bytes", required_argument, NULL, 'b' }, { "retain-time", required_argument, NULL, 't' },
	{ "retain-records", required_argument, NULL, 'n' }, { "null", no_argument, NULL, '0' },
	{ "whole", no_argument, NULL, 'w' },              { "each", no_argument, NULL, 'e' },
	{ "from", required_argument, NULL, 'f' },         { "since", required_argument, NULL, 'S' },
	{ "to", required_argument, NULL, 'o' },           { "last", required_argument, NULL, 'N' },
	{ "reverse", no_argument, NULL, 'r' },            { "visible", no_argument, NULL, 'v' },
	{ "durable", no_argument, NULL, 'd' },            { "below", required_argument, NULL, 'B' },
	{ "keys", no_argument, NULL, 'k' },               { "keyed", no_argument, NULL, 'y' },
	{ "key", required_argument, NULL, 'q' },          { "destage", required_argument, NULL, 'D' },
	{ "destage-keep", required_argument, NULL, 'K' }, { "long", no_argument, NULL, 'l' },               { "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },               { NULL, 0, NULL, 0 },
};

int log_fail(struct session *s, const char *name, const char *why_format, ...)
{
	char what[QUIRE_LOG_NAME_MAX + 8], why[512];
	va_list args;

	va_start(args, why_format);
	vsnprintf(why, sizeof(why), why_format, args);
	va_end(args);
	snprintf(what, sizeof(what), "log %s", name);
	return session_fail(s, what, "%s", why);
}

/* ---- values ---- */

static bool parse_lsn(const char *word, uint64_t *ret_lsn)
{
	if (strcmp(word, "0") != 0)
		return cli_parse_count(word, UINT64_MAX - 1, ret_lsn);
	*ret_lsn = 0;
	return true;
}

static bool parse_since(const char *word, uint64_t *ret_ns)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return log_parse_time(word, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, ret_ns);
}

static bool parse_segment_bytes(const char *word, uint32_t *ret_bytes)
{
	uint64_t bytes;

	if (!cli_parse_bytes(word, &bytes) || bytes < MIN_SEGMENT_BYTES || bytes > MAX_SEGMENT_BYTES ||
	    (bytes & (bytes - 1)) != 0)
		return false;
	*ret_bytes = (uint32_t)bytes;
	return true;
}

static int parse_create(struct session *s, int option, struct quire_log_options *create)
{
	if (option == 'c' && !parse_class(optarg, &create->cls))
		return session_usage(s, optarg, "no class: capacity, staging, pmem");
	if (option == 's' && !parse_segment_bytes(optarg, &create->segment_bytes))
		return session_usage(s, optarg, "not a power of two from 64K to 1G");
	if (option == 'b' && !cli_parse_bytes(optarg, &create->retain_bytes))
		return session_usage(s, optarg, "not a number of bytes");
	if (option == 't' && !log_parse_duration(optarg, &create->retain_ns))
		return session_usage(s, optarg, "not a span of time: 90s, 5m, 2h, 7d, 4w");
	if (option == 'n' && !cli_parse_count(optarg, UINT64_MAX, &create->retain_records))
		return session_usage(s, optarg, "not a number of records");
	create->keys |= option == 'k';
	create->destage |= option == 'D';
	if (option == 'D' && !parse_class(optarg, &create->destage_to))
		return session_usage(s, optarg, "no class: capacity, staging, pmem");
	if (option == 'K' && !cli_parse_bytes(optarg, &create->destage_keep_bytes))
		return session_usage(s, optarg, "not a number of bytes");
	return CLI_DONE;
}

static int parse_range(struct session *s, int option, struct log_args *args)
{
	if (option == 'f') {
		args->from_oldest = strcmp(optarg, "oldest") == 0;
		args->has_from = !args->from_oldest;
		if (args->has_from && !parse_lsn(optarg, &args->from))
			return session_usage(s, optarg, "not a record's number, nor `oldest`");
	} else if (option == 'S') {
		args->has_since = true;
		if (!parse_since(optarg, &args->since_ns))
			return session_usage(s, optarg, "not a time: 2026-03-01T12:00:00Z, @SECONDS, or an age: 5m");
	} else if (option == 'o') {
		args->has_to = true;
		if (!parse_lsn(optarg, &args->to))
			return session_usage(s, optarg, "not a record's number");
	} else if (option == 'B') {
		args->has_below = true;
		if (!parse_lsn(optarg, &args->below))
			return session_usage(s, optarg, "not a record's number");
	} else if (option == 'N') {
		args->has_last = true;
		if (!cli_parse_count(optarg, UINT64_MAX, &args->last))
			return session_usage(s, optarg, "not a number of records");
	}
	return CLI_DONE;
}

static int take(struct session *s, void *arg, int option)
{
	struct log_args *args = arg;

	if (strchr("csbtnkDK", option) != NULL)
		return parse_create(s, option, &args->create);
	args->json |= option == 'j';
	args->details |= option == 'l';
	args->null |= option == '0';
	args->whole |= option == 'w';
	args->each |= option == 'e';
	args->keyed |= option == 'y';
	args->key = option == 'q' ? optarg : args->key;
	args->reverse |= option == 'r';
	args->visible |= option == 'v';
	return parse_range(s, option, args);
}

/* ---- words ---- */

static int check_words(struct session *s, int n, char **rest, struct log_args *args)
{
	const struct log_verb *verb = &verbs[args->what];

	if (n < 1)
		return session_usage(s, verb->is.word, "which store?");
	if (n != (args->what == LOG_LS ? 1 : 2))
		return session_usage(s, verb->is.word, args->what == LOG_LS ? "of one store" : "a store, and the name of one log");
	args->name = n > 1 ? rest[1] : NULL;
	if (n > 1 && !cli_is_name(args->name))
		return session_usage(s, args->name, "no name of a log: letters, digits, . _ -, up to %d", QUIRE_LOG_NAME_MAX);
	if (args->null + args->whole + (args->what == LOG_APPEND ? false : args->json) > 1)
		return session_usage(s, verb->is.word, "one of %s", args->what == LOG_APPEND ? "--null, --whole" : "--null, --whole, --json");
	if ((args->has_from || args->from_oldest) && args->has_since)
		return session_usage(s, verb->is.word, "--from or --since");
	if (args->what == LOG_TRIM && !args->has_below)
		return session_usage(s, verb->is.word, "--below which record?");
	return CLI_DONE;
}

static int parse_log(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	struct log_args *args = arg;
	const struct session_words words = {
		.name = "log",
		.first = &verbs[0].is,
		.row_bytes = sizeof(verbs[0]),
		.n = LOG_N_WHATS,
		.which = "create, ls, append, cat, follow, trim, stat or rm",
		.shorts = SHORTS,
		.longs = longs,
		.help = help,
	};
	unsigned what;

	args->create.size = sizeof(args->create);
	int rc = session_word_options(s, argc, argv, &words, take, args, &what);
	if (rc != CLI_GO_ON)
		return rc;
	args->what = (enum log_what)what;
	rc = check_words(s, argc - optind - 1, argv + optind + 1, args);
	if (rc != CLI_DONE)
		return rc;
	s->until_interrupted = what == LOG_FOLLOW;
	*ret_path = argv[optind + 1];
	*ret_writes = verbs[what].writes;
	return CLI_DONE;
}

static int run_log(struct session *s, const void *arg)
{
	const struct log_args *args = arg;

	return verbs[args->what].run(s, args);
}

const struct store_verb log_verb = {"log", sizeof(struct log_args), parse_log, run_log};
