/* demo_client.h - the open-loop client that measures a lookup server.
 *
 * Requests are due at fixed moments, whatever the server does; a latency is counted from
 * the moment a request was due, so a server that stalls is charged for all who wait behind
 * the stall (no coordinated omission). Those not answered at the end are counted with the
 * time they have waited by then.
 *
 * The measured time is cut into slices, each with a tail of its own: a machine that pauses for a
 * moment spoils the slices it pauses in, and the median of all is what the server is like.
 */
#ifndef CLI_DEMO_CLIENT_H
#define CLI_DEMO_CLIENT_H

#include "demo_server.h"
#include "latency.h"

#include <signal.h>

struct demo_load {
	double rate;            /* requests a second */
	double warmup_seconds;  /* asked, not counted */
	double measure_seconds;
	double cold_share;      /* of requests that go anywhere instead of into the hot set */
	bool yields;            /* the client has no CPU of its own: it makes room when idle */
	const volatile sig_atomic_t *stop; /* borrowed; not zero: end at once */
};

#define DEMO_SLICES_MAX 40

struct demo_measurement {
	struct latency hot, cold; /* of the whole time */
	unsigned n_slices;
	uint64_t slice_p999_ns[DEMO_SLICES_MAX]; /* of the hot requests that were due in a slice; ascending */
	uint64_t n_due;       /* counted requests */
	uint64_t n_answered;  /* of these, within the measured time */
	uint64_t n_lost;      /* never answered */
	uint64_t n_wrong;     /* answered with other bytes than pread's, warm-up included */
	uint64_t n_errors;    /* answered with an error */
	double seconds;       /* measured time */
	double cpu_seconds;   /* the server's, in the measured time */
	double other_seconds; /* CPU time of all other programs, and of a hypervisor's other machines, meanwhile */
};

/* What the p99.9 of hot requests was no longer than in `share` (0 to 1) of the slices; 0 if there are none. */
uint64_t demo_tail_ns(const struct demo_measurement *m, double share);

/* Of ours to theirs. */
enum demo_comparison { DEMO_ALIKE, DEMO_SHORTER, DEMO_LONGER, DEMO_DISTURBED };
enum demo_comparison demo_tail_compare(const struct demo_measurement *ours, const struct demo_measurement *theirs);

/* Called now and then with the share done. */
typedef void (*demo_tick_fn)(void *arg, double done);

/* Runs the load against child. 0, or a negative errno: -ENOMEM; -EINTR if told to stop; -EPIPE
 * if the server went away, and then *ret holds what was measured until then. */
int demo_client_run(const struct demo_corpus *corpus, const struct demo_load *load,
                    struct demo_child *child, demo_tick_fn tick, void *tick_arg,
                    struct demo_measurement *ret);

#endif
