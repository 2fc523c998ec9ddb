/* serve_nbd.h - `quire serve --nbd`: block devices by the NBD protocol: files, memory, or the volumes of a store that is held. */
#ifndef CLI_SERVE_NBD_H
#define CLI_SERVE_NBD_H

#include "serve_store.h"
#include "serve_swap.h"
#include "volume_table.h"

#define SERVE_NBD_ADDRESSES 16u

/* What was asked for; its strings are borrowed from argv. */
struct serve_nbd {
	const char *addresses[SERVE_NBD_ADDRESSES];
	unsigned n_addresses;
	bool inetd, inherited;
	struct quire_nbd_options options;
	bool read_only;
	/* Without a store: */
	const char *file, *name;
	uint64_t memory_bytes;
	struct serve_swap swap;
	/* With one: */
	struct serve_store held;
	bool classes[QUIRE_N_CLASSES]; /* asked for; none: all that the store has */
	uint64_t map_bytes;     /* 0: default */
	char **volumes;         /* none: all */
	unsigned n_volumes;
	/* While it serves a store's: */
	struct quire_nbd *nbd;  /* owned */
	pthread_t thread;
	bool runs;
	int ran;                /* what serving ended with, once the thread has */
};

/* Is it this that is asked for? */
bool serve_nbd_is_meant(int argc, char **argv);

int serve_nbd(int argc, char **argv); /* a verb */

/* Each an exit code; one line was printed. */
int serve_nbd_open_doors(struct quire_nbd *nbd, const struct serve_nbd *a);
int serve_nbd_print_doors(const struct quire_nbd *nbd);

/* ---- serve_volumes.c: beside a store that is held ---- */

/* Makes the exports, opens the doors, and serves by a thread of its own. Of a class that has no group of volumes yet, none is made. */
int serve_volumes_start(struct serve_nbd *a, struct volume_table *table);
int serve_volumes_announce(const struct serve_nbd *a);
int serve_volumes_stop(struct serve_nbd *a); /* also if it was not started */

#endif
