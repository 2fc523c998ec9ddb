/* failing_device.h - a device in front of another one, of whose I/Os the nth fails, and perhaps all behind it: nothing of it is done, and the
 * answer is -EIO. So each I/O of a piece of work can fail in its turn. Whatever else is asked, the one behind it does. Any thread. */
#ifndef TESTS_SUPPORT_FAILING_DEVICE_H
#define TESTS_SUPPORT_FAILING_DEVICE_H

#include "../../src/media/device.h"
#include "countdown.h"

struct failing {
	unsigned verbs;         /* which are counted: 1 << enum device_verb, or'ed */
	struct countdown which;
	_Atomic uint64_t n_ios; /* counted so far */
};

/* All of the media that it stands in front of count together. */
void failing_begin(struct failing *f, unsigned verbs, uint64_t n, bool lasting);
bool failing_end(struct failing *f); /* none fails any more. True: one did */

/* A piece of work that is done again and again, as one of its I/Os after the other fails. */
struct failing_sweep {
	/* As the nth fails, 0: none, and all behind it if lasting. Returns how many were counted. */
	uint64_t (*play)(void *arg, uint64_t n, bool lasting);
	void *arg;
	unsigned n_quick; /* so many failures, about, spread over all I/Os; half of it under a sanitizer; with QUIRE_TEST_LONG each I/O */
	unsigned n_first; /* but each of the first so many */
};
void failing_each(const struct failing_sweep *s); /* first none, then in turn: each second one is lasting */

/* Puts it in front of *device, which closes with it. f: borrowed, until then. */
void failing_put(struct failing *f, struct device **device);

#endif
