/* nbd_budget.c - how much may be in flight: requests of a connection, its bytes, and the bytes of all.
 *
 * The first NBD_OWN_BYTES of a connection are its own, whatever others do, so that small requests always go on. Beyond that they come
 * out of one budget, and who finds it used up waits in a queue, first come first served. A connection takes no more from its
 * client meanwhile.
 *
 * Whoever holds memory and lets it lie (its client takes no reply, or does not send what it announced) would hold up all who wait.
 * While anybody waits, such connections are looked for, and cut when they have not moved for stall_ms. Without others
 * waiting they may take their time: a guest may be stopped for an hour.
 *
 * Invariants:
 *   1. n_bytes is the sum of charged_bytes of a connection's requests; free_bytes is the whole less the sum of
 *      shared(n_bytes).
 *   2. A connection is in the queue only while its reader is suspended in nbd_budget_take.
 *   3. One request fits when nothing else is in flight: both limits are at least EXPORT_PAYLOAD_BYTES.
 */
#include "nbd_internal.h"

#include "../base/assert.h"

#define WATCH_NS UINT64_C(100000000)

static uint64_t shared(uint64_t n_bytes)
{
	return n_bytes > NBD_OWN_BYTES ? n_bytes - NBD_OWN_BYTES : 0;
}

void nbd_reader_wake(struct nbd_connection *c)
{
	struct coro *reader = c->reader;

	c->reader = NULL;
	if (reader != NULL)
		coro_wake(reader);
}

static bool is_over(const struct nbd_connection *c)
{
	return c->broken || c->server->ending;
}

/* ---- who holds up others ---- */

static bool is_stalled(const struct nbd_connection *c, uint64_t now, uint64_t stall_ns)
{
	uint64_t sending = c->stream.sending_ns, receiving = c->in_payload ? c->stream.receiving_ns : 0;

	return shared(c->n_bytes) > 0 && ((sending != 0 && now - sending > stall_ns) || (receiving != 0 && now - receiving > stall_ns));
}

static void watch(struct loop_timer *timer)
{
	struct nbd_budget *b = (struct nbd_budget *)(void *)((char *)timer - offsetof(struct nbd_budget, stall));
	struct quire_nbd *nbd = (struct quire_nbd *)(void *)((char *)b - offsetof(struct quire_nbd, budget));
	uint64_t now = loop_now_ns();

	b->watching = false;
	if (b->hungry == NULL)
		return;
	for (struct nbd_connection *c = nbd->connections; c != NULL; c = c->next)
		if (is_stalled(c, now, nbd->limits.stall_ms * UINT64_C(1000000)))
			nbd_stream_cut(&c->stream);
	b->watching = loop_timer_arm(nbd->loop, &b->stall, now + WATCH_NS) == 0;
}

/* ---- the queue ---- */

static void join(struct nbd_connection *c)
{
	struct nbd_budget *b = &c->server->budget;

	if (!b->watching)
		b->watching = loop_timer_arm(c->server->loop, &b->stall, loop_now_ns() + WATCH_NS) == 0;
	if (c->hungry)
		return;
	c->hungry = true;
	c->next_hungry = NULL;
	*b->hungry_last = c;
	b->hungry_last = &c->next_hungry;
}

static void leave(struct nbd_connection *c)
{
	struct nbd_budget *b = &c->server->budget;
	struct nbd_connection **at = &b->hungry;

	if (!c->hungry)
		return;
	while (*at != c)
		at = &(*at)->next_hungry;
	*at = c->next_hungry;
	if (*at == NULL)
		b->hungry_last = at;
	c->hungry = false;
	if (b->hungry != NULL)
		nbd_reader_wake(b->hungry); /* it looks whether it is its turn now */
}

/* ---- taking and giving ---- */

static bool fits_itself(const struct nbd_connection *c, uint64_t n_bytes)
{
	const struct quire_nbd_options *limits = &c->server->limits;

	return c->n_requests < limits->requests && (c->n_bytes == 0 || c->n_bytes + n_bytes <= limits->connection_bytes);
}

static bool fits_all(const struct nbd_connection *c, uint64_t n_bytes)
{
	const struct nbd_budget *b = &c->server->budget;
	uint64_t more = shared(c->n_bytes + n_bytes) - shared(c->n_bytes);

	return more == 0 || (more <= b->free_bytes && (b->hungry == NULL || b->hungry == c));
}

bool nbd_budget_take(struct nbd_connection *c, uint64_t n_bytes)
{
	while (!is_over(c) && !(fits_itself(c, n_bytes) && fits_all(c, n_bytes))) {
		if (fits_itself(c, n_bytes))
			join(c);
		else
			leave(c);
		c->reader = coro_self();
		coro_suspend();
	}
	if (!is_over(c)) {
		c->server->budget.free_bytes -= shared(c->n_bytes + n_bytes) - shared(c->n_bytes);
		c->n_bytes += n_bytes;
		c->n_requests++;
	}
	leave(c);
	return !is_over(c);
}

void nbd_budget_give(struct nbd_connection *c, uint64_t n_bytes)
{
	struct nbd_budget *b = &c->server->budget;

	quire_assert(c->n_bytes >= n_bytes);
	b->free_bytes += shared(c->n_bytes) - shared(c->n_bytes - n_bytes);
	c->n_bytes -= n_bytes;
	nbd_reader_wake(c);
	if (b->hungry != NULL)
		nbd_reader_wake(b->hungry);
}

void nbd_budget_init(struct quire_nbd *nbd)
{
	nbd->budget.free_bytes = nbd->limits.bytes;
	nbd->budget.hungry_last = &nbd->budget.hungry;
	nbd->budget.stall.run = watch;
}
