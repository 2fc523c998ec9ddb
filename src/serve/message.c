/* message.c - what a client wants, done a slice at a time.
 *
 * A slice is one message that is no batch, or so many requests of one that others don't wait long: then it is another
 * client's turn. Each request is copied before it is looked at, each page before it is put, and a page that is got comes to
 * the client as a whole: nothing below reads or writes what the client can change meanwhile.
 *
 * What can't be understood is refused: a request by its result, a message by its. Only who damages the ring itself, by
 * submitting more than there are slots or what is none, is dropped, since it is unknown what he still waits for.
 */
#include "service_internal.h"

#include <errno.h>
#include <stdlib.h>

#define CACHE_LINE 64u
#define EXPECTED_MOST 4096u

struct slice {
	unsigned n;   /* requests */
	unsigned n_q; /* of them: that the tmem is asked */
	size_t n_bytes;
	int64_t results[SLICE_REQUESTS];
	uint32_t at[SLICE_REQUESTS];         /* where the client's page is */
	uint8_t q_of[SLICE_REQUESTS];        /* 1 + number in q; 0: none */
	uint32_t page_bytes[SLICE_REQUESTS];
	struct quire_tmem_request q[SLICE_REQUESTS];
};

static void drop(struct client *c)
{
	c->dead = true;
	atomic_fetch_add_explicit(&c->service->n_dropped, 1, memory_order_relaxed);
}

static bool take(struct client *c)
{
	const struct ring_head *head = ring_head(&c->ring);
	uint32_t n = atomic_load_explicit(&head->tail, memory_order_acquire) - c->taken;
	uint8_t slot;

	if (n == 0)
		return false;
	ring_copy_out(&slot, &head->order[c->taken & (c->ring.n_slots - 1)], sizeof(slot));
	if (n > c->ring.n_slots || slot >= c->ring.n_slots) {
		drop(c);
		return false;
	}
	ring_copy_out(&c->asked, &ring_message(&c->ring, slot)->verb, sizeof(c->asked));
	c->taken++;
	c->busy = true;
	c->slot = slot;
	c->done = 0;
	atomic_fetch_add_explicit(&c->service->n_messages, 1, memory_order_relaxed);
	return true;
}

static void finish(struct client *c, int64_t result)
{
	atomic_store_explicit(&ring_message(&c->ring, c->slot)->result, result, memory_order_relaxed);
	c->busy = false;
	client_complete(c, c->slot);
}

/* ---- batches ---- */

static bool reserve(struct bounce *b, size_t n_bytes)
{
	if (n_bytes < SLICE_BYTES)
		n_bytes = SLICE_BYTES;
	if (b->n_bytes >= n_bytes)
		return true;
	free(b->bytes);
	b->bytes = malloc(n_bytes);
	b->n_bytes = b->bytes != NULL ? n_bytes : 0;
	return b->bytes != NULL;
}

/* Is it well-formed? 0 or a negative errno. */
static int look_at(const struct client *c, const struct ring_request *r, const struct handle *h)
{
	bool of_page = r->verb == QUIRE_TMEM_PUT || r->verb == QUIRE_TMEM_GET;

	if (h == NULL)
		return -EBADF;
	if (r->verb < QUIRE_TMEM_PUT || r->verb > QUIRE_TMEM_FLUSH_OBJECT ||
	    (r->verb == QUIRE_TMEM_GET && r->how > QUIRE_TMEM_GET_TAKE))
		return -EINVAL;
	return of_page && (uint64_t)r->at + h->page_bytes > c->ring.slot_bytes ? -EFAULT : 0;
}

/* A put to a pool that has no room at all: as any that is refused, it leaves nothing. */
static int64_t refuse_put(struct handle *h, const struct quire_tmem_key *key)
{
	(void)quire_tmem_flush(h->pool, key);
	return -ENOSPC;
}

/* Where a page is to be written, which the client's CPU has read last: its lines are asked for before the page is unpacked, and come meanwhile. */
static void expect_write(uint8_t *at, uint32_t n_bytes)
{
	for (uint32_t i = 0; i < n_bytes && i < EXPECTED_MOST; i += CACHE_LINE)
#if defined(__x86_64__)
		__asm__ volatile("prefetchw %0" : : "m"(at[i])); /* the compiler's own would have the line to read */
#else
		__builtin_prefetch(at + i, 1);
#endif
}

