/* call.c - see call.h. */
#include "call.h"

#include <errno.h>

static void count_in(const struct call *call)
{
	atomic_fetch_add(&face_of(call->store)->n_calls, 1);
	if (call->n_calls != NULL)
		atomic_fetch_add(call->n_calls, 1);
}

/* The last touch of what the call is on: whoever sees none under way may close it. */
static void count_out(const struct call *call)
{
	struct face *face = face_of(call->store);

	if (call->n_calls != NULL)
		atomic_fetch_sub(call->n_calls, 1);
	atomic_fetch_sub(&face->n_calls, 1);
}

static void run_in_coroutine(void *arg)
{
	struct quire_op *op = arg;
	struct call *call = op_driver_data(op);
	int64_t result = call->run(call);

	if (result == -EBADMSG)
		op->error_offset = call->error_offset;
	/* Before the completion: the store may be closed as soon as somebody has seen it. */
	count_out(call);
	op_complete(op, result);
}

static void start(struct quire_op *op)
{
	struct call *call = op_driver_data(op);
	int rc = quire_co_spawn(op_home(op), run_in_coroutine, op);

	if (rc == 0)
		return;
	count_out(call);
	op_complete(op, rc);
}

static const struct op_driver driver = {.start = start};

int64_t call_start(const struct call *call, struct quire_op *op)
{
	struct face *face = face_of(call->store);

	if (face_is_of_parent(face))
		return -ECHILD;
	if (op == NULL) {
		struct call local = *call;
		if (call_would_block_loop())
			return -EDEADLK;
		count_in(&local);
		int64_t result = local.run(&local);
		count_out(&local);
		return result;
	}
	if (!op_is_idle(op))
		return -EBUSY;
	*(struct call *)op_driver_data(op) = *call;
	count_in(call);
	int rc = op_start(op, &driver, face->cache->service);
	if (rc < 0)
		count_out(call);
	return rc;
}
