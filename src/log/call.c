/* call.c - one body for both forms of a call: with an op, and without. The bodies wait where they have to; with an op they
 * do so in a coroutine of its home. */
#include "log_internal.h"

#include <errno.h>

/* ---- calls ---- */

int log_enter(struct quire_log *log)
{
	if (log_is_of_parent(log))
		return -ECHILD;
	if (log_would_block_loop())
		return -EDEADLK;
	atomic_fetch_add(&log->n_calls, 1);
	return 0;
}

static void run_in_coroutine(void *arg)
{
	struct quire_op *op = arg;
	struct log_call *call = op_driver_data(op);
	int64_t result = call->run(call);

	/* Before the completion: the log may be closed as soon as somebody has seen it. */
	log_leave(call->log);
	op_complete(op, result);
}

static void start(struct quire_op *op)
{
	struct log_call *call = op_driver_data(op);
	int rc = quire_co_spawn(op_home(op), run_in_coroutine, op);

	if (rc == 0)
		return;
	if (call->refused != NULL)
		call->refused(call);
	log_leave(call->log);
	op_complete(op, rc);
}

int64_t log_call_start(const struct log_call *call, struct quire_op *op)
{
	static const struct op_driver driver = {.start = start};
	struct quire_log *log = call->log;

	if (op == NULL) {
		struct log_call local = *call;
		int rc = log_enter(log);
		if (rc < 0)
			return rc;
		int64_t result = local.run(&local);
		log_leave(log);
		return result;
	}
	if (!op_is_idle(op))
		return -EBUSY;
	*(struct log_call *)op_driver_data(op) = *call;
	atomic_fetch_add(&log->n_calls, 1);
	int rc = op_start(op, &driver, store_config_of(log->store)->service);
	if (rc < 0)
		log_leave(log);
	return rc;
}