/* One request more. False: it doesn't go into this slice. */
static bool slice_add(struct client *c, struct slice *s, struct bounce *bounce, const struct ring_request *r)
{
	struct handle *h = account_find(&c->account, r->pool);
	int rc = look_at(c, r, h);
	unsigned i = s->n;
	bool of_page = rc == 0 && (r->verb == QUIRE_TMEM_PUT || r->verb == QUIRE_TMEM_GET);
	struct quire_tmem_key key = {.object = {r->object[0], r->object[1], r->object[2]}, .index = r->index};

	if (of_page && s->n > 0 && s->n_bytes + h->page_bytes > SLICE_BYTES)
		return false;
	s->q_of[i] = 0;
	s->results[i] = rc;
	if (of_page && !reserve(bounce, s->n_bytes + h->page_bytes)) /* more than there is only if it is the first */
		s->results[i] = -ENOMEM;
	else if (of_page && r->verb == QUIRE_TMEM_PUT && !account_takes(&c->account, r->pool, h)) {
		if (s->n > 0)
			return false;
		if (!account_settle(&c->account, r->pool, h) || !account_takes(&c->account, r->pool, h))
			s->results[i] = refuse_put(h, &key);
	}
	s->n++;
	if (s->results[i] < 0)
		return true;
	struct quire_tmem_request *q = &s->q[s->n_q++];
	*q = (struct quire_tmem_request){
		.pool = h->pool, .key = key, .verb = (enum quire_tmem_verb)r->verb, .how = (enum quire_tmem_get)r->how};
	s->q_of[i] = (uint8_t)s->n_q;
	s->page_bytes[i] = h->page_bytes;
	s->at[i] = r->at;
	if (!of_page)
		return true;
	q->page = bounce->bytes + s->n_bytes;
	s->n_bytes += h->page_bytes;
	if (q->verb == QUIRE_TMEM_PUT)
		ring_copy_out(q->page, ring_data(&c->ring, c->slot) + r->at, h->page_bytes);
	else if (c->asked.n == 1)
		expect_write(ring_data(&c->ring, c->slot) + r->at, h->page_bytes);
	return true;
}

static void slice_ask(struct client *c, struct slice *s)
{
	struct quire_tmem_request *q = s->q;

	if (s->n_q != 1)
		(void)quire_tmem_batch(c->service->tmem, q, s->n_q, NULL);
	else if (q->verb == QUIRE_TMEM_GET)
		q->result = quire_tmem_get(q->pool, &q->key, q->page, q->how);
	else if (q->verb == QUIRE_TMEM_PUT)
		q->result = quire_tmem_put(q->pool, &q->key, q->page);
	else if (q->verb == QUIRE_TMEM_FLUSH)
		q->result = quire_tmem_flush(q->pool, &q->key);
	else
		q->result = quire_tmem_flush_object(q->pool, q->key.object);
}

static void slice_answer(struct client *c, struct slice *s)
{
	struct ring_request *shared = ring_message(&c->ring, c->slot)->requests + c->done;

	for (unsigned i = 0; i < s->n; i++) {
		const struct quire_tmem_request *q = s->q_of[i] != 0 ? &s->q[s->q_of[i] - 1] : NULL;
		if (q != NULL && q->verb == QUIRE_TMEM_GET && q->result == 0)
			memcpy(ring_data(&c->ring, c->slot) + s->at[i], q->page, s->page_bytes[i]);
		shared[i].result = q != NULL ? q->result : s->results[i];
	}
}

static void serve_slice(struct client *c, struct bounce *bounce)
{
	const struct ring_request *shared = ring_message(&c->ring, c->slot)->requests;
	struct slice s;

	if (c->asked.n == 0 || c->asked.n > RING_REQUESTS_MOST) {
		finish(c, -EINVAL);
		return;
	}
	s.n = s.n_q = 0;
	s.n_bytes = 0;
	while (s.n < SLICE_REQUESTS && c->done + s.n < c->asked.n) {
		struct ring_request r;
		ring_copy_out(&r, &shared[c->done + s.n], sizeof(r));
		if (!slice_add(c, &s, bounce, &r))
			break;
	}
	if (s.n_q > 0)
		slice_ask(c, &s);
	slice_answer(c, &s);
	c->done += s.n;
	atomic_fetch_add_explicit(&c->service->n_requests, s.n, memory_order_relaxed);
	if (c->done == c->asked.n)
		finish(c, 0);
}

/* ---- what is no batch ---- */

