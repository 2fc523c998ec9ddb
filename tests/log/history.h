/* history.h - a random history of a log, and what it should hold: for history_test.c, and for the simulation of whole stores.
 *
 * Several coroutines append at once, so that a record's number is not known before its call returns, and perhaps never. Each
 * record therefore has an id, in its first bytes, and a note; the model is which id has which number, as far as it
 * is known, and up to where durability was promised.
 *
 * A life is from one opening to a close, a cut of the power, or the process's death. `dead`: nothing that is told from
 * then on counts, since nobody is there to hear it.
 *
 * Store, log and media are those of whoever runs the history: he says what is open, and is asked for the power. */
#ifndef TESTS_LOG_HISTORY_H
#define TESTS_LOG_HISTORY_H

#include "../support/random.h"
#include "../../src/store/store.h"

#include <quire/log.h>

#define HISTORY_IDS 4096u
#define HISTORY_UNDER_WAY 256u
#define HISTORY_OWN_BYTES 8u /* of a record that says who it is */
#define HISTORY_KEYS 12u
#define NO_LSN UINT64_MAX

enum note_state {
	NOTE_UNDER_WAY, /* may be there; its number is not known, unless it was seen */
	NOTE_TAKEN,     /* its number is known */
	NOTE_GONE,      /* was refused, lost, or trimmed: not to be seen again */
};

struct note {
	enum note_state state;
	uint32_t batch;             /* notes of one number follow one another in the log; 0: none */
	uint32_t len_bytes;
	uint8_t key;                /* its number; 0: it has none */
	bool late;                  /* its time is that of when it was asked for, or later */
	uint64_t own;               /* its first bytes */
	uint64_t lsn;               /* NO_LSN: not known */
	uint64_t time_min, time_max;
	struct iovec parts[2];
};

struct history {
	struct store *store;        /* borrowed: open, or NULL */
	struct quire_log *log;      /* borrowed: open, or NULL */
	enum quire_class cls, other_cls; /* the log's; and to which it is destaged, which may be the same */
	uint32_t segment_bytes;
	bool (*power_is_gone)(void *arg); /* of one medium: then of all, from now on */
	void (*die)(void *arg);     /* the process, by chance; the media go on. NULL: it doesn't */
	void *arg;                  /* borrowed: of these two */
	uint64_t seed, random;
	uint32_t max_len;           /* of records */
	bool has_keys;              /* the log was made with keys: half of its records have one */
	bool faulty;                /* this life: I/O may fail */
	bool dead, broken;          /* broken: the log has stopped, and is to be opened again */
	bool settling;              /* no call is under way */
	unsigned n_working, n_steps;

	/* the model */
	struct note notes[HISTORY_IDS];
	uint32_t n_ids, n_batches;
	uint32_t under_way[HISTORY_UNDER_WAY];
	unsigned n_under_way;
	uint32_t by_lsn[HISTORY_IDS + 1]; /* id + 1; 0: not known */
	uint64_t times[HISTORY_IDS + 1];  /* as they were read */
	uint64_t n_known;           /* numbers below may be known */
	uint64_t n_settled;         /* those before the present life; each was read */
	uint64_t n_durable;         /* promised */
	uint64_t first, first_max;  /* trimmed for sure; perhaps */
	uint64_t retain_records, retain_bytes;
	uint64_t last_min, last_max; /* the latest time that the log gave out */
	unsigned n_late;            /* calls under way that look at the clock later than when they were made */
	int other;                  /* another log: 1 it is there, 0 it isn't, -1 who knows */

	uint64_t n_lives, n_cuts, n_deaths, n_errors, n_lost, n_records, n_segments, n_compactions, hash;
};

void log_history_set_clock(struct history *h, uint64_t time_ns); /* CLOCK_REALTIME, from now on: support/clock.h */

static inline uint64_t rnd(struct history *h, uint64_t n) /* below n */
{
	return random_below(&h->random, n);
}

#define want(h, condition) \
	do { \
		if (!(condition)) \
			log_history_fail(h, __FILE__, __LINE__, "%s", #condition); \
	} while (0)
__attribute__((noreturn, format(printf, 4, 5)))
void log_history_fail(const struct history *h, const char *file, int line, const char *format, ...);

/* All of it as at the beginning, but for what runs it, and the totals. */
void log_history_begin(struct history *h, uint64_t seed, uint32_t max_len);

/* True: it was done. False: it was not, and that may be: for want of space, or for what became of the media. */
bool was_done(struct history *h, int64_t rc);
void look_at_power(struct history *h); /* asks for the power */

/* ---- records ---- */

bool has_ids(const struct history *h, unsigned n);
/* The bytes of a key; how many. */
size_t key_of(unsigned key, char ret[16]);
/* A record of this life, noted as under way, of at least min_len bytes; without a key. */
struct note *note_new(struct history *h, uint32_t min_len);
void note_stamp(struct history *h);                   /* the log has looked at the clock */
void note_taken(struct history *h, struct note *n, uint64_t lsn);
void note_refused(struct history *h, struct note *n); /* nothing was taken */
void note_promised(struct history *h, uint64_t lsn);  /* it, and all before it, are durable */
/* A call of one record has returned. */
bool note_returned(struct history *h, struct note *n, int64_t rc, uint64_t lsn, bool durable);

/* Is this a record that may have this number? Then it has. */
void expect(struct history *h, const struct quire_log_record *r);

/* It was once appended, with that number as far as is known. One that is too short to say who it is may be any. */
bool log_history_has(const struct history *h, const struct quire_log_record *r);

/* That is said to be the newest of those with the key below `end`, which were there before it was asked for; NO_LSN: there is none. */
void expect_newest(struct history *h, unsigned key, uint64_t end, uint64_t lsn);

/* ---- the whole ---- */

/* Reads on from a record to the end, and perhaps all back; false: the media failed. What was trimmed meanwhile is left out. */
bool read_all(struct history *h, uint64_t from, bool back, uint64_t *ret_end);
/* After an opening: what is there is what was promised, and of the rest a beginning. for_good: that is the model from now on. */
bool settle(struct history *h, bool for_good);
void seek_times(struct history *h);

/* ---- history_steps.c ---- */

void log_step(struct history *h);

#endif
