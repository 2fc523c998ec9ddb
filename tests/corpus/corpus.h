/* corpus.h - a small store with everything in it, on simulated media; what is in it is known, and so is where it lies. */
#ifndef TESTS_CORPUS_CORPUS_H
#define TESTS_CORPUS_CORPUS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/sim.h"
#include "../../src/store/store.h"
#include "../support/random.h"

#include <quire/tmem_store.h>

#define CORPUS_N_OBJECTS 6u
#define CORPUS_N_SIMS 2u     /* of the classes capacity and pmem */
#define CORPUS_MOST_UNITS 4096u

struct corpus {
	struct quire_loop *loop;
	struct quire_cache *cache;
	struct quire_tmem *tmem;
	struct sim *good[CORPUS_N_SIMS], *sims[CORPUS_N_SIMS]; /* as it was made; as it is now */
	struct store *store;         /* open, or NULL */
	uint64_t seed;               /* another for each open */
	uint64_t ids[CORPUS_N_OBJECTS], container;
	struct quire_error err;      /* of the last open */
};

/* Made once, then copied: corpus_begin lays the sound media in, corpus_end drops them. */
void corpus_init(struct corpus *c);
void corpus_fini(struct corpus *c);
void corpus_begin(struct corpus *c);
void corpus_end(struct corpus *c);
struct sim **corpus_sim(struct corpus *c, unsigned class_no); /* NULL: no such class */

/* Runs fn in a coroutine until the loop has nothing left to do. */
void corpus_run(struct corpus *c, void (*fn)(struct corpus *c, void *arg), void *arg);

/* In a coroutine, these: */
int corpus_open(struct corpus *c, bool read_only);
void corpus_close(struct corpus *c);

/* ---- what can be read: corpus_content.c ---- */

/* Of each unit (a page, a record, a key, a block) of what was written. Any other bytes fail the test. */
enum seen {
	SEEN_ERROR, /* a reason was given */
	SEEN_OLD,   /* it is as it was before the last that was written, or not there yet */
	SEEN_RIGHT,
};
struct view {
	unsigned n, n_of[3];
	unsigned volumes_from, volumes_end; /* which units are volumes' */
	uint8_t seen[CORPUS_MOST_UNITS];
};

void corpus_write(struct corpus *c);                 /* into a store that is open and empty */
void corpus_look(struct corpus *c, struct view *ret); /* everything; what is opened for it is closed again */

/* ---- where it lies: corpus_places.c ---- */

enum place_kind {
	PLACE_SUPERBLOCK, PLACE_CATALOGUE_HEADER, PLACE_CATALOGUE, PLACE_PAGE, PLACE_SUMS, PLACE_CONTAINER, PLACE_LOG_HEADER,
	PLACE_LOG_RECORDS, PLACE_LOG_SUMS, PLACE_LOG_MARKS, PLACE_LOG_FOOTER, PLACE_LOG_KEYS, PLACE_LOG_TAIL, PLACE_PMEM_TAIL,
	PLACE_VOLUME_SEGMENT, PLACE_MAP_PAGE, PLACE_CHECKPOINT, PLACE_POOL, PLACE_N_KINDS
};
extern const char *const place_names[PLACE_N_KINDS];

struct place {
	enum place_kind kind;
	unsigned class_no;
	uint64_t offset, len_bytes;
	bool is_end;     /* of a chain of records: what is lost there may seem never to have been written */
	bool is_volumes; /* who opens these sees more than a check of the store */
};
#define CORPUS_MOST_PLACES 1024u
unsigned corpus_places(struct corpus *c, struct place *ret); /* the store is open */
/* The one that a byte is in; NULL: free space. */
const struct place *corpus_place_at(const struct place *places, unsigned n, unsigned class_no, uint64_t offset);

#endif
