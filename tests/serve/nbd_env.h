/* nbd_env.h - a server in a thread of its own, and a client that says each byte itself. */
#ifndef TESTS_SERVE_NBD_ENV_H
#define TESTS_SERVE_NBD_ENV_H

#include "../base/cmocka_env.h"
#include "serve/nbd_internal.h"
#include <pthread.h>

#define DISK_BYTES (1u << 20) /* of the export "disk"; "fake" is as large, and a fake */
#define BIG_BYTES (48u << 20) /* of the export "big" */
#define CLIENTS_MOST 512u

struct env {
	struct quire_nbd *nbd;
	pthread_t thread;
	bool running;
	int fds[CLIENTS_MOST]; /* the clients' ends */
	unsigned n_clients;
	int fd; /* the one that is talked to */
	bool ends; /* the server may hang up before all is said that the test says */
};

/* A server with these limits, and so many clients connected; it runs. With `handshake_ms` of 0 a handshake may take ten minutes. */
void env_start(struct env *env, const struct quire_nbd_options *opts, unsigned n_clients);
/* Stops it; run must have returned 0. */
void env_stop(struct env *env);
void env_talk_to(struct env *env, unsigned client);

/* ---- bytes ---- */

void say(struct env *env, const void *bytes, size_t n_bytes);
void say_both(struct env *env, const void *head, size_t head_bytes, const void *data, size_t n_bytes);
void hear(struct env *env, void *bytes, size_t n_bytes); /* within a minute, or the test fails */
void expect_end(struct env *env);                        /* nothing more comes, and the server hangs up */
void hang_up(struct env *env, unsigned client);

/* ---- the handshake ---- */

void greet(struct env *env, uint32_t flags);
void say_option(struct env *env, uint32_t option, const void *data, size_t n_bytes);
/* One reply of this type to this option, its data in ret (at least 8 KiB); their length. */
uint32_t expect_reply(struct env *env, uint32_t option, uint32_t type, uint8_t *ret);
void expect_ack(struct env *env, uint32_t option);
/* Greets and goes into the export; with structured replies if asked for. */
void go(struct env *env, const char *name, bool structured);
/* The data of INFO and GO. */
size_t make_go(uint8_t *data, const char *name, size_t name_bytes, unsigned n, const uint16_t *infos);
/* The data of the two options about contexts. */
size_t make_queries(uint8_t *data, const char *name, unsigned n, const char *const *queries);

/* ---- requests ---- */

void ask(struct env *env, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t n_bytes);
void ask_write(struct env *env, uint16_t flags, uint64_t cookie, uint64_t offset, const void *bytes, uint32_t n_bytes);
/* A simple reply, or a structured one of an error or of nothing: NBD's error, or 0. */
uint32_t answer(struct env *env, uint64_t cookie);
uint32_t answer_structured(struct env *env, uint64_t cookie);
/* The next chunk's head: its payload's length. */
uint32_t expect_chunk(struct env *env, uint64_t cookie, uint16_t type, bool done);

/* ---- a fake export ---- */

/* What it does from now on: reads and writes end with `result`; reads wait until `n_waiting` of them do. */
struct fake {
	struct export base;
	int result;
	unsigned n_waiting, wanted;
	struct coro *first;
	unsigned flags;
};
extern struct fake *env_fake; /* of the last env_start; changed while nothing is under way */

#endif
