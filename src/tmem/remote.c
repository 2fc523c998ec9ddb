/* remote.c - evicted pages that are in other machines' memory: what stays of them, and how they come back.
 *
 * Purpose: an ephemeral page that is evicted is lost; fetching it from a neighbour's memory may be ten times faster than making it
 * again. What leaves is its compressed bytes, as they are. What stays is its entry in the index and a slot of 32 bytes, the stub, which
 * has the value's version, length and checksum.
 *
 * The tier may lose, delay or damage values, and give old ones; so nothing it says is believed. A value's key is a random number of this
 * tier, 128 bits, and a version that is never used again: what a machine that went away and came back still has of a page was under
 * another version, and so can't even be asked for. The value begins with its key, pool, object, index, length and checksum, which
 * are compared with what is known here. Whatever doesn't match is a miss.
 *
 * States of a page:  in memory → queued → sent → (taken, replaced, flushed, evicted, or lost)
 *   queued  a stub; the bytes are in the queue (remote_queue.c), where a get finds them. One that can't be sent is lost: its stub goes.
 *   sent    a stub, and whatever the tier has. A get that doesn't find it is a miss, and its stub goes.
 *
 * Shared contents, units, words, and what zstd packed are not sent; nor is anything while the queue is full, or there is no memory for a stub:
 * such pages are dropped, as without a tier.
 *
 * Invariants:
 *   1. A pool's stubs are a list through their heads (hash: the one before, next: the one behind), in the order in which they left; n_stubs long.
 *   2. counts.n_stubs and stub_bytes are the sums of all pools'. Evictions keep them at about a STUBS_PART of a pool's memory.
 *   3. A version in the queue that isn't dropped has a stub.
 *   4. A slot of kind SLOT_SPARE with MARK_REMOTE is one of `spares`, whose index is its span.
 *
 * Threads: the tmem's lock guards all; it is not held while the tier is talked to. Only gets and the sender do that. What a get
 * has fetched is the page's only if the same stub is there still, when it was to be taken out; so no two take it.
 *
 * Failure: is a miss.
 */
#include "remote_tier.h"

#include "../base/crc32c.h"
#include "../base/fail.h"
#include "../base/spin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STUBS_PART 8u          /* one part in so many of a pool's memory */
#define STUB_BYTES 40u         /* with its place in the index */
#define TRIM_AT_ONCE 64u
#define LEAST_SLOT_BYTES 96u   /* of those that gain by going */
#define FEW_SPARES (REMOTE_SPARES / 2)

static struct slot_head *head_at(const struct quire_tmem *t, uint32_t place)
{
	return storage_at(&t->storage, place);
}

bool tmem_is_stub(const struct quire_tmem *t, uint32_t value)
{
	if (t->remote == NULL || (value & VALUE_SHARE) != 0)
		return false;
	const struct slot_head *h = head_at(t, value);
	return h->codec == CODEC_AWAY && (h->marks & MARK_REMOTE) != 0;
}

struct where tmem_stub_find(const struct quire_tmem_pool *pool, const struct quire_tmem_key *key, uint64_t version)
{
	struct where at = tmem_page_find(pool, key);

	if (at.value != VALUE_NONE &&
	    (!tmem_is_stub(pool->tmem, at.value) || stub_at(pool->tmem, at.value)->version != version))
		at.value = VALUE_NONE;
	return at;
}

/* ---- slots for stubs ---- */

void tmem_remote_spare_moved(struct quire_tmem *t, uint32_t no, uint32_t to)
{
	t->remote->spares[no] = to;
}

static void fill_spares(struct quire_tmem *t)
{
	struct remote *r = t->remote;

	while (r->n_spares < REMOTE_SPARES) {
		uint32_t place = storage_alloc(&t->storage, sizeof(struct slot_head) + sizeof(struct stub));
		if (place == PLACE_NONE)
			break;
		*head_at(t, place) = (struct slot_head){.kind = SLOT_SPARE, .span = r->n_spares, .codec = CODEC_AWAY, .marks = MARK_REMOTE};
		r->spares[r->n_spares++] = place;
	}
}

