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
	bool read_only;            /* the store is: nobody serves it, and the verb only reads */
	FILE *out, *err;           /* borrowed: the caller's; flushed by the session */
	int in;                    /* descriptor; borrowed */
	int cwd;                   /* directory descriptor that relative paths of the caller start from: use openat */
	bool shows_progress;       /* err is a terminal */
	_Atomic bool canceled;     /* interrupted, or the caller is gone: end soon, with nothing half-done */
};

/* The same as cli_fail and cli_usage, to the caller's stderr. */
int session_fail(struct session *s, const char *what, const char *why_format, ...) __attribute__((format(printf, 3, 4)));
int session_usage(struct session *s, const char *what, const char *why_format, ...)
	__attribute__((format(printf, 3, 4)));

struct store_verb {
	const char *name;        /* argv[0]; of `blob put`: "blob" */
	size_t args_bytes;       /* of what parse fills; zeroed before */
	bool (*writes)(const void *args); /* needs the store for writing; NULL: never */
	/* From argv to args, strings borrowed from argv; ret_store: the path of the store among them. CLI_DONE: go on;
	 * else the exit code, with one line said. --help prints to s->out and returns CLI_DONE with *ret_store NULL. */
	int (*parse)(struct session *s, int argc, char **argv, void *args, const char **ret_store);
	int (*run)(struct session *s, const void *args); /* an exit code */
};

/* Parses; opens the store, or finds its holder; runs; closes. For main: what each verb of the table does. */
int session_verb(const struct store_verb *verb, int argc, char **argv);

#endif
