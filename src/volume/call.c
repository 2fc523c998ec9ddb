/* call.c - one body for both forms of a call: with an op, and without. With one it runs in a coroutine of the op's home. */
#include "volume_internal.h"

#include <errno.h>

int group_enter(struct quire_volumes *g)
{
	if (group_is_of_parent(g))
		return -ECHILD;
	if (quire_loop_self() != NULL && !quire_in_coroutine())
		return -EDEADLK;
	atomic_fetch_add(&g->n_calls, 1);
	return 0;
}

static void run_in_coroutine(void *arg)
{
	struct quire_op *op = arg;
	struct volume_call *call = op_driver_data(op);
	struct quire_volumes *g = call->group;
	int64_t result = call->run(call);

	/* Before the completion: the group may be closed as soon as somebody has seen it. */
	group_leave(g);
	op_complete(op, result);
}

static void start(struct quire_op *op)
{
	struct volume_call *call = op_driver_data(op);
	int rc = quire_co_spawn(op_home(op), run_in_coroutine, op);

	if (rc == 0)
		return;
	group_leave(call->group);
	op_complete(op, rc);
}

int64_t volume_call_start(const struct volume_call *call, struct quire_op *op)
{
	static const struct op_driver driver = {.start = start};
	struct quire_volumes *g = call->group;

	if (op == NULL) {
		struct volume_call local = *call;
		int rc = group_enter(g);
		if (rc < 0)
			return rc;
		int64_t result = local.run(&local);
		group_leave(g);
		return result;
	}
	if (group_is_of_parent(g))
		return -ECHILD;
	if (!op_is_idle(op))
		return -EBUSY;
	*(struct volume_call *)op_driver_data(op) = *call;
	atomic_fetch_add(&g->n_calls, 1);
	int rc = op_start(op, &driver, store_config_of(g->store)->service);
	if (rc < 0)
		group_leave(g);
	return rc;
}
