/* loop_env.h - reads on a loop of each engine, one batch at a time. */
#ifndef TESTS_MEDIA_LOOP_ENV_H
#define TESTS_MEDIA_LOOP_ENV_H

#include "media_env.h"

/* Runs a group of tests once with each engine that is to be had here; what main returns. */
#define env_on_each_engine(tests) \
	env_run_engines(tests, sizeof(tests) / sizeof((tests)[0]))
int env_run_engines(const struct CMUnitTest *tests, size_t n_tests);

/* One read of a test: set the first part, look at the second. */
struct env_read {
	struct media_file *file;
	unsigned seed;
	uint64_t offset;
	uint32_t len_bytes;
	bool independent;

	int result;  /* of done() */
	int checked; /* of media_read_check, if result is 0 */
	unsigned n_done;
	struct media_read read;
};

/* Starts all, runs the loop until none is left. after: called when a read has been checked
 * and its bytes compared, before it is finished; may be NULL. */
void env_run(struct env_read *reads, unsigned n, void (*after)(struct env_read *read));

/* The same on a loop that is there. */
void env_run_on(struct quire_loop *loop, struct env_read *reads, unsigned n,
                void (*after)(struct env_read *read));

struct quire_loop *env_loop(void);

#endif
