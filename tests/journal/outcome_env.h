/* outcome_env.h - a log that is built, damaged on its medium, and looked at. */
#ifndef TESTS_OUTCOME_ENV_H
#define TESTS_OUTCOME_ENV_H

#include "fixture.h"

#include <errno.h>
#include <string.h>

extern uint64_t first;                    /* the log's first segment */
extern struct journal_recovery recovery;  /* of the last look */
extern uint8_t image[SEGMENT];

/* What is done with a log in one coroutine. */
struct step {
	int rc;
	bool read_only;
	uint32_t ids[16];    /* to append */
	unsigned n;
	bool sync_each;      /* else one sync for all */
	uint32_t fill_from;  /* then from this id on, until the log has got n_segments */
	unsigned n_segments;
};
void run_begin(void *step);
void run_open(void *step);

/* The next log that is begun is another: what the last one has left is none of its segments. */
void forget_log(void);
/* Begins a log of n records, each durable by itself, or all in one group. */
void begin_with(unsigned n, bool sync_each);
int look(void);                                 /* reads it all: 0 or the error */
int open_and_append(unsigned n, uint32_t from); /* one group of n records, ids from `from` on */

uint64_t place_of(unsigned record);             /* on the device, as of the last look */
void damage(uint64_t at);                       /* flips a bit; again: repairs it */
void zero(uint64_t at, uint32_t n_bytes);
void expect_end(enum journal_outcome end, uint64_t n, uint64_t segment, uint32_t offset);

/* The offset of the first record of that type in the segment, which is in `image` then. */
uint32_t find_own(uint64_t segment, uint16_t type);

int set_up(void **state); /* tear_down, end: the fixture's */

#endif
