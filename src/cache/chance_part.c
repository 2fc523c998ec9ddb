/* chance_part.c - what part of the memory compressed copies have: ghosts of what left, told and asked, and the split that follows
 * (split.c). The essay is in chance.c. */
#include "chance_internal.h"

#include "memory.h"

#define CREDIT 16u
#define MOST_CREDIT 4096u
#define RECENT 8u          /* one part of the memory in so many */
#define FAULT_CREDIT 64u   /* victims that are remembered, in case they were in use, for each fault */
#define MOST_SAMPLED (1u << 14) /* pages that the ghost for the split knows: of more memory fewer are sampled */
#define ROOM_PAGES 64u     /* that are left free for what the next victims take */
#define ROOM_BATCHES 64u
#define MOVES 64u

/* ---- what is remembered of pages that left; the lock is held ---- */

static void ghosts_size(struct chance *ch)
{
	uint64_t n = memory_pages(ch->cache), bytes;
	unsigned shift = SAMPLE_SHIFT;

	while (n * SPLIT_REACH >> shift > MOST_SAMPLED)
		shift++;
	atomic_store_explicit(&ch->sample_shift, shift, memory_order_relaxed);
	if (ch->recent.n_pages == n / RECENT && ch->far.n_pages == n * SPLIT_REACH >> shift)
		return;
	ghost_resize(&ch->recent, n / RECENT);
	ghost_resize(&ch->far, n * SPLIT_REACH >> shift);
	bytes = ghost_bytes(&ch->recent) + ghost_bytes(&ch->far);
	if (bytes > ch->charged_bytes)
		budget_charge(&ch->cache->budget, BUDGET_TABLES, bytes - ch->charged_bytes);
	else
		budget_uncharge(&ch->cache->budget, BUDGET_TABLES, ch->charged_bytes - bytes);
	ch->charged_bytes = bytes;
}

/* Has the range faults, of late: may its pages be used without anybody being told? Where nearly all are wanted, a fault now and then
 * (a page that left between its want and the load) does not have every page looked up. */
static bool has_faults(struct range *r)
{
	uint32_t n = (uint32_t)atomic_load_explicit(&r->n_faults, memory_order_relaxed);

	if (n != atomic_load_explicit(&r->n_faults_told, memory_order_relaxed)) {
		atomic_store_explicit(&r->n_faults_told, n, memory_order_relaxed);
		atomic_store_explicit(&r->recent_credit, FAULT_CREDIT, memory_order_relaxed);
	}
	return atomic_load_explicit(&r->recent_credit, memory_order_relaxed) > 0;
}

/* A victim of such a range: one less that its faults pay for. Lost in a race, a few more are remembered. */
static bool is_in_doubt(struct range *r)
{
	uint32_t credit;

	if (!has_faults(r))
		return false;
	credit = atomic_load_explicit(&r->recent_credit, memory_order_relaxed);
	if (credit > 0)
		atomic_store_explicit(&r->recent_credit, credit - 1, memory_order_relaxed);
	return true;
}

static unsigned sample_shift(const struct chance *ch)
{
	return atomic_load_explicit(&ch->sample_shift, memory_order_relaxed);
}

static bool is_sampled(const struct chance *ch, uint64_t name)
{
	return name * KEY_GOLDEN >> (64 - sample_shift(ch)) == 0;
}

/* raw: it may have been used where it was. */
static void ghosts_add(struct chance *ch, uint64_t name, bool raw)
{
	if (raw)
		ghost_add(&ch->recent, name);
	if (is_sampled(ch, name))
		ghost_add(&ch->far, name);
}

static void victims_tell(struct quire_cache *c, const struct victim *victims, unsigned n, const struct tally *tally)
{
	struct chance *ch = c->chance;
	struct range *r = NULL;

	pthread_mutex_lock(&ch->lock);
	ghosts_size(ch);
	split_left(&ch->split, tally->n_wanted, tally->n_kept);
	if (tally->compress_ns != 0)
		split_spent(&ch->split, SPLIT_COMPRESS, tally->compress_ns);
	for (const struct victim *v = victims; v < victims + n; v++) {
		if (v->n_pages > UNIT_PAGES)
			continue;
		if (r == NULL || v->first - r->first_page >= r->n_pages)
			r = range_find_locked(c, v->first);
		for (unsigned i = 0; i < v->n_pages; i++)
			if (victim_has(v, i))
				ghosts_add(ch, name_of(r, v->first + i), is_in_doubt(r));
	}
	pthread_mutex_unlock(&ch->lock);
}

