/* serve_store.h - `quire serve STORE`: holding a store, for what else is served from it. */
#ifndef CLI_SERVE_STORE_H
#define CLI_SERVE_STORE_H

#include "cli.h"

struct serve_tmem;
struct serve_nbd;
struct serve_ublk;

struct serve_store {
	const char *path;      /* borrowed: of argv; NULL: no store */
	uint64_t budget_bytes;
	unsigned n_callers;
	bool given;            /* one of the two was */
};
#define SERVE_STORE_DEFAULTS {.budget_bytes = 256u << 20, .n_callers = 256}

/* --budget ('b') or --callers ('c'); anything else is CLI_DONE. An exit code. */
int serve_store_take(struct serve_store *held, int option, const char *value);

/* Holds it until a signal ends that. tmem, nbd, ublk: what is served beside; NULL: not. An exit code. */
int serve_store(const struct serve_store *held, const struct serve_tmem *tmem, struct serve_nbd *nbd, struct serve_ublk *ublk);

#endif
