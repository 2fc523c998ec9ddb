/* engine.h - what carries out a loop's I/O: the contract of both engines.
 *
 * An engine belongs to one loop. All its functions are called on the loop's thread, in a
 * turn, except create and destroy (any thread, nothing under way) and register/unregister
 * (also before the first turn and after the last). It tells the loop of completions by
 * io_finish (from reap) or io_finish_later (from anywhere else); never inside start.
 */
#ifndef LOOP_ENGINE_H
#define LOOP_ENGINE_H

#include "loop_internal.h"

struct engine {
	const struct engine_ops *ops;
	struct quire_loop *loop; /* borrowed: it owns the engine */
};

struct engine_ops {
	enum quire_engine kind;
	void (*destroy)(struct engine *engine);

	/* Once, on the owner's thread, before anything else. */
	int (*own)(struct engine *engine);

	/* A foreign event loop is about to poll (true: what completes makes the loop's descriptor
	 * readable), or the loop runs and waits by itself (false). The first true may fail. */
	int (*notify)(struct engine *engine, bool on);

	void (*start)(struct engine *engine, struct io *io);
	void (*cancel)(struct engine *engine, struct io *io);

	/* Finishes what has completed; returns how many. No system call if nothing asks for one. */
	unsigned (*reap)(struct engine *engine);

	/* Hands over what was started in this turn. wait: the same, and waits for a completion, a write
	 * to wake_fd, or the timeout (NEVER_NS: none); may return for no reason. */
	void (*submit)(struct engine *engine);
	void (*wait)(struct engine *engine, uint64_t timeout_ns);

	/* True if reap would find something. */
	bool (*pending)(struct engine *engine);

	int (*buffers_register)(struct engine *engine, void *base, uint64_t len_bytes);
	void (*buffers_unregister)(struct engine *engine, int slot);
};

/* -ENOTSUP: this process may not have it. Both learn of everything they need here. */
int engine_uring_create(struct quire_loop *loop, struct engine **ret_engine);
int engine_threads_create(struct quire_loop *loop, unsigned n_threads, struct engine **ret_engine);

#endif
