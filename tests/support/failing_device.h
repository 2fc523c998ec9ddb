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

/* Puts it in front of *device, which closes with it. f: borrowed, until then. */
void failing_put(struct failing *f, struct device **device);

#endif
