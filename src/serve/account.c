/* account.c - the pools of one client, and what they may hold together.
 *
 * Each pool has a cap, which tmem keeps. What all private ones of a client hold, and what shared ones may hold, is kept below
 * client_bytes by these caps: before a put to a private pool, its cap is made what the others leave. It stays right until
 * a put to another one, as nobody but this client makes them grow. So with one pool, the usual case, nothing is done. A pool that
 * wants more than is left takes it from ephemeral ones, the largest first; an ephemeral one that has more than its even share
 * takes it from itself, as a pool at its cap does.
 *
 * Shared ones count by their caps, since others make them grow; for each client that has them open, so that nobody gets
 * memory by handing pools around.
 *
 * Numbers: a place in the table in the low 16 bits, its generation above: who goes on with the number of a pool that he
 * has destroyed finds nothing.
 *
 * Threads: the client's worker; handles that die are made free by the reaper.
 */
#include "service_internal.h"

#include "../tmem/tmem.h"

#include <errno.h>
#include <stdlib.h>

#define OVERHEAD_BYTES 1024u /* of a page, at most: records, a span, a slot's rounding */
#define FIRST_DOMAIN 0x40000000u /* beyond those that a program counts up from 1 */
#define ROOM_SHARE 32u /* at least one such part of the cap is taken from a pool at a time */

static int state_of(const struct handle *h)
{
	return atomic_load_explicit(&h->state, memory_order_acquire);
}

static bool is_private(const struct handle *h)
{
	return state_of(h) == HANDLE_OPEN && !h->shared;
}

static uint64_t held_bytes(const struct handle *h)
{
	struct quire_tmem_pool_stat stat;

	quire_tmem_pool_stat(h->pool, &stat);
	return stat.held_bytes;
}

/* That all but this one count for. */
static uint64_t used_beside(const struct account *a, const struct handle *except)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < a->n_handles; i++) {
		const struct handle *h = &a->handles[i];
		int state = state_of(h);
		if (h == except || state == HANDLE_FREE)
			continue;
		if (state == HANDLE_DYING)
			sum += h->dying_bytes;
		else
			sum += h->shared ? h->cap_bytes : held_bytes(h);
	}
	return sum;
}

static uint64_t left_beside(const struct account *a, const struct handle *except)
{
	uint64_t used = used_beside(a, except);

	return used < a->limits->client_bytes ? a->limits->client_bytes - used : 0;
}

/* The private ephemeral pool, other than this, that holds the most; NULL: none holds anything. */
static struct handle *largest_beside(const struct account *a, const struct handle *except, uint64_t *ret_bytes)
{
	struct handle *largest = NULL;

	*ret_bytes = 0;
	for (unsigned i = 0; i < a->n_handles; i++) {
		struct handle *h = &a->handles[i];
		if (h == except || !is_private(h) || h->kind != QUIRE_TMEM_EPHEMERAL)
			continue;
		uint64_t held = held_bytes(h);
		if (held > *ret_bytes) {
			*ret_bytes = held;
			largest = h;
		}
	}
	return largest;
}

/* A cap of 0 would be none. */
static bool set_cap(struct handle *h, uint64_t bytes)
{
	if (bytes == 0)
		bytes = 1;
	if (bytes == h->cap_bytes)
		return true;
	if (quire_tmem_pool_set_cap(h->pool, bytes) < 0)
		return false;
	h->cap_bytes = bytes;
	return true;
}

/* Has other private ephemeral pools that hold more than `fair` bytes give some away, until `bytes` are left beside this one. */
static void make_room(struct account *a, const struct handle *for_whom, uint64_t bytes, uint64_t fair)
{
	for (;;) {
		uint64_t left = left_beside(a, for_whom), held;
		if (left >= bytes)
			return;
		struct handle *victim = largest_beside(a, for_whom, &held);
		if (victim == NULL || held <= fair)
			return;
		uint64_t room = bytes - left, least = a->limits->client_bytes / ROOM_SHARE;
		if (room < least)
			room = least;
		uint64_t before = victim->cap_bytes;
		if (!set_cap(victim, held > room ? held - room : 1)) /* frozen */
			return;
		if (held_bytes(victim) >= held) {
			(void)set_cap(victim, before);
			return;
		}
	}
}

static unsigned n_private(const struct account *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->n_handles; i++)
		n += is_private(&a->handles[i]);
	return n;
}

/* Does nothing but this private pool change what is left for it? */
static bool is_alone(const struct account *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->n_handles; i++)
		n += is_private(&a->handles[i]) || state_of(&a->handles[i]) == HANDLE_DYING;
	return n == 1;
}