void tmem_remote_tidy(struct quire_tmem *t)
{
	if (t->remote != NULL && t->remote->n_spares < FEW_SPARES)
		fill_spares(t);
}

/* ---- stubs ---- */

static void count(struct quire_tmem *t, struct quire_tmem_pool *pool, const struct slot_head *h, int n)
{
	struct remote_counts *c = &t->remote->counts;

	pool->n_stubs += (uint64_t)n;
	c->n_stubs += (uint64_t)n;
	c->stub_bytes += (uint64_t)(n * (int64_t)slot_len(h));
}

static void link_newest(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place)
{
	struct slot_head *h = head_at(t, place);

	h->hash = pool->last_stub;
	h->next = PLACE_NONE;
	if (pool->last_stub != PLACE_NONE)
		head_at(t, pool->last_stub)->next = place;
	else
		pool->first_stub = place;
	pool->last_stub = place;
	count(t, pool, h, 1);
}

void tmem_stub_unlink(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t place)
{
	struct slot_head *h = head_at(t, place);

	*(h->hash != PLACE_NONE ? &head_at(t, h->hash)->next : &pool->first_stub) = h->next;
	*(h->next != PLACE_NONE ? &head_at(t, h->next)->hash : &pool->last_stub) = h->hash;
	count(t, pool, h, -1);
	remote_queue_drop(t->remote, stub_at(t, place)->version);
}

void tmem_stub_moved(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t to)
{
	struct slot_head *h = head_at(t, to);

	*(h->hash != PLACE_NONE ? &head_at(t, h->hash)->next : &pool->first_stub) = to;
	*(h->next != PLACE_NONE ? &head_at(t, h->next)->hash : &pool->last_stub) = to;
}

static struct tmem_remote_head value_head(const struct remote *r, const struct quire_tmem_pool *pool, const struct where *at,
                                          const struct slot_head *h)
{
	const struct span *span = span_at(&pool->tmem->spans, at->span);
	struct tmem_remote_head head = {.key = r->next, .index = (uint32_t)span->high << 16 | at->low, .pool = pool->no,
	                                .len = slot_len(h), .check = h->check};

	memcpy(head.object, span->object.words, sizeof(head.object));
	return head;
}

bool tmem_remote_leave(struct quire_tmem_pool *pool, const struct where *at)
{
	struct quire_tmem *t = pool->tmem;
	struct remote *r = t->remote;

	if (r == NULL || r->stop || (pool->o.flags & QUIRE_TMEM_REMOTE) == 0 || (at->value & VALUE_SHARE) != 0)
		return false;
	const struct slot_head *h = head_at(t, at->value);
	if (h->kind != SLOT_PAGE || h->codec > CODEC_LZ4 || storage_bytes_of(&t->storage, at->value) < LEAST_SLOT_BYTES)
		return false;
	tmem_remote_tidy(t);
	struct tmem_remote_head head = value_head(r, pool, at, h);
	if (r->n_spares == 0 || !remote_queue_push(r, &head, h + 1))
		return false;
	if (pool->copy != NULL)
		tmem_copy_note(pool, at->span, at->low);
	struct stub stub = {.version = r->next.version++ & STUB_MOST_VERSION, .codec = h->codec & 3u};
	uint32_t place = r->spares[--r->n_spares];
	content_leave(t, at->value, place);
	head_at(t, place)->marks = MARK_REMOTE;
	*stub_at(t, place) = stub;
	link_newest(t, pool, place);
	return true;
}

unsigned tmem_remote_trim(struct quire_tmem_pool *pool, unsigned n)
{
	struct quire_tmem *t = pool->tmem;
	unsigned done = 0;

	while (pool->first_stub != PLACE_NONE && done < TRIM_AT_ONCE &&
	       (done < n || pool->n_stubs * STUB_BYTES > pool->held_bytes / STUBS_PART)) {
		const struct slot_head *h = head_at(t, pool->first_stub);
		struct where at = {.span = h->span, .low = h->low, .value = pool->first_stub};
		tmem_page_remove(pool, &at);
		pool->counts.n_evicted++;
		done++;
	}
	return done;
}

/* ---- a get ---- */

