/* plan.h - what a seed means: all of a history's operations, lives and faults, drawn before it begins.
 *
 * Each operation has a number, from which everything that it draws follows, so that an operation can be left out and
 * the others stay what they were: that is what makes a history shrink (shrink.h). */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum face_no { FACE_BLOB, FACE_MAP, FACE_MDC, FACE_LOG, FACE_VOLUME, FACE_TMEM, FACE_NBD, N_FACES };

enum fault_no {
	FAULT_CUT,       /* the power, at a write or flush, or while nothing is under way */
	FAULT_DEATH,     /* of the process: the media go on */
	FAULT_SLOW,      /* I/O takes turns, and passes other I/O */
	FAULT_SHORT,     /* I/O is done in parts */
	FAULT_EIO_READ,
	FAULT_EIO_WRITE,
	FAULT_EIO_FLUSH,
	FAULT_ENOSPC,
	FAULT_NEVER,     /* I/O that never ends: until the power goes */
	FAULT_MEMORY,    /* refused by the budget */
	FAULT_ROT,       /* bits flip on the medium */
	FAULT_LOSE,      /* writes that say done, and are not */
	FAULT_MISDIRECT, /* writes that land elsewhere */
	N_FAULTS
};

/* These leave on the medium what nobody wrote there. */
#define FAULTS_DAMAGE (1u << FAULT_ROT | 1u << FAULT_LOSE | 1u << FAULT_MISDIRECT)

extern const char *const face_names[N_FACES];
extern const char *const fault_names[N_FAULTS];

#define PLAN_LIVES 8u
#define PLAN_OPS 1536u
#define PLAN_WORKERS 2u /* coroutines of one face, at most */

enum life_end { END_CLOSE, END_CUT, END_CUT_IDLE, END_DEATH };

struct plan_life {
	unsigned faults;      /* a bit each */
	enum life_end end;
	unsigned cut_class;   /* whose events are counted */
	uint64_t cut_after;   /* events from the life's beginning, its opening included */
	uint64_t cut_choice;  /* of sim_cut */
	uint32_t rate;        /* of errors, in 2^32 */
	uint64_t random;      /* for what else is drawn in it */
};

struct plan_op {
	uint16_t number; /* from which it draws */
	uint8_t life, face, worker;
};

struct plan {
	uint64_t seed;
	unsigned image;       /* of the media formatted beforehand */
	unsigned faces;       /* a bit each */
	unsigned n_lives, n_ops;
	bool tear_4k, ordered;
	struct plan_life lives[PLAN_LIVES];
	struct plan_op ops[PLAN_OPS];
};

/* What to leave out of it: faces and faults a bit each, operations by their numbers. */
struct plan_less {
	unsigned faces, faults, lives;
	bool ops[PLAN_OPS];
};

void plan_make(struct plan *ret, uint64_t seed, const struct plan_less *less);

#endif
