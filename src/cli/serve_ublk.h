/* serve_ublk.h - `quire serve --ublk`: a block device of this machine: a file, memory, or a volume of a store that is held. */
#ifndef CLI_SERVE_UBLK_H
#define CLI_SERVE_UBLK_H

#include "serve_store.h"
#include "serve_swap.h"
#include "volume_table.h"

#include <quire/ublk.h>

/* What was asked for; its strings are borrowed from argv. */
struct serve_ublk {
	uint32_t id;
	struct quire_ublk_options options;
	bool read_only;
	/* Without a store: */
	const char *file;
	uint64_t memory_bytes;
	struct serve_swap swap;
	/* With one: */
	struct serve_store held;
	const char *volume;
	enum quire_class cls;
	bool class_given;
	uint64_t map_bytes;       /* 0: default */
	/* While it serves a store's: */
	struct quire_ublk *ublk;  /* owned */
	pthread_t thread;
	bool runs;
	pthread_mutex_t lock;     /* guards these two */
	pthread_cond_t change;
	bool ready, over;
	int ran;                  /* an exit code, once it is over */
};

/* Is it this that is asked for? */
bool serve_ublk_is_meant(int argc, char **argv);

int serve_ublk(int argc, char **argv); /* a verb */

/* Says which devices there are. */
int serve_ublk_print(const struct quire_ublk *ublk);

/* ---- serve_ublk_volume.c: beside a store that is held; each an exit code, one line was printed ---- */

/* Makes the device, or takes it over, and serves by a thread of its own; it is there when this returns. */
int serve_ublk_start(struct serve_ublk *a, struct volume_table *table);
int serve_ublk_stop(struct serve_ublk *a); /* also if it was not started */

#endif
