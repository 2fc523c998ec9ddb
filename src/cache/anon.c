/* anon.c - pages that come from pools, that turn dirty, that are given up.
 *
 *             ┌──────────── fill, to read ───────────▶ clean, protected ──dropped──┐
 *   ABSENT ───┤                                          │ a write, a want to write │
 *      ▲      └─ fill, to write ─▶ dirty ◀───────────────┘                          │
 *      │                             │ moved, put (depart.c)                        │
 *      └─────────────────────────────┴──────────────────────────────────────────────┘
 *
 * 1. What a page holds is in one place that counts: the arena if it is dirty; else the pool, with a copy in the arena if it is
 *    clean. What neither has is zeros.
 * 2. The pool's copy goes after the page has been installed and before its word says that it is dirty and may leave:
 *    while it is FILLING, or RESIDENT with DUP, which keeps it where it is.
 * 3. A clean page is write-protected for as long as its word doesn't say DIRTY. The protection is taken away with DUP set, so that it
 *    is this page's, and not that of another that has come in its place.
 * 4. Fills are at once: FILLING lasts for microseconds, and who holds it waits for nobody. But for pages that are in the pool's backing:
 *    those are read by the service thread (anon_back.c), which waits for nobody but the disk. So no fault need repeat one. A thread that
 *    faulted goes on when the word says what its page is, woken by the end of its own fault (fault_service.c).
 *
 * Where the kernel has no write protection, and in PINNED arenas, every page comes as a dirty one.
 */
#include "anon.h"

#include "anon_back.h"
#include "arena_anon.h"
#include "evict.h"
#include "fault.h"
#include "filler.h"
#include "unit.h"
#include "want.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define MAX_RUN 16u /* pages of one fill */

struct quire_tmem_key anon_key(const struct range *r, uint64_t page)
{
	uint64_t index = page - r->first_page;

	return (struct quire_tmem_key){{r->serial, index >> 32, ANON_OBJECT}, (uint32_t)index};
}

/* True: the pool had it. */
static bool anon_flush(struct range *r, uint64_t page)
{
	const struct quire_tmem_key key = anon_key(r, page);

	if (quire_tmem_flush(r->anon->pool, &key) <= 0)
		return false;
	atomic_fetch_sub_explicit(&r->anon->n_pooled, 1, memory_order_relaxed);
	/* Not asked of the pool's budget: what has become free lets others leave. */
	if (atomic_load_explicit(&r->cache->anon_refused, memory_order_relaxed))
		atomic_store(&r->cache->anon_refused, false);
	return true;
}

/* ---- pages that come ---- */

/* Up to n pages from the page on that are absent, all FILLING then. */
static int claim_run(struct range *r, uint64_t page, unsigned n, uint32_t id, bool force, unsigned *ret_n)
{
	int rc = fill_claim(r, page, UNIT_PAGE, id, force);

	for (*ret_n = 1; rc == 0 && *ret_n < n; ++*ret_n)
		if (fill_claim(r, page + *ret_n, UNIT_PAGE, id, false) < 0)
			break;
	return rc;
}

/* Their content into the fill's buffer: n_good, result; how many the pool has. Without waiting it ends before one that is in the backing. */
static unsigned fetch(struct fill *fill, bool may_wait)
{
	struct range *r = fill->range;
	size_t bytes = (size_t)1 << r->arena->page_shift;
	unsigned n_had = 0;

	for (fill->n_good = 0; fill->n_good < fill->n_pages; fill->n_good++) {
		const struct quire_tmem_key key = anon_key(r, fill->page + fill->n_good);
		char *to = fill->buf + fill->n_good * bytes;

		fill->result = may_wait ? quire_tmem_get(r->anon->pool, &key, to, QUIRE_TMEM_GET_KEEP)
		                        : tmem_get_at_once(r->anon->pool, &key, to);
		n_had += fill->result == 0;
		if (fill->result == -ENOENT) {
			memset(to, 0, bytes);
			count(&r->anon->n_zero, 1);
			fill->result = 0;
		}
		if (fill->result < 0)
			break;
	}
	if (!may_wait && fill->result == -EWOULDBLOCK)
		fill->result = 0;
	return n_had;
}

void anon_bring(struct fill *fill, bool may_wait)
{
	struct range *r = fill->range;
	unsigned n_had = fetch(fill, may_wait), n = fill->n_good;

	if (n == 0)
		return;
	int rc = arena_install_quietly(r->arena, fill->page, n, fill->buf, !fill->source.written);
	if (rc < 0) {
		fill->result = rc;
		fill->n_good = 0;
		return;
	}
	for (unsigned i = 0; fill->source.written && n_had > 0 && i < n; i++)
		anon_flush(r, fill->page + i);
}

void anon_fill_init(struct fill *fill, struct range *r, uint64_t page, unsigned flags, const struct page_source *source)
{
	fill->range = r;
	fill->page = page;
	fill->source = *source;
	fill->source.written = (flags & FILL_WRITE) || !arena_tracks_writes(r->arena);
	fill->result = 0;
	fill->n_good = 0;
	fill->error_at = 0;
	fill->waiters = NULL;
	fill->since_ns = 0;
	fill->dup = fill->staged = fill->vague = fill->ahead = fill->from_copy = fill->from_chance = fill->promoted = false;
}