/* That a page may take, with what belongs to it. */
static uint64_t most_bytes(const struct handle *h)
{
	return h->page_bytes + OVERHEAD_BYTES;
}

bool account_takes(struct account *a, uint32_t number, const struct handle *h)
{
	if (h->shared)
		return true;
	if (a->settled != number || a->headroom_bytes < most_bytes(h))
		return false;
	if (a->headroom_bytes != UINT64_MAX)
		a->headroom_bytes -= most_bytes(h);
	return true;
}

bool account_settle(struct account *a, uint32_t number, struct handle *h)
{
	uint64_t held = held_bytes(h), wants = held + most_bytes(h), left = left_beside(a, h);
	bool alone = is_alone(a);

	if (left < wants && !alone) {
		uint64_t fair = a->limits->client_bytes / n_private(a);
		if (h->kind == QUIRE_TMEM_PERSISTENT)
			make_room(a, h, wants, 0);
		else if (wants <= fair)
			make_room(a, h, wants, fair);
		left = left_beside(a, h);
	}
	if (h->asked_bytes != 0 && h->asked_bytes < left)
		left = h->asked_bytes;
	a->settled = number;
	/* Alone it has what nobody else changes; else it is looked at again when this is used up. */
	a->headroom_bytes = alone ? UINT64_MAX : left > wants ? left - held : most_bytes(h);
	if (set_cap(h, left))
		return true;
	a->settled = NO_HANDLE;
	return false;
}

/* ---- handles ---- */

struct handle *account_find(const struct account *a, uint32_t number)
{
	uint32_t at = number & 0xffff;

	if (at >= a->n_handles || a->handles[at].generation != number >> 16 || state_of(&a->handles[at]) != HANDLE_OPEN)
		return NULL;
	return &a->handles[at];
}

/* A free one; NULL: as many as may be, or no memory. */
static struct handle *free_handle(struct account *a)
{
	for (unsigned i = 0; i < a->n_handles; i++)
		if (state_of(&a->handles[i]) == HANDLE_FREE)
			return &a->handles[i];
	if (a->n_handles > 0)
		return NULL;
	/* All at once: the reaper has pointers to them. */
	a->handles = calloc(a->limits->n_handles, sizeof(a->handles[0]));
	if (a->handles == NULL)
		return NULL;
	a->n_handles = a->limits->n_handles;
	return a->handles;
}

static uint32_t enter(struct account *a, struct handle *h)
{
	struct quire_tmem_pool_stat stat;

	quire_tmem_pool_stat(h->pool, &stat);
	h->page_bytes = stat.page_bytes;
	h->kind = stat.kind;
	h->cap_bytes = stat.cap_bytes;
	h->generation++;
	a->settled = NO_HANDLE;
	atomic_store_explicit(&h->state, HANDLE_OPEN, memory_order_release);
	return (uint32_t)h->generation << 16 | (uint32_t)(h - a->handles);
}

static unsigned n_made(const struct account *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->n_handles; i++)
		n += state_of(&a->handles[i]) != HANDLE_FREE && a->handles[i].made;
	return n;
}

/* For the cap of a shared pool. */
static bool has_room(struct account *a, uint64_t cap_bytes)
{
	a->settled = NO_HANDLE;
	make_room(a, NULL, cap_bytes, 0);
	return left_beside(a, NULL) >= cap_bytes;
}

static unsigned n_spilling(const struct account *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->n_handles; i++)
		n += state_of(&a->handles[i]) != HANDLE_FREE && a->handles[i].spills;
	return n;
}

/* What tmem may be asked for; it checks the rest itself. */
static int translate(struct account *a, const struct ring_pool_options *asked, struct quire_tmem_pool_options *ret)
{
	bool shared = (asked->flags & QUIRE_TMEM_SHARED) != 0;
	uint64_t most = a->limits->client_bytes;

	if (asked->weight > a->limits->weight)
		return -EPERM;
	/* Who has a shared one open need not know that its gets wait for I/O, or for another machine, and all clients of the worker with him. */
	if ((asked->flags & QUIRE_TMEM_REMOTE) != 0 ||
	    ((asked->flags & QUIRE_TMEM_SPILL) != 0 && (shared || a->limits->spill_bytes == 0)))
		return -EPERM;
	if ((asked->flags & QUIRE_TMEM_SPILL) != 0 && n_spilling(a) >= SPILLING_POOLS)
		return -ENOSPC;
	if (asked->domain >= DOMAINS_MOST || (shared && asked->domain != 0))
		return -EINVAL;
	if (asked->page_bytes > a->slot_bytes)
		return -E2BIG;
	*ret = (struct quire_tmem_pool_options){
		.size = sizeof(*ret),
		.kind = (enum quire_tmem_kind)asked->kind,
		.page_bytes = asked->page_bytes,
		.flags = asked->flags,
		.weight = asked->weight != 0 || a->limits->weight > 100 ? asked->weight : a->limits->weight,
		.domain = asked->domain != 0 ? FIRST_DOMAIN + a->place * DOMAINS_MOST + asked->domain : 0,
		.cap_bytes = asked->cap_bytes,
	};
	if (ret->cap_bytes == 0 && shared)
		ret->cap_bytes = most / 4;
	else if (ret->cap_bytes == 0 || (!shared && ret->cap_bytes > most))
		ret->cap_bytes = most;
	memcpy(ret->uuid, asked->uuid, sizeof(ret->uuid));
	return 0;
}

