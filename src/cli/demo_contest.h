/* demo_contest.h - one contender after the other under the same load. */
#ifndef CLI_DEMO_CONTEST_H
#define CLI_DEMO_CONTEST_H

#include "demo_client.h"

#define DEMO_MAX_CONTENDERS 16

struct demo_result {
	const struct demo_contender *kind; /* borrowed: static */
	bool ran;                          /* else why tells what hindered it */
	char why[DEMO_WHY_BYTES];
	struct demo_measurement m;
	uint64_t peak_bytes; /* see demo_contest.capped */
};

struct demo_contest {
	struct demo_corpus corpus;
	struct demo_load load;
	struct quiet quiet;   /* begun by the caller */
	const char *dir;      /* borrowed */
	bool capped;          /* each ran in a memory cgroup, and peak_bytes is what that counted;
	                       * else peak_bytes is resident memory, and the page cache was free to grow */
	double disk_per_second; /* random page reads of one thread, one at a time, O_DIRECT */
	unsigned n_results;
	struct demo_result results[DEMO_MAX_CONTENDERS];
};

/* A rate at which the misses alone keep one blocking thread busy for a good part of the
 * time, but not all of it. Sets disk_per_second and load.rate. */
void demo_contest_calibrate(struct demo_contest *c);

/* Runs contender `kind`; adds a result. 0, or a negative errno if the contest can't go on. */
int demo_contest_run(struct demo_contest *c, const struct demo_contender *kind,
                     struct progress *progress, unsigned index, unsigned total);

#endif