static int make_pool(struct client *c, uint32_t verb)
{
	struct ring_message *shared = ring_message(&c->ring, c->slot);
	uint32_t number = 0, page_bytes = 0;
	struct ring_pool_options o;
	int rc;

	ring_copy_out(&o, ring_data(&c->ring, c->slot), sizeof(o));
	if (verb == RING_POOL_OPEN)
		rc = account_open(&c->account, (const uint8_t *)&o, &number, &page_bytes);
	else
		rc = account_create(&c->account, &o, &number, &page_bytes);
	c->patient |= rc == 0 && verb == RING_POOL_CREATE && (o.flags & QUIRE_TMEM_SPILL) != 0;
	shared->number = number;
	shared->page_bytes = page_bytes;
	return rc;
}

static void tell_pool(struct client *c, struct handle *h)
{
	struct quire_tmem_pool_stat s;

	quire_tmem_pool_stat(h->pool, &s);
	struct ring_pool_stat told = RING_POOL_STAT_AS(struct ring_pool_stat, s);
	memcpy(ring_data(&c->ring, c->slot), &told, sizeof(told));
}

static void tell_client(struct client *c)
{
	struct ring_client_stat told;

	account_stat(&c->account, &told);
	memcpy(ring_data(&c->ring, c->slot), &told, sizeof(told));
}

static_assert(sizeof(struct quire_tmem_stat) + sizeof(struct quire_tmem_service_stat) <= RING_STAT_WORDS * 8 &&
              sizeof(struct quire_tmem_stat) % 8 == 0 && sizeof(struct quire_tmem_service_stat) % 8 == 0, "all are words");

static int tell_all(struct client *c)
{
	struct quire_tmem_service_stat service;
	struct quire_tmem_stat tmem;
	struct ring_service_stat told = {.n_tmem = sizeof(tmem) / 8, .n_service = sizeof(service) / 8};

	if (!c->owner)
		return -EPERM;
	quire_tmem_stat(c->service->tmem, &tmem);
	quire_tmem_service_stat(c->service, &service);
	memcpy(told.words, &tmem, sizeof(tmem));
	memcpy(told.words + told.n_tmem, &service, sizeof(service));
	memcpy(ring_data(&c->ring, c->slot), &told, sizeof(told));
	return 0;
}

/* By another thread, as it waits for I/O; which tells the client. */
static void keep_pool(struct client *c, const struct handle *h)
{
	bool may = h->shared && h->kind == QUIRE_TMEM_PERSISTENT;
	int rc = may ? keeper_ask(c, h->uuid, c->asked.verb == RING_POOL_FORGET) : -EPERM;

	if (rc < 0)
		finish(c, rc);
	else
		c->busy = false;
}

static void serve_pool(struct client *c)
{
	struct handle *h = account_find(&c->account, c->asked.pool);

	if (h == NULL) {
		finish(c, -EBADF);
	} else if (c->asked.verb == RING_POOL_DESTROY) {
		/* By another thread, as it may take long; which tells the client. */
		account_kill(&c->account, h);
		c->busy = false;
		h->grave = (struct grave){.client = c, .handle = h, .slot = c->slot};
		reaper_bury(c->service, &h->grave);
	} else if (c->asked.verb == RING_POOL_STAT) {
		tell_pool(c, h);
		finish(c, 0);
	} else if (c->asked.verb == RING_POOL_SAVE || c->asked.verb == RING_POOL_FORGET) {
		keep_pool(c, h);
	} else if (h->shared) {
		finish(c, -EPERM);
	} else {
		quire_tmem_pool_freeze(h->pool, c->asked.argument != 0);
		finish(c, 0);
	}
}

bool message_serve(struct client *c, struct bounce *bounce)
{
	if (c->dead || (!c->busy && !take(c)))
		return false;
	switch (c->asked.verb) {
	case RING_BATCH:
		serve_slice(c, bounce);
		break;
	case RING_POOL_CREATE:
	case RING_POOL_OPEN:
		finish(c, make_pool(c, c->asked.verb));
		break;
	case RING_POOL_DESTROY:
	case RING_POOL_STAT:
	case RING_POOL_FREEZE:
	case RING_POOL_SAVE:
	case RING_POOL_FORGET:
		serve_pool(c);
		break;
	case RING_CLIENT_STAT:
		tell_client(c);
		finish(c, 0);
		break;
	case RING_SERVICE_STAT:
		finish(c, tell_all(c));
		break;
	default:
		finish(c, -EINVAL);
	}
	return true;
}