void tmem_remote_get_begin(struct get *g, bool take)
{
	struct quire_tmem *t = g->pool->tmem;
	const struct slot_head *h = head_at(t, g->place);

	g->remote = true;
	g->take_away = take;
	g->version = stub_at(t, g->place)->version;
	g->codec = (enum slot_codec)stub_at(t, g->place)->codec;
	g->len = slot_len(h);
	g->check = h->check;
	/* It isn't pinned: nothing of it is looked at again but by its version. */
	g->place = PLACE_NONE;
	t->remote->n_users++;
}

static struct tmem_remote_head expected_head(const struct get *g)
{
	struct tmem_remote_head head = {.key = g->pool->tmem->remote->next, .index = g->key->index, .pool = g->pool->no,
	                                .len = g->len, .check = g->check};

	head.key.version = g->version;
	memcpy(head.object, g->key->object, sizeof(head.object));
	return head;
}

/* Its bytes, which are the right ones. The lock not held. */
static int fetch(const struct get *g, void *ret_bytes)
{
	struct remote *r = g->pool->tmem->remote;
	struct tmem_remote_head got;
	int rc = 0;

	spin_lock(&r->tmem->lock);
	struct tmem_remote_head expected = expected_head(g);
	bool queued = remote_queue_copy(r, g->version, ret_bytes);
	pthread_mutex_unlock(&r->tmem->lock);
	if (!queued && quire_loop_self() != NULL)
		return -EDEADLK;
	if (!queued) {
		rc = r->tier.ops->fetch(r->tier.arg, &expected.key, &got, ret_bytes, g->len);
		if (rc == 0 && memcmp(&got, &expected, sizeof(got)) != 0)
			rc = -EBADMSG;
	}
	return rc == 0 && crc32c(0, ret_bytes, g->len) != g->check ? -EBADMSG : rc;
}

/* Whose is it now? The lock held. */
static int settle(struct get *g, int rc)
{
	struct quire_tmem_pool *pool = g->pool;
	struct remote *r = pool->tmem->remote;
	struct where at = tmem_stub_find(pool, g->key, g->version);
	bool there = at.value != VALUE_NONE;

	if (--r->n_users == 0)
		pthread_cond_broadcast(&r->idle);
	if (rc == -EDEADLK)
		return rc;
	if (!there && (rc != 0 || g->take_away)) {
		/* Somebody has it, or there is another, for whose sake it was deleted: it is to be asked for anew. */
		pool->counts.n_gets--;
		return -EAGAIN;
	}
	*(rc == 0 ? &r->counts.n_hits : &r->counts.n_misses) += 1;
	if (rc == 0)
		pool->counts.n_get_hits++;
	else if (rc != -ENOENT)
		r->counts.n_errors++;
	if (there && (rc != 0 || g->take_away)) {
		tmem_page_remove(pool, &at);
		tmem_evict_tidy(pool);
	}
	return rc == 0 ? 0 : -ENOENT;
}

void tmem_remote_get_copy(struct get *g, void *page)
{
	struct quire_tmem *t = g->pool->tmem;
	struct workspace *w = tmem_get_workspace(t, g->pool->o.page_bytes);
	int rc = w == NULL ? -ENOMEM : fetch(g, w->packed);

	spin_lock(&t->lock);
	g->result = settle(g, rc);
	pthread_mutex_unlock(&t->lock);
	/* By its checksum it is what was packed. */
	if (g->result == 0 && !codec_unpack(g->codec, w->packed, g->len, page, g->pool->o.page_bytes))
		g->result = -ENOENT;
	if (w != NULL)
		tmem_put_workspace(t, w);
}

/* ---- the invariants ---- */

static bool pool_check(const struct quire_tmem *t, const struct quire_tmem_pool *pool, uint64_t *n_stubs, uint64_t *stub_bytes)
{
	uint64_t n = 0, newest = 0;
	uint32_t before = PLACE_NONE;

	for (uint32_t place = pool->first_stub; place != PLACE_NONE; n++) {
		const struct slot_head *h = head_at(t, place);
		uint64_t version = stub_at(t, place)->version;
		if (!tmem_is_stub(t, place) || h->kind != SLOT_PAGE || h->hash != before || (n > 0 && version <= newest) ||
		    spans_get(&t->spans, h->span, h->low) != place)
			return false;
		newest = version;
		*stub_bytes += slot_len(h);
		before = place;
		place = h->next;
	}
	*n_stubs += n;
	return n == pool->n_stubs && before == pool->last_stub;
}

