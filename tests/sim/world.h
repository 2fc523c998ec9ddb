/* world.h - a store on simulated media, with whatever is open on it, and one thread that does everything. */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "../store/store_env.h"
#include "../support/random.h"
#include "plan.h"

#include "../../src/blob/face.h"

struct world;

/* What is counted, to be told in the end: what never happens is not simulated. */
enum sum {
	SUM_LIVES, SUM_OPS, SUM_CUTS, SUM_DEATHS, SUM_ERRORS, SUM_REFUSED, SUM_DAMAGED, SUM_UNOPENED, SUM_UNREADABLE, SUM_REPAIRED, SUM_ENDLESS,
	SUM_TRANSACTIONS, SUM_COMPACTIONS, SUM_MAPS, SUM_PAGES, SUM_LOADS, SUM_RECORDS, SUM_LOST, SUM_SEALED, SUM_DESTAGED, SUM_CHECKPOINTS, SUM_CLEANED, SUM_SPILLED, SUM_SAVED, SUM_HANG_UPS,
	N_SUMS
};
extern const char *const sum_names[N_SUMS];

static inline uint64_t sums_crashes(const uint64_t sums[N_SUMS])
{
	return sums[SUM_CUTS] + sums[SUM_DEATHS];
}

/* What a face does in a history. All but begin and end run in a coroutine. */
struct face_ops {
	/* A new history, of media that are as they were formatted. */
	void (*begin)(struct world *w);
	/* Once, on new media with the store open: what the image shall have. NULL: nothing. */
	void (*format)(struct world *w);
	/* The store is open: opens what is the face's, and holds it against what was promised. False: it can't, since the power is gone
	 * or I/O has failed, and the face has no part in this life. */
	bool (*open)(struct world *w);
	/* One operation, which draws from random. False: none any more in this life. */
	bool (*step)(struct world *w, unsigned worker, uint64_t random);
	/* The end of a life; the store is closed next. */
	void (*close)(struct world *w);
	/* After damage: reads all there is. Whatever comes must be as it was written, or an error; how many errors there were. */
	unsigned (*look)(struct world *w);
	void (*end)(struct world *w);
};

extern const struct face_ops blob_face, map_face, mdc_face, log_face, volume_face, tmem_face, nbd_face;

/* The group that the volumes' face has open. */
struct quire_volumes *volume_face_group(struct world *w);

struct world {
	struct env e;                  /* loop, media, store */
	struct quire_cache *cache;     /* owned */
	struct face public_face;       /* of the store, as if it lay in a directory */
	void *faces[N_FACES];          /* owned by each */
	struct sim *images[4][STORE_N_CLASSES]; /* owned */
	struct plan plan;
	const struct plan_life *life;
	unsigned life_no;
	bool faulty;                   /* I/O and memory may fail */
	bool unmended;                 /* I/O has failed since all was opened well: what could not be read may have been about to be made again */
	bool damaged;                  /* what is on the media may not be what was written there */
	bool is_open[N_FACES];
	unsigned n_working;            /* coroutines */
	struct sim *heirs[STORE_N_CLASSES]; /* owned; of a process that died: the media, which go on */
	bool verbose;
	uint64_t sums[N_SUMS];         /* of all histories */
	uint64_t history;              /* hash of all that happened at the media */
};

/* ---- world.c ---- */

void world_init(struct world *w, bool verbose); /* cache, loop, images */
void world_fini(struct world *w);

/* One whole history; aborts the process where a promise is broken. */
void world_run(struct world *w, const struct plan *plan);

const struct face_ops *world_face(unsigned face);

/* Of a medium, as it was formatted. */
uint64_t world_bytes(const struct world *w, unsigned class_no);

/* Of one medium: then of all, from now on. arg: the world. */
bool world_power_is_gone(void *arg);
/* The media go on from here, with what the process had under way; it has no power any more. arg: the world. */
void world_die(void *arg);

/* True: rc was the doing of this life's faults, and nothing follows from it. Else it must not be an error. */
bool world_excuses(struct world *w, int64_t rc);

void world_say(const struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
__attribute__((noreturn, format(printf, 4, 5)))
void world_fail(const struct world *w, const char *file, int line, const char *format, ...);
#define must(w, condition) \
	do { \
		if (!(condition)) \
			world_fail(w, __FILE__, __LINE__, "%s", #condition); \
	} while (0)

/* ---- idle.c ---- */

/* From now on this thread waits in virtual time: idle(arg) is called where nothing would ever happen any more, and says whether
 * it has made something happen. */
void idle_watch(bool (*idle)(void *arg), void *arg);

/* ---- memory.c ---- */

/* The budget refuses one in so many, by chance; 0: none. Counts what was refused, since the process began. */
void memory_refuse(uint32_t one_in, uint64_t seed);
uint64_t memory_n_refused(void);

#endif