/* Frames make room for copies as long as there are any to come, in this batch of victims or one of those before. */
static void reserve_room(struct chance *ch, const struct tally *tally)
{
	uint64_t target = atomic_load_explicit(&ch->target_bytes, memory_order_relaxed), room = 0;
	uint32_t more = atomic_load_explicit(&ch->n_room, memory_order_relaxed);
	struct quire_tmem_pool_stat stat;

	more = tally->wants_room ? ROOM_BATCHES : more > 0 ? more - 1 : 0;
	atomic_store_explicit(&ch->n_room, more, memory_order_relaxed);
	if (more > 0) {
		quire_tmem_pool_stat(ch->pool, &stat);
		room = target > stat.held_bytes ? target - stat.held_bytes : 0;
		if (room > ROOM_PAGES * cache_page_bytes(ch->cache))
			room = ROOM_PAGES * cache_page_bytes(ch->cache);
	}
	atomic_store_explicit(&ch->reserve_bytes, room, memory_order_relaxed);
}

static void kept_share_tell(struct chance *ch, unsigned n_pages, const struct tally *tally)
{
	uint32_t share = atomic_load_explicit(&ch->kept_share, memory_order_relaxed);

	if (n_pages == 0)
		return;
	share = share - share / 8 + tally->n_kept * 32 / n_pages;
	atomic_store_explicit(&ch->kept_share, share, memory_order_relaxed);
}

void chance_victims_left(struct quire_cache *c, const struct victim *victims, unsigned n, unsigned n_pages,
                         const struct tally *tally)
{
	victims_tell(c, victims, n, tally);
	reserve_room(c->chance, tally);
	kept_share_tell(c->chance, n_pages, tally);
}

bool chance_serves(const struct quire_cache *c)
{
	return c->chance != NULL && atomic_load_explicit(&c->chance->kept_share, memory_order_relaxed) > 192;
}

/* ---- pages that came ---- */

static void range_earns(struct range *r, uint32_t n)
{
	uint32_t credit = atomic_load_explicit(&r->chance_credit, memory_order_relaxed);

	credit = credit + n < MOST_CREDIT ? credit + n : MOST_CREDIT;
	atomic_store_explicit(&r->chance_credit, credit, memory_order_relaxed);
}

void chance_read_begins(struct fill *fill)
{
	struct chance *ch = fill->range->cache->chance;

	fill->since_ns = ch != NULL && is_measured(ch) ? loop_now_ns() : 0;
	if (fill->since_ns != 0 && fill->filler != NULL) {
		fill->n_reads_before = fill->filler->n_reads;
		fill->n_copies_before = fill->filler->n_copies;
	}
}

/* What a page took of the thread's time: of a read, the time that passed, less what went to pages that came from copies
 * meanwhile, for each page that was read. The lock is held. */
static void spent(struct chance *ch, const struct fill *fill, uint64_t now_ns)
{
	uint64_t took = now_ns - fill->since_ns, n_reads = fill->n_good, copies_ns = 0;
	const struct filler *f = fill->filler;

	if (fill->from_chance) {
		split_spent(&ch->split, SPLIT_COPY, took);
		return;
	}
	if (f != NULL) {
		n_reads += f->n_reads - fill->n_reads_before;
		copies_ns = (f->n_copies - fill->n_copies_before) * split_mean_ns(&ch->split, SPLIT_COPY);
	}
	split_spent(&ch->split, SPLIT_READ, took > copies_ns ? (took - copies_ns) / n_reads : 0);
}

/* The cap goes up at once, and down as memory is taken back (chance_shrink). The lock is held. */
static void part_changed(struct chance *ch)
{
	uint64_t target = ch->split.target_bytes, least = split_least_bytes(budget_limit(&ch->cache->budget));

	atomic_store_explicit(&ch->target_bytes, target, memory_order_relaxed);
	atomic_store_explicit(&ch->sparse, target <= least, memory_order_relaxed);
	if (target > atomic_load_explicit(&ch->cap_bytes, memory_order_relaxed)) {
		atomic_store_explicit(&ch->cap_bytes, target, memory_order_relaxed);
		quire_tmem_pool_set_cap(ch->pool, target);
	}
}

/* The lock is held. */
static void split_again(struct chance *ch)
{
	struct quire_cache *c = ch->cache;
	struct quire_tmem_pool_stat stat;

	quire_tmem_pool_stat(ch->pool, &stat);
	atomic_store_explicit(&ch->any, stat.n_pages > 0, memory_order_relaxed);
	const struct split_facts facts = {
		.limit_bytes = budget_limit(&c->budget),
		.page_bytes = cache_page_bytes(c),
		.n_copies = stat.n_pages,
		.copies_bytes = stat.held_bytes,
	};
	split_look(&ch->split, &facts);
	part_changed(ch);
}