static int fill_run(struct fill *fill, struct range *r, uint64_t page, unsigned n, unsigned flags,
                    const struct page_source *source)
{
	unsigned n_claimed;

	anon_fill_init(fill, r, page, flags, source);
	int rc = claim_run(r, page, n, fill->id, (flags & FILL_FORCE) != 0, &n_claimed);

	if (rc < 0)
		return rc;
	fill->n_pages = (uint16_t)n_claimed;
	anon_bring(fill, false);
	/* None: it went to the backing just now. */
	rc = fill->n_good > 0 ? 0 : fill->result < 0 ? fill->result : -EBUSY;
	for (struct want *w = fill_settle(fill), *next; w != NULL; w = next) {
		next = w->next;
		want_continue(w, NULL);
	}
	return rc;
}

int anon_fill(struct filler *f, struct range *r, uint64_t page, unsigned max_pages, unsigned flags,
              const struct page_source *source)
{
	uint64_t in_region = arena_region_end(r->arena, page) - page;
	unsigned n = flags & FILL_ALONE ? 1 : max_pages < MAX_RUN ? max_pages : MAX_RUN;
	struct fill *fill = f->free;
	char *buf = NULL;

	n = n < in_region ? n : (unsigned)in_region;
	if (r->anon->spills) {
		const struct quire_tmem_key key = anon_key(r, page);

		n = tmem_at_hand(r->anon->pool, &key, n);
		if (n == 0)
			return anon_back_start(r, page, flags, source);
	}
	while (fill != NULL && n > 0 && (buf = filler_buffers_get(f, n)) == NULL)
		n /= 2;
	if (buf == NULL)
		return -EAGAIN;
	f->free = fill->next;
	fill->buf = buf;
	int rc = fill_run(fill, r, page, n, flags, source);
	filler_buffers_put(f, buf, n);
	fill->next = f->free;
	f->free = fill;
	return rc;
}

/* ---- pages that are there ---- */

bool anon_dirty(struct range *r, uint64_t page, uint32_t w)
{
	page_word *word = range_word(r, page);

	if (w & PAGE_DUP) {
		sched_yield(); /* another does this: invariant 3 */
		return false;
	}
	if (w & PAGE_DIRTY)
		return true;
	if (!page_cas(word, &w, w | PAGE_DIRTY | PAGE_DUP))
		return false;
	count(&r->n_unverified, 1);
	count(&r->anon->n_write_faults, 1);
	anon_flush(r, page);
	arena_unprotect(r->arena, page);
	atomic_fetch_and(word, ~PAGE_DUP);
	arena_wake(r->arena, page, 1);
	fillers_feed(r->cache); /* it may leave now */
	return true;
}

/* ABSENT → EVICTING, so that nobody fills it, and back. */
static bool discard_absent(struct range *r, uint64_t page)
{
	page_word *word = range_word(r, page);

	arena_region_enter(r->arena, page, 1, true);
	uint32_t w = page_load(word);
	bool mine = false;
	while (page_state(w) == PAGE_ABSENT && !mine)
		mine = page_cas(word, &w, PAGE_EVICTING | (w & PAGE_QUEUED));
	if (mine) {
		anon_flush(r, page);
		page_move(word, PAGE_ABSENT, 0, PAGE_QUEUED);
	}
	arena_region_leave(r->arena, page, 1);
	return mine;
}

static bool discard_resident(struct range *r, uint64_t page)
{
	struct victim v;

	if (!unit_claim(r->cache, r->arena, page, &v))
		return false;
	arena_zap_page(r->arena, page);
	anon_flush(r, page);
	evict_settle(r, page);
	evict_uncharge_frames(r->cache, 1);
	return true;
}

/* False: it is pinned. */
static bool discard_page(struct range *r, uint64_t page)
{
	for (;;) {
		uint32_t w = page_load(range_word(r, page));

		switch (page_state(w)) {
		case PAGE_ABSENT:
			if (discard_absent(r, page))
				return true;
			break;
		case PAGE_RESIDENT:
			if (page_value(w) > 0)
				return false;
			if (discard_resident(r, page))
				return true;
			break;
		case PAGE_POISONED:
			fault_unpoison(r, page, 1);
			break;
		case PAGE_FILLING: /* these end by themselves, in microseconds, or when the page has been read from the backing */
		case PAGE_EVICTING:
		case PAGE_ORPHAN:
			break;
		}
		sched_yield();
	}
}

uint64_t anon_discard(struct range *r, uint64_t page, uint64_t n)
{
	uint64_t end = page + n, n_pinned = 0;

	while (page < end) {
		/* Where nothing is here, and nothing there, there is nothing to look for. */
		if (arena_region_count(r->arena, page) == 0 && atomic_load(&r->anon->n_pooled) == 0)
			page = arena_region_end(r->arena, page);
		else
			n_pinned += !discard_page(r, page++);
	}
	return n_pinned;
}
