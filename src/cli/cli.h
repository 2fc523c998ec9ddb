/* cli.h - what the verbs of the command share: exit codes, messages, sizes.
 *
 * A verb is `int verb_NAME(int argc, char **argv)` in a file of its own; argv[0] is the
 * verb's name. It returns an exit code. Facts go to stdout; whatever went wrong is one
 * line on stderr, "quire: WHAT: WHY", printed once, by cli_fail or cli_usage.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct option;

enum cli_exit {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_REBUILT = 3, /* of a repair: there was damage, and none is left */
};

int verb_info(int argc, char **argv);
int verb_cat(int argc, char **argv);
int verb_warm(int argc, char **argv);
int verb_demo(int argc, char **argv);
int verb_init(int argc, char **argv);
int verb_rename(int argc, char **argv);
int verb_tmem(int argc, char **argv);
int verb_serve(int argc, char **argv);
int verb_ublk(int argc, char **argv);
int verb_on_store(int argc, char **argv); /* those of store_verbs.h */

/* Prints "quire: WHAT: WHY"; returns CLI_FAILED. */
int cli_fail(const char *what, const char *why_format, ...) __attribute__((format(printf, 2, 3)));

/* Prints a line that the library has made already ("WHAT: WHY"); returns CLI_FAILED. */
int cli_fail_text(const char *text);

/* The same as cli_fail, with a pointer to --help; returns CLI_USAGE. */
int cli_usage(const char *what, const char *why_format, ...) __attribute__((format(printf, 2, 3)));

/* The options of a verb: --help ('h' in `longs`) is print_help's, the others go one by one to take(arg, option), with optarg,
 * which returns CLI_DONE, or the exit code of an option that it refuses. CLI_GO_ON: what is left begins at optind; otherwise the
 * verb is over, and this is its exit code. */
#define CLI_GO_ON (-1)
int cli_options(int argc, char **argv, const struct option *longs, void (*print_help)(void), int (*take)(void *arg, int option),
                void *arg);

/* After getopt_long returned '?' or ':' with opterr = 0: names the option that was not understood. */
int cli_bad_option(int argc, char **argv, int option);

/* "4096", "256M", "1GiB": a positive number of bytes, binary units. */
bool cli_parse_bytes(const char *text, uint64_t *ret_bytes);

/* Whole positive number up to max. */
bool cli_parse_count(const char *text, uint64_t max, uint64_t *ret_count);
/* What logs, volumes and snapshots may be called: the bytes of a name that the word begins with; 0: of none. */
size_t cli_name_bytes(const char *word);
bool cli_is_name(const char *word); /* the whole word */

/* "1.0 GiB" into a buffer of at least CLI_BYTES_TEXT; returns text. */
#define CLI_BYTES_TEXT 24
const char *cli_format_bytes(uint64_t bytes, char *text);

uint64_t cli_now_ns(void); /* CLOCK_MONOTONIC */

/* Flushes stdout: an output that could not be written whole is a failure. */
int cli_finish_output(void);

#endif
