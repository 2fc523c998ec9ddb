/* batch.c - many requests in one call, on several cores.
 *
 * Requests for different pages don't depend on each other; so a run of them, up to the first for a page that the run has already
 * (or for a whole object), is shared out among threads, each doing what the single call does. Runs follow each other. That
 * keeps all that is promised one by one: what is refused or evicted was never promised.
 */
#include "tmem_internal.h"

#include "helpers.h"
#include "../loop/op.h"

#include <errno.h>
#include <string.h>

#define RUN_MOST 256u
#define RUN_LEAST_SHARED 4u    /* fewer are done sooner alone */
#define SEEN_SLOTS (2u * RUN_MOST)
#define MOST_IN_CALLBACK 32u

struct seen {
	uint16_t slots[SEEN_SLOTS]; /* 1 + number of a request; 0: free */
};

static bool same_page(const struct quire_tmem_request *a, const struct quire_tmem_request *b)
{
	return a->pool == b->pool && a->key.index == b->key.index &&
	       memcmp(a->key.object, b->key.object, sizeof(a->key.object)) == 0;
}

/* True if one of the run's, [0, i), is for the same page; else i is seen from now on. */
static bool seen_before(struct seen *seen, const struct quire_tmem_request *run, unsigned i)
{
	const struct quire_tmem_key *k = &run[i].key;
	uint64_t h = (k->object[0] ^ k->object[1] * 3 ^ k->object[2] * 5 ^ k->index * UINT64_C(7)) * 0x9e3779b97f4a7c15u;
	unsigned at = (unsigned)(h >> 32) % SEEN_SLOTS;

	while (seen->slots[at] != 0 && !same_page(&run[seen->slots[at] - 1], &run[i]))
		at = (at + 1) % SEEN_SLOTS;
	bool before = seen->slots[at] != 0;
	seen->slots[at] = (uint16_t)(i + 1);
	return before;
}

/* How many of the requests may be done in any order; at least 1. */
static unsigned run_length(const struct quire_tmem_request *requests, unsigned n)
{
	struct seen seen = {{0}};
	unsigned i = 0;

	if (requests[0].verb == QUIRE_TMEM_FLUSH_OBJECT)
		return 1;
	while (i < n && i < RUN_MOST && requests[i].verb != QUIRE_TMEM_FLUSH_OBJECT && !seen_before(&seen, requests, i))
		i++;
	return i;
}

static void do_request(void *arg, unsigned i)
{
	struct quire_tmem_request *r = (struct quire_tmem_request *)arg + i;

	switch (r->verb) {
	case QUIRE_TMEM_PUT:
		r->result = quire_tmem_put(r->pool, &r->key, r->page);
		break;
	case QUIRE_TMEM_GET:
		r->result = quire_tmem_get(r->pool, &r->key, r->page, r->how);
		break;
	case QUIRE_TMEM_FLUSH:
		r->result = quire_tmem_flush(r->pool, &r->key);
		break;
	case QUIRE_TMEM_FLUSH_OBJECT:
		r->result = quire_tmem_flush_object(r->pool, r->key.object);
		break;
	}
}

static struct helpers *helpers_of(struct quire_tmem *t)
{
	pthread_mutex_lock(&t->lock);
	if (t->helpers == NULL && t->n_threads > 0)
		(void)helpers_create(t->n_threads, &t->helpers);
	struct helpers *h = t->helpers;
	pthread_mutex_unlock(&t->lock);
	return h;
}

static void run_batch(struct quire_tmem *t, struct quire_tmem_request *requests, unsigned n)
{
	/* What may have to suspend is not for a loop's thread to wait for elsewhere. */
	bool waits = t->spill != NULL || t->remote != NULL;
	bool alone = n < RUN_LEAST_SHARED || (waits && quire_loop_self() != NULL);
	struct helpers *h = alone ? NULL : helpers_of(t);

	for (unsigned done = 0, k; done < n; done += k) {
		k = run_length(requests + done, n - done);
		if (h != NULL && k >= RUN_LEAST_SHARED)
			helpers_share(h, do_request, requests + done, k);
		else
			for (unsigned i = 0; i < k; i++)
				do_request(requests + done, i);
	}
}

/* ---- with an op ---- */

struct batch {
	struct quire_tmem *tmem;
	struct quire_tmem_request *requests;
	unsigned n;
	struct helper_task task;
};
static_assert(sizeof(struct batch) <= OP_DRIVER_WORDS * sizeof(uint64_t), "lies in an op");

static void batch_done(struct loop_task *task)
{
	op_complete(op_of_task(task), 0);
}

static void batch_run(struct helper_task *task)
{
	struct batch *b = (struct batch *)((char *)task - offsetof(struct batch, task));
	struct quire_op *op = op_of_driver_data(b);

	run_batch(b->tmem, b->requests, b->n);
	loop_task_init(op_task(op), batch_done);
	loop_post(op_home(op), op_task(op));
}

static void batch_start(struct quire_op *op)
{
	struct batch *b = op_driver_data(op);
	struct helpers *h = helpers_of(b->tmem);

	b->task.run = batch_run;
	if (h != NULL && helpers_post(h, &b->task) == 0)
		return;
	/* Without threads it is done here. */
	run_batch(b->tmem, b->requests, b->n);
	op_complete(op, 0);
}

int quire_tmem_batch(struct quire_tmem *t, struct quire_tmem_request *requests, unsigned n, struct quire_op *op)
{
	static const struct op_driver driver = {.start = batch_start};
	struct quire_loop *service = NULL;

	if (tmem_is_of_parent(t))
		return -ECHILD;
	for (unsigned i = 0; i < n; i++)
		if (requests[i].verb < QUIRE_TMEM_PUT || requests[i].verb > QUIRE_TMEM_FLUSH_OBJECT ||
		    requests[i].pool->tmem != t)
			return -EINVAL;
	if (op == NULL) {
		if (n > MOST_IN_CALLBACK && quire_loop_self() != NULL && !quire_in_coroutine())
			return -EDEADLK;
		run_batch(t, requests, n);
		return 0;
	}
	if (!op_is_idle(op))
		return -EBUSY;
	if (quire_loop_self() == NULL) {
		int rc = service_shared(&service);
		if (rc < 0)
			return rc;
	}
	*(struct batch *)op_driver_data(op) = (struct batch){.tmem = t, .requests = requests, .n = n};
	return op_start(op, &driver, service);
}
