/* put.c - a page goes in: prepared without the lock, entered with it.
 *
 *   same-filled? → known? → compress → a slot → the index
 *
 * A content that may be equal is pinned while it is compared: so it stays where it is, though its page may go; whether it may be
 * shared is asked again under the lock.
 */
#include "tmem_internal.h"

#include "page_hash.h"
#include "../base/canary.h"
#include "../base/crc32c.h"
#include "../base/spin.h"

#include <errno.h>
#include <string.h>

#define MOST_TRIES 256u
#define TWINS_ALL 65536u /* of the last puts, sixteen or so: all had one */

/* ---- without the lock ---- */

static void unpin(struct quire_tmem *t, uint32_t place)
{
	spin_lock(&t->lock);
	storage_unpin(&t->storage, place);
	pthread_mutex_unlock(&t->lock);
}

/* Is what lies there, which is pinned, that page? */
static bool is_equal(struct quire_tmem_pool *pool, const struct packed *there, const void *page, struct workspace *w)
{
	uint32_t n_bytes = pool->o.page_bytes;

	return tmem_unpack(pool->tmem, there, w->page, n_bytes) && memcmp(w->page, page, n_bytes) == 0;
}

/* Pins it, or PLACE_NONE. One of the same hash that is another page is rare: the first alone is looked at. */
static uint32_t find_twin(struct quire_tmem_pool *pool, uint32_t hash, const void *page, struct workspace *w)
{
	struct quire_tmem *t = pool->tmem;
	struct packed there = {0};

	spin_lock(&t->lock);
	uint32_t place = content_find(t, pool, hash);
	if (place != PLACE_NONE) {
		storage_pin(&t->storage, place);
		there = tmem_packed(t, storage_at(&t->storage, place), 0);
	}
	pthread_mutex_unlock(&t->lock);
	if (place != PLACE_NONE && !is_equal(pool, &there, page, w)) {
		unpin(t, place);
		place = PLACE_NONE;
	}
	return place;
}

/* Where hardly a page is known, pages are compressed first: the hash then finds them in the CPU's caches, which compressing
 * brings them into on the side. */
static bool twins_are_rare(const struct quire_tmem_pool *pool)
{
	return atomic_load_explicit(&pool->twins_lately, memory_order_relaxed) < TWINS_ALL / 16;
}

static void count_twin(struct quire_tmem_pool *pool, bool found)
{
	/* Two that count at once lose a count. */
	uint32_t n = atomic_load_explicit(&pool->twins_lately, memory_order_relaxed);

	atomic_store_explicit(&pool->twins_lately, n - n / 16 + (found ? TWINS_ALL / 16 : 0), memory_order_relaxed);
}

static void pack(struct put *p, const void *page, struct workspace *w)
{
	uint32_t n_bytes = p->pool->o.page_bytes;
	struct prepared *r = &p->prepared;

	r->len = codec_pack(w, page, n_bytes);
	r->codec = r->len > 0 ? CODEC_LZ4 : CODEC_RAW;
	r->bytes = w->packed;
	if (r->len == 0) {
		/* From memory of our own: the page may fault. */
		r->len = n_bytes;
		memcpy(w->packed, page, n_bytes);
	}
	r->check = crc32c(0, r->bytes, r->len);
	if (r->codec == CODEC_RAW && (p->pool->o.flags & QUIRE_TMEM_REFUSE_INCOMPRESSIBLE) != 0)
		p->refused = -E2BIG;
}

/* Without the lock; reads the page. */
static void tmem_put_prepare(struct put *p, const void *page, struct workspace *w)
{
	uint32_t n_bytes = p->pool->o.page_bytes;
	struct prepared *r = &p->prepared;

	tmem_recompress_pressed(p->pool);
	memset(r, 0, sizeof(*r));
	p->twin = PLACE_NONE;
	p->refused = 0;
	r->same = codec_is_same(page, n_bytes, &r->word);
	if (r->same)
		return;
	r->known = (p->pool->o.flags & QUIRE_TMEM_NO_DEDUP) == 0;
	bool packs_first = !r->known || twins_are_rare(p->pool);
	if (packs_first)
		pack(p, page, w);
	if (r->known) {
		r->hash = page_hash(page, n_bytes);
		p->twin = find_twin(p->pool, r->hash, page, w);
		count_twin(p->pool, p->twin != PLACE_NONE);
	}
	if (p->twin != PLACE_NONE)
		p->refused = 0;
	else if (!packs_first)
		pack(p, page, w);
}

/* ---- with it ---- */

static uint32_t value_now(const struct put *p, bool resident_only)
{
	struct quire_tmem *t = p->pool->tmem;

	if (p->prepared.same)
		return content_same(t, p->pool, p->prepared.word);
	/* It may be what had to leave for this one. */
	if (p->twin != PLACE_NONE)
		return content_is_known(t, p->prepared.hash, p->twin) ? content_share(t, p->twin) : VALUE_NONE;
	return content_keep(t, p->pool, &p->prepared, resident_only);
}

