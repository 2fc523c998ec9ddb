/* history.h - a random history of volumes, and what they should hold: for history_test.c, and for the simulation of whole stores.
 *
 * Families of volumes, each with a coroutine that does one thing after another to its own volumes and snapshots. The model of a
 * family is a list of states: what it would be after each step, from the last that is promised to be durable on. A call that is
 * cut in pieces has a state for each. After a crash the family must be exactly in one of these states; it is the only one from then on. */
#ifndef TESTS_VOLUME_HISTORY_H
#define TESTS_VOLUME_HISTORY_H

#include "../support/random.h"
#include "../../src/store/store.h"

#include <quire/volume.h>

#include <stdio.h>

#define N_OBJECTS 7u
#define SECTOR 512u
#define BLOCK QUIRE_VOLUME_BLOCK_BYTES
#define BLOCK_SECTORS (BLOCK / SECTOR)
#define MAX_BLOCKS 48u
#define N_SECTORS (MAX_BLOCKS * BLOCK_SECTORS)
#define MAX_STATES 1024u
#define MAX_FAMILIES 3u
#define WRITE_BLOCKS 1u /* each may be the last of its segment, and what follows in the next record: only blocks are whole, but they come in order */

struct object {
	bool there, snapshot;
	bool reserved;
	uint8_t origin;   /* snapshot: index of its volume */
	uint8_t from;     /* volume: index of what it is a clone of; N_OBJECTS: nothing, or that is no more */
	uint8_t past;     /* snapshots that have been what it has: a bit each */
	uint8_t n_blocks;
	uint32_t sectors[N_SECTORS]; /* what was written there; 0: zeros */
};

struct state {
	struct object objects[N_OBJECTS];
};

struct history;

struct family {
	struct history *h;
	unsigned no;
	struct state *states;  /* owned; MAX_STATES */
	unsigned n, n_durable; /* states; the first that may be found after a crash */
	unsigned n_done;       /* the state after all calls that have returned */
	uint64_t n_forgotten;  /* states before these */
	unsigned n_left;       /* steps of this life */
};

struct history {
	struct quire_volumes *volumes; /* borrowed: open, or NULL; whoever runs the history says so, and is asked for the power */
	bool (*power_is_gone)(void *arg);
	void *arg;             /* borrowed */
	uint64_t seed, random;
	struct family families[MAX_FAMILIES];
	unsigned n_families, n_working;
	bool dead;             /* the power is cut, or the log has stopped */
	bool faulty;           /* I/O may fail */
	bool unkept;           /* others were at work while the group was not open: the space of what is reserved may be theirs */
	uint32_t next_tag;
	uint64_t n_steps, n_lives, n_cuts, n_full, n_moved, n_checkpoints;
};

static inline uint64_t rnd(struct history *h, uint64_t n) /* below n */
{
	return random_below(&h->random, n);
}

static inline bool power_is_gone(const struct history *h)
{
	return h->power_is_gone(h->arg);
}

#define want(h, condition) \
	do { \
		if (!(condition)) \
			volume_history_fail(h, __FILE__, __LINE__, #condition); \
	} while (0)
#define want_done(h, call) \
	do { \
		int64_t rc_ = (call); \
		if (rc_ < 0) { \
			(void)fprintf(stderr, "%lld\n", (long long)rc_); \
			volume_history_fail(h, __FILE__, __LINE__, #call); \
		} \
	} while (0)
__attribute__((noreturn)) void volume_history_fail(const struct history *h, const char *file, int line, const char *what);

/* ---- history_model.c ---- */

void family_init(struct family *f, struct history *h, unsigned no);
struct state *family_now(struct family *f);     /* the newest state */
struct state *family_next(struct family *f);    /* one more, as the newest so far */
void family_promise(struct family *f, unsigned n); /* that state, or a later one */
/* A call has returned. True: it was done; else what there is now was looked at, or nothing can be. */
bool family_returned(struct family *f, unsigned n_before, int rc);
/* Reads all of it: which of the states it is; that one is left. */
void family_settle(struct family *f);
/* What it is said to have is what its blocks say. Nothing else goes on. */
void family_count(struct family *f);
/* What an object holds is what it should. */
void family_verify(struct family *f, unsigned object);

/* After damage: reads everything. It must be what was written there once, whenever; how many reads failed, of which
 * scrubbing must tell, too. */
unsigned volume_history_look(struct history *h);

void object_name(const struct family *f, const struct state *s, unsigned object, char ret[160]);
void sector_fill(uint32_t tag, uint8_t *to);

/* ---- history_steps.c ---- */

void volume_step(struct family *f);

#endif