int account_create(struct account *a, const struct ring_pool_options *asked, uint32_t *ret_number, uint32_t *ret_page_bytes)
{
	struct quire_tmem_pool_options o;
	struct handle *h = free_handle(a);
	int rc = translate(a, asked, &o);

	if (rc < 0)
		return rc;
	if (h == NULL || n_made(a) >= a->limits->n_pools)
		return -ENOSPC;
	h->shared = (o.flags & QUIRE_TMEM_SHARED) != 0;
	if (h->shared && !has_room(a, o.cap_bytes))
		return -ENOSPC;
	rc = quire_tmem_pool_create(a->tmem, &o, &h->pool, NULL);
	if (rc < 0)
		return rc;
	h->spills = (o.flags & QUIRE_TMEM_SPILL) != 0;
	if (h->spills)
		tmem_pool_limit_spill(h->pool, a->limits->spill_bytes / SPILLING_POOLS);
	memcpy(h->uuid, o.uuid, sizeof(h->uuid));
	h->made = true;
	h->asked_bytes = asked->cap_bytes;
	*ret_number = enter(a, h);
	*ret_page_bytes = h->page_bytes;
	return 0;
}

int account_open(struct account *a, const uint8_t uuid[16], uint32_t *ret_number, uint32_t *ret_page_bytes)
{
	struct handle *h = free_handle(a);
	struct quire_tmem_pool_stat stat;

	if (h == NULL)
		return -ENOSPC;
	int rc = quire_tmem_pool_open(a->tmem, uuid, &h->pool);
	if (rc < 0)
		return rc;
	quire_tmem_pool_stat(h->pool, &stat);
	if (stat.page_bytes > a->slot_bytes)
		rc = -E2BIG;
	/* One without a cap is the service's own program's, who alone answers for it. */
	if (rc == 0 && !has_room(a, stat.cap_bytes))
		rc = -ENOSPC;
	if (rc < 0) {
		quire_tmem_pool_destroy(h->pool);
		return rc;
	}
	memcpy(h->uuid, uuid, sizeof(h->uuid));
	h->shared = true;
	h->made = h->spills = false;
	*ret_number = enter(a, h);
	*ret_page_bytes = h->page_bytes;
	return 0;
}

void account_kill(struct account *a, struct handle *h)
{
	a->settled = NO_HANDLE;
	h->dying_bytes = h->shared ? h->cap_bytes : held_bytes(h);
	atomic_store_explicit(&h->state, HANDLE_DYING, memory_order_release);
}

void account_each_keepable(struct account *a, void (*fn)(void *arg, const uint8_t uuid[16]), void *arg)
{
	for (unsigned i = 0; i < a->n_handles; i++) {
		const struct handle *h = &a->handles[i];
		if (state_of(h) == HANDLE_OPEN && h->shared && h->kind == QUIRE_TMEM_PERSISTENT)
			fn(arg, h->uuid);
	}
}

void account_stat(struct account *a, struct ring_client_stat *ret)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->n_handles; i++)
		n += state_of(&a->handles[i]) != HANDLE_FREE;
	*ret = (struct ring_client_stat){
		.held_bytes = used_beside(a, NULL),
		.cap_bytes = a->limits->client_bytes,
		.n_pools = n_made(a),
		.n_handles = n,
		.most_pools = a->limits->n_pools,
		.most_handles = a->limits->n_handles,
	};
}

void account_fini(struct account *a)
{
	for (unsigned i = 0; i < a->n_handles; i++)
		if (state_of(&a->handles[i]) == HANDLE_OPEN)
			quire_tmem_pool_destroy(a->handles[i].pool);
	free(a->handles);
}
