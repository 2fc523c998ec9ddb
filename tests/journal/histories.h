/* histories.h - lives of a log that are played from a seed: at random, with faults and cuts of the power; or scripted, without faults, the first session
 * cut at every event in turn. What is the same for a journal and for a container; what a session does, and what must hold, each says itself. */
#ifndef TESTS_JOURNAL_HISTORIES_H
#define TESTS_JOURNAL_HISTORIES_H

#include "fixture.h"

/* Of the history that is being played, in the fixture's env; and counts of all of them. */
struct played {
	uint64_t seed;
	bool damage;              /* writes are lost or misdirected, bits flipped */
	bool refused;             /* set by a session: what is there can't be opened, and nothing comes after it */
	struct sim_faults faults; /* of this session */
	unsigned n_steps_max;     /* of a writer in a session; set by begin */
	uint64_t n_sessions, n_cuts;
	uint64_t n_records, n_refused, n_short; /* counted by sessions */
};
extern struct played played;

struct histories {
	const char *name;
	uint64_t n_long, n_long_damaged; /* of random ones, with QUIRE_TEST_LONG */
	unsigned n_sessions;             /* less than that come behind the first two */
	unsigned n_events;               /* of a session, in which it may be cut */
	void (*forget)(void);            /* what was counted */
	void (*begin)(uint64_t seed, bool scripted);
	void (*session)(void *arg);      /* in a coroutine; arg: NULL */
	struct sim_faults (*draw_faults)(void);
	void (*tell)(void);              /* what was counted beside `played` */
};

/* The tests of that kind: every cut, at random, at random with damage. What main returns. */
int histories_main(struct histories *kind);

#endif
