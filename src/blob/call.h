/* call.h - one body for both forms of a call: with an op, and without.
 *
 * The bodies of this layer are written as for a coroutine or a plain thread: they wait where they have to. With
 * op == NULL the body runs where the caller is. With an op it runs in a coroutine of the op's home loop, and
 * completes it. A call that was accepted can't be cancelled.
 */
#ifndef BLOB_CALL_H
#define BLOB_CALL_H

#include "../loop/op.h"
#include "face.h"

/* What a call was given. Memory that it points to is the caller's until completion. */
struct call {
	int64_t (*run)(struct call *call);
	struct store *store;
	_Atomic unsigned *n_calls; /* counts it besides the store; NULL allowed */
	uint64_t id;
	uint64_t error_offset; /* set by run, with -EBADMSG */
	union {
		struct {
			const struct iovec *iov;
			uint64_t offset;
			unsigned n;
		} io;
		struct {
			const uint64_t *commit, *remove;
			unsigned n_commit, n_remove;
		} apply;
		struct quire_mdc *mdc;
	};
};
static_assert(sizeof(struct call) <= OP_DRIVER_WORDS * sizeof(uint64_t), "lies in an op");

/* As quire/loop.h says of op. The store counts it: no close meanwhile. */
int64_t call_start(const struct call *call, struct quire_op *op);

#endif