bool tmem_remote_check(const struct quire_tmem *t)
{
	const struct remote *r = t->remote;
	uint64_t n_stubs = 0, stub_bytes = 0;

	for (unsigned i = 1; i < t->n_pools; i++)
		if (t->pools[i] != NULL && !pool_check(t, t->pools[i], &n_stubs, &stub_bytes))
			return false;
	for (uint32_t i = 0; i < r->n_spares; i++)
		if (head_at(t, r->spares[i])->kind != SLOT_SPARE || head_at(t, r->spares[i])->span != i)
			return false;
	return n_stubs == r->counts.n_stubs && stub_bytes == r->counts.stub_bytes;
}

/* ---- the tier comes and goes ---- */

static int make(struct quire_tmem *t, const struct tmem_remote *tier, struct remote **ret)
{
	struct remote *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	r->tmem = t;
	r->tier = *tier;
	/* Others must not be able to guess it, nor this machine to have had it before. */
	int rc = getrandom(r->next.instance, sizeof(r->next.instance), 0) == (ssize_t)sizeof(r->next.instance) ? 0 : -EAGAIN;
	r->next.version = 1;
	if (rc == 0)
		rc = remote_queue_init(r);
	if (rc < 0) {
		free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

int tmem_remote_set(struct quire_tmem *t, const struct tmem_remote *tier, struct quire_error *err)
{
	struct remote *r;

	if (tmem_is_of_parent(t))
		return quire_fail(err, -ECHILD, "remote tier");
	if (tier->queue_bytes < TMEM_REMOTE_LEAST_QUEUE || tier->queue_bytes > UINT32_MAX)
		return quire_fail(err, -EINVAL, "remote tier with a queue of %llu bytes", (unsigned long long)tier->queue_bytes);
	int rc = make(t, tier, &r);
	if (rc < 0)
		return quire_fail(err, rc, "remote tier");
	pthread_mutex_lock(&t->lock);
	rc = t->remote != NULL ? -EBUSY : 0;
	if (rc == 0) {
		t->remote = r;
		fill_spares(t);
		/* Batches with an op must not block a loop. */
		if (t->n_threads == 0)
			t->n_threads = 1;
	}
	pthread_mutex_unlock(&t->lock);
	if (rc == 0)
		return 0;
	remote_queue_fini(r);
	free(r);
	return quire_fail(err, rc, "remote tier");
}

/* Lock held; released meanwhile. */
static void drop_stubs(struct quire_tmem *t)
{
	for (unsigned i = 1; i < t->n_pools; i++)
		while (t->pools[i] != NULL && tmem_remote_trim(t->pools[i], TRIM_AT_ONCE) > 0) {
			pthread_mutex_unlock(&t->lock);
			pthread_mutex_lock(&t->lock);
		}
}

int tmem_remote_clear(struct quire_tmem *t)
{
	if (tmem_is_of_parent(t))
		return -ECHILD;

	pthread_mutex_lock(&t->lock);
	struct remote *r = t->remote;
	int rc = r == NULL ? -ENOENT : r->n_users > 0 || r->stop ? -EBUSY : 0;
	if (rc == 0) {
		r->stop = true;
		drop_stubs(t);
		/* A get may have come meanwhile, and is at the tier still. */
		while (r->n_users > 0)
			pthread_cond_wait(&r->idle, &t->lock);
		while (r->n_spares > 0)
			storage_free(&t->storage, r->spares[--r->n_spares]);
		t->remote = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	if (rc < 0)
		return rc;
	remote_queue_fini(r);
	r->tier.ops->close(r->tier.arg);
	free(r);
	return 0;
}

void tmem_remote_destroy(struct quire_tmem *t)
{
	struct remote *r = t->remote;

	if (r == NULL)
		return;
	remote_queue_fini(r);
	r->tier.ops->close(r->tier.arg);
	free(r);
	t->remote = NULL;
}