/* Makes room until there is a value for the page; VALUE_NONE: there is none to be made. */
static uint32_t make_value(const struct put *p)
{
	struct quire_tmem *t = p->pool->tmem;

	for (unsigned i = 0; i < MOST_TRIES; i++) {
		uint32_t value = value_now(p, false);
		if (value == VALUE_NONE)
			value = value_now(p, true);
		if (value != VALUE_NONE)
			return value;
		if (!tmem_evict_for(t))
			break;
	}
	return VALUE_NONE;
}

static int make_page(const struct put *p, uint32_t value)
{
	for (unsigned i = 0; i < MOST_TRIES; i++) {
		if (tmem_page_add(p->pool, p->key, value) == 0)
			return 0;
		if (!tmem_evict_for(p->pool->tmem))
			break;
	}
	return -ENOSPC;
}

static uint64_t bytes_wanted(const struct put *p)
{
	bool keeps = !p->prepared.same && p->twin == PLACE_NONE;

	return keeps ? storage_slot_bytes((uint32_t)sizeof(struct slot_head) + p->prepared.len) : 0;
}

static int enter(const struct put *p)
{
	struct quire_tmem *t = p->pool->tmem;

	if (p->pool->frozen)
		return -EROFS;
	if (p->refused < 0)
		return p->refused;
	if (!tmem_evict_to_cap(p->pool, bytes_wanted(p) + sizeof(struct span)))
		return -ENOSPC;
	uint32_t value = make_value(p);
	if (value == VALUE_NONE)
		return -ENOSPC;
	/* Nobody owns it yet, so nobody may move it. */
	bool plain = (value & VALUE_SHARE) == 0;
	if (plain)
		storage_pin(&t->storage, value);
	int rc = make_page(p, value);
	if (rc < 0)
		content_release(t, p->pool, value);
	if (plain)
		storage_unpin(&t->storage, value);
	return rc;
}

int tmem_put_finish(struct put *p, const void *page, struct workspace *w)
{
	struct quire_tmem *t = p->pool->tmem;
	struct where old = tmem_page_find(p->pool, p->key);

	p->pool->counts.n_puts++;
	int rc;
	do {
		if (CANARY(put_keeps_older) && old.value != VALUE_NONE) {
			rc = 0;
			break;
		}
		if (old.value != VALUE_NONE && !(CANARY(refused_put_keeps_old) && p->refused < 0))
			tmem_page_remove(p->pool, &old);
		if (p->twin != PLACE_NONE && !content_is_known(t, p->prepared.hash, p->twin)) {
			/* It went meanwhile, perhaps just now. */
			storage_unpin(&t->storage, p->twin);
			p->twin = PLACE_NONE;
			pthread_mutex_unlock(&t->lock);
			pack(p, page, w);
			spin_lock(&t->lock);
			old = tmem_page_find(p->pool, p->key);
			if (old.value != VALUE_NONE)
				tmem_page_remove(p->pool, &old);
		}
		rc = enter(p);
		/* Others may have put the page meanwhile. */
		if (rc == -ENOSPC && p->refused == 0 && !p->at_once && tmem_spill_for(p->pool, bytes_wanted(p) + sizeof(struct span)))
			old = tmem_page_find(p->pool, p->key);
		else
			break;
	} while (true);
	if (p->twin != PLACE_NONE)
		storage_unpin(&t->storage, p->twin);
	if (rc < 0)
		p->pool->counts.n_put_refused++;
	tmem_evict_tidy(p->pool);
	if (!p->at_once)
		tmem_spill_tidy(t);
	return rc;
}

int tmem_put(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, const void *page, bool at_once)
{
	struct quire_tmem *t = pool->tmem;

	tmem_make_room(pool);
	struct workspace *w = tmem_get_workspace(t, pool->o.page_bytes);
	struct put p = {.pool = pool, .key = key, .twin = PLACE_NONE, .at_once = at_once};

	if (w == NULL && !at_once)
		w = tmem_spill_for_workspace(pool);
	if (w != NULL)
		tmem_put_prepare(&p, page, w);
	else
		p.refused = -ENOSPC;
	spin_lock(&t->lock);
	int rc = tmem_put_finish(&p, page, w);
	pthread_mutex_unlock(&t->lock);
	if (w != NULL)
		tmem_put_workspace(t, w);
	return rc;
}

int quire_tmem_put(struct quire_tmem_pool *pool, const struct quire_tmem_key *key, const void *page)
{
	return tmem_is_of_parent(pool->tmem) ? -ECHILD : tmem_put(pool, key, page, false);
}
