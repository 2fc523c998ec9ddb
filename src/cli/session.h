/* session.h - a verb of a store, wherever it runs: in this process, which then opens the store, or in the
 * daemon that holds it, on behalf of whoever typed it.
 *
 * The body of a verb never knows which: it is given a store, and the streams and the working directory of its
 * caller. If the store is held by `quire serve`, the words of the command line travel through the control socket
 * (0600, in the store's directory) together with the caller's descriptors, and the exit code comes back. So each verb
 * exists once, and works the same beside a daemon and without.
 *
 * One thread a session. `parse` is never run by two threads at a time (getopt keeps its state in globals), `run` is.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "cli.h"

#include <quire/quire.h>
#include <stdatomic.h>
#include <stdio.h>

struct session {
	struct quire_cache *cache; /* borrowed; NULL while parsing */
	struct quire_store *store; /* borrowed; NULL while parsing */
	const char *path;          /* of the store, as it was typed */
	bool served;               /* by a daemon */
	struct log_table *logs;    /* borrowed: the daemon's open logs; NULL: this process opens its own */
	struct volume_table *volumes; /* borrowed: the daemon's open groups; NULL: this process opens its own */
	FILE *out, *err;           /* borrowed: the caller's */
	int in;                    /* descriptor; borrowed */
	int cwd;                   /* directory descriptor that the caller's relative paths start from: use openat */
	/* Interrupted, or the caller is gone: end soon, with nothing half-done. From then on what blocks is interrupted
	 * again and again: a call that gives EINTR is to be repeated only if this is not set. */
	_Atomic bool canceled;
	_Atomic bool ends; /* it was canceled because the daemon ends */
	bool until_interrupted; /* set by parse: that is how the verb ends well; without it, who types ^C is no more */
	bool undisturbed; /* set by parse: the verb reads only, but nobody may write meanwhile, unless he serves it */
};

/* The same as cli_fail and cli_usage, to the caller's stderr. */
int session_fail(struct session *s, const char *what, const char *why_format, ...) __attribute__((format(printf, 3, 4)));
int session_fail_text(struct session *s, const char *text);
int session_usage(struct session *s, const char *what, const char *why_format, ...)
	__attribute__((format(printf, 3, 4)));
int session_finish_output(struct session *s);

/* The same as cli_options, for a verb's parse. */
struct session_syntax {
	const char *shorts;         /* as of getopt_long */
	const struct option *longs;
	const char *help;           /* what --help writes */
};
int session_options(struct session *s, int argc, char **argv, const struct session_syntax *syntax,
                    int (*take)(struct session *s, void *args, int option), void *args);

/* Of a verb of verbs: one of these, which is a part of a row of its table. */
struct session_word {
	const char *word;
	const char *options; /* letters, of those in `longs` */
	const char *help;
};

struct session_words {
	const char *name;                 /* the verb's own */
	const struct session_word *first; /* of the first row; borrowed */
	size_t row_bytes;
	unsigned n;
	const char *which;                /* all of them, as they are asked for */
	const char *shorts;
	const struct option *longs;
	const char *help;                 /* without a word */
};

/* As session_options, for the row that the first word names which is neither an option nor the value of one. Options stand before the
 * words then, as they do when they come from a client. CLI_GO_ON: ret_row is set. */
int session_word_options(struct session *s, int argc, char **argv, const struct session_words *words,
                         int (*take)(struct session *s, void *args, int option), void *args, unsigned *ret_row);

/* strerror of a negative errno; but of what ended because the verb is canceled: that. */
const char *session_why(const struct session *s, int error);

/* A store that is open read-only here, as it is now: what somebody else has written since is seen. Nothing of the store
 * may be in use. After a failure there is none. */
int session_look_again(struct session *s, struct quire_error *err);

/* A path of the caller as one that leads there from here too; owned by the caller. NULL: no memory. */
char *session_path(const struct session *s, const char *path);

struct store_verb {
	const char *name;        /* argv[0] */
	size_t args_bytes;       /* of what parse fills; zeroed before */
	/* From argv to args, whose strings are borrowed from argv. ret_path: the store's, among them; ret_writes: it is needed
	 * for writing. CLI_DONE: go on; else the exit code, one line was said. --help: CLI_DONE, and no path. */
	int (*parse)(struct session *s, int argc, char **argv, void *args, const char **ret_path, bool *ret_writes);
	int (*run)(struct session *s, const void *args); /* an exit code */
};

/* NULL: there is none of that name. */
const struct store_verb *store_verb_find(const char *name);

/* Parses; finds the holder, or opens the store; runs; closes. */
int session_verb(const struct store_verb *verb, int argc, char **argv);

/* Parses and runs in a session that has its streams; with a store the verb's own path is not looked at, else the
 * store is opened for it. Any thread. */
int session_run(struct session *s, const struct store_verb *verb, int argc, char **argv);

#endif
