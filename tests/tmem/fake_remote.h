/* fake_remote.h - a remote tier in memory, which is as bad as wished, and knows what was done. */
#ifndef TESTS_TMEM_FAKE_REMOTE_H
#define TESTS_TMEM_FAKE_REMOTE_H

#include "../../src/tmem/remote.h"

#include <pthread.h>

#define FAKE_VALUES 8192u

struct fake_value {
	uint64_t version;
	struct tmem_remote_head *value; /* owned; NULL: none */
};

struct fake_remote {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct fake_value values[FAKE_VALUES]; /* by version: what comes later takes the place */
	unsigned n_sends, n_fetches, n_drops, n_wrong;
	bool fail_sends, fail_fetches, hold_sends, closed;
	unsigned bad_one_in;      /* of all calls: it fails, lies, or loses the value; 0: none */
	unsigned late_one_in;     /* of all fetches: it takes late_us; 0: none */
	unsigned late_us;
	/* Of the next fetch: */
	bool damage, cut;
	uint64_t instead;         /* the value of that version under the key asked for; 0: none */
	uint64_t random;
	/* Called within a fetch, before it is done; once. */
	void (*hook)(void *arg);
	void *hook_arg;
};

void fake_remote_init(struct fake_remote *f);
void fake_remote_fini(struct fake_remote *f);
int fake_remote_set(struct fake_remote *f, struct quire_tmem *t, uint64_t queue_bytes);
/* Sends wait, or go on. */
void fake_remote_hold(struct fake_remote *f, bool hold);
/* All that is there is lost. */
void fake_remote_lose(struct fake_remote *f);
/* Until all that was queued was sent and dropped. */
void fake_remote_settle(struct quire_tmem *t);

#endif