/* The lock is held. True: it left lately. */
static bool page_came(struct chance *ch, const struct fill *fill, uint64_t page)
{
	struct range *r = fill->range;
	uint64_t name = name_of(r, page), n = memory_pages(ch->cache);
	bool recent = has_faults(r) && ghost_take(&ch->recent, name);
	size_t rank = 0;

	if (is_sampled(ch, name)) {
		bool known = ghost_take_ranked(&ch->far, name, &rank);
		/* What came from probation neither part of the memory would have brought. */
		if (fill->from_chance || !fill->from_copy)
			split_fill(&ch->split, fill->from_chance, known ? (uint64_t)rank << sample_shift(ch) : UINT64_MAX, n);
		if (known)
			range_earns(r, CREDIT << sample_shift(ch));
	}
	return recent;
}

/* Is there anything that ghosts are asked of the fill? */
static bool is_told(const struct chance *ch, const struct fill *fill)
{
	struct range *r = fill->range;
	bool told = has_faults(r);

	for (unsigned i = 0; i < fill->n_good && !told; i++)
		told = is_sampled(ch, name_of(r, fill->page + i));
	return told;
}

static void filler_counts(struct fill *fill)
{
	fill->since_ns = 0;
	if (fill->filler != NULL && fill->from_chance)
		fill->filler->n_copies++;
	else if (fill->filler != NULL)
		fill->filler->n_reads += fill->n_good;
	if (fill->from_chance)
		range_earns(fill->range, CREDIT);
}

bool chance_fill_ended(struct fill *fill)
{
	struct range *r = fill->range;
	struct chance *ch = r->cache->chance;
	bool probation = fill->from_copy && !fill->from_chance;
	bool recent = false;

	if (ch == NULL || fill->promoted || fill->n_good == 0 || fill->n_pages > UNIT_PAGES * 4)
		return false;
	uint64_t now_ns = fill->since_ns != 0 && !probation ? loop_now_ns() : 0;
	if (now_ns == 0 && !is_told(ch, fill)) {
		filler_counts(fill);
		return false;
	}
	pthread_mutex_lock(&ch->lock);
	ghosts_size(ch);
	if (now_ns != 0)
		spent(ch, fill, now_ns);
	for (unsigned i = 0; i < fill->n_good; i++)
		recent = page_came(ch, fill, fill->page + i);
	if (split_is_due(&ch->split, memory_pages(ch->cache) >> sample_shift(ch)))
		split_again(ch);
	pthread_mutex_unlock(&ch->lock);
	filler_counts(fill);
	return recent && fill->from_chance;
}

/* ---- memory ---- */

uint64_t chance_reserve(const struct quire_cache *c)
{
	return c->chance == NULL ? 0 : atomic_load_explicit(&c->chance->reserve_bytes, memory_order_relaxed);
}

bool chance_shrink(struct quire_cache *c)
{
	struct chance *ch = c->chance;
	uint64_t cap, target, step = ROOM_PAGES * cache_page_bytes(c);
	struct quire_tmem_pool_stat stat;

	if (ch == NULL)
		return false;
	cap = atomic_load_explicit(&ch->cap_bytes, memory_order_relaxed);
	target = atomic_load_explicit(&ch->target_bytes, memory_order_relaxed);
	if (cap <= target)
		return false;
	quire_tmem_pool_stat(ch->pool, &stat);
	if (stat.held_bytes < cap)
		cap = stat.held_bytes;
	cap = cap > target + step ? cap - step : target;
	atomic_store_explicit(&ch->cap_bytes, cap, memory_order_relaxed);
	quire_tmem_pool_set_cap(ch->pool, cap);
	return tmem_compact(ch->tmem, MOVES);
}

void chance_rebudget(struct quire_cache *c, uint64_t before_bytes)
{
	struct chance *ch = c->chance;

	if (ch == NULL || before_bytes == budget_limit(&c->budget))
		return;
	pthread_mutex_lock(&ch->lock);
	ch->split.target_bytes =
		(uint64_t)((__uint128_t)ch->split.target_bytes * budget_limit(&c->budget) / before_bytes);
	part_changed(ch);
	pthread_mutex_unlock(&ch->lock);
}

void chance_give(struct quire_cache *c, uint64_t bytes)
{
	pthread_mutex_lock(&c->chance->lock);
	c->chance->split.target_bytes = bytes;
	part_changed(c->chance);
	pthread_mutex_unlock(&c->chance->lock);
}

void chance_stat(struct quire_cache *c, struct quire_cache_stat *s)
{
	struct quire_tmem_pool_stat stat;

	if (c->chance == NULL)
		return;
	quire_tmem_pool_stat(c->chance->pool, &stat);
	s->second_chance = stat.held_bytes;
	s->second_chance_pages = stat.n_pages;
	s->second_chance_part = atomic_load_explicit(&c->chance->target_bytes, memory_order_relaxed);
	s->n_second_chance_hits = atomic_load(&c->counters.n_chance_hits);
	s->n_second_chance_puts = atomic_load(&c->counters.n_chance_puts);
	s->n_second_chance_refused = atomic_load(&c->counters.n_chance_refused);
}
