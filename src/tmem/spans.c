/* spans.c - which pages there are.
 *
 * Two steps: the object's span is found by hash, its page in the span's table. So an object's key of 26 bytes is kept once for
 * up to 65,536 pages, and all that a page takes here are four bytes of its value, two of its index, if its neighbours aren't there,
 * and what of its table is spare. Tables lie in the storage like pages do, so that they cost what they are long and can be moved.
 *
 * A span of one page has none: the page stands in the span. Where most indexes between the first and the last are there, the table is
 * dense: values in their order. Else it has pairs: up to N_PLAIN are searched from end to end; more are
 * a hash table with linear probing (indexes that follow each other are spread evenly), at most 7/8 full. A table is made anew a quarter
 * larger, or smaller; a dense one an eighth.
 *
 * Invariants:
 *   1. A span has a page, or it is its object's first and that has siblings (or is being made: spans_need to spans_unneed).
 *   2. The first of an object's siblings has `high` 0.
 *   3. A table's free pairs have VALUE_NONE; of a plain one, those in use come first. So do free values, of which a dense
 *      table's last is none.
 */
#include "spans.h"

#include "slot.h"
#include "../base/assert.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define N_PLAIN 16u

struct pair {
	uint16_t low;
	uint32_t value;
} __attribute__((packed));
static_assert(sizeof(struct pair) == 6, "what a page costs here");

/* ---- tables ---- */

static struct pair *pairs_of(const struct spans *x, const struct span *s)
{
	return (struct pair *)((uint8_t *)storage_at(x->storage, s->table) + SLOT_TABLE_HEAD_BYTES);
}

static uint32_t home_of(uint16_t low, uint32_t capacity)
{
	return (uint32_t)((uint16_t)(low * 40503u) * (uint64_t)capacity >> 16);
}

/* The pair of that page, or NULL. */
static struct pair *find_pair(const struct spans *x, const struct span *s, uint16_t low)
{
	struct pair *pairs = pairs_of(x, s);

	if (s->capacity <= N_PLAIN) {
		for (uint32_t i = 0; i < s->n_pages; i++)
			if (pairs[i].low == low)
				return &pairs[i];
		return NULL;
	}
	for (uint32_t i = home_of(low, s->capacity); pairs[i].value != VALUE_NONE; i = i + 1 == s->capacity ? 0 : i + 1)
		if (pairs[i].low == low)
			return &pairs[i];
	return NULL;
}

static void enter_pair(struct pair *pairs, uint32_t capacity, uint32_t n, struct pair pair)
{
	uint32_t i = n;

	if (capacity > N_PLAIN)
		for (i = home_of(pair.low, capacity); pairs[i].value != VALUE_NONE;)
			i = i + 1 == capacity ? 0 : i + 1;
	pairs[i] = pair;
}

/* Takes pair i out of a hash table; those behind it that would not be found any more move up. */
static void close_gap(struct pair *pairs, uint32_t capacity, uint32_t gap)
{
	for (uint32_t i = gap + 1 == capacity ? 0 : gap + 1; pairs[i].value != VALUE_NONE;
	     i = i + 1 == capacity ? 0 : i + 1) {
		uint32_t from_home = (i + capacity - home_of(pairs[i].low, capacity)) % capacity;
		if (from_home < (i + capacity - gap) % capacity)
			continue;
		pairs[gap] = pairs[i];
		gap = i;
	}
	pairs[gap].value = VALUE_NONE;
}

static uint32_t most_pairs(uint32_t capacity)
{
	return capacity <= N_PLAIN ? capacity : capacity - capacity / 8;
}

/* ---- dense ones ---- */

static uint32_t *values_of(const struct spans *x, const struct span *s)
{
	return (uint32_t *)((uint8_t *)storage_at(x->storage, s->table) + SLOT_TABLE_HEAD_BYTES);
}

/* Where the page's value stands, or would stand: no less than the capacity if there is none. */
static uint32_t place_in(const struct span *s, uint16_t low)
{
	return low < s->first ? UINT32_MAX : (uint32_t)low - s->first;
}

/* Values that there is memory for. */
static uint32_t dense_room(const struct spans *x, const struct span *s)
{
	return (storage_bytes_of(x->storage, s->table) - SLOT_TABLE_HEAD_BYTES) / (uint32_t)sizeof(uint32_t);
}

/* False: it lies outside. */
static bool enter_value(const struct spans *x, struct span *s, uint16_t low, uint32_t value)
{
	uint32_t at = place_in(s, low), *values = values_of(x, s);

	if (at >= dense_room(x, s))
		return false;
	while (s->capacity <= at)
		values[s->capacity++] = VALUE_NONE;
	values[at] = value;
	return true;
}

static void remove_value(const struct spans *x, struct span *s, uint16_t low)
{
	const uint32_t *values = values_of(x, s);

	values_of(x, s)[place_in(s, low)] = VALUE_NONE;
	while (s->capacity > 0 && values[s->capacity - 1] == VALUE_NONE)
		s->capacity--;
}

/* ---- either ---- */

/* Every page of the span, whatever form its table has. */
void spans_each(const struct spans *x, uint32_t span, void (*fn)(void *arg, uint16_t low, uint32_t value), void *arg)
{
	const struct span *s = span_at(x, span);

	if (s->capacity == 0) {
		if (s->n_pages == 1)
			fn(arg, s->first, s->table);
		return;
	}
	const struct pair *pairs = pairs_of(x, s);
	const uint32_t *values = values_of(x, s);
	for (uint32_t i = 0; i < s->capacity; i++)
		if (s->dense && values[i] != VALUE_NONE)
			fn(arg, (uint16_t)(s->first + i), values[i]);
		else if (!s->dense && pairs[i].value != VALUE_NONE)
			fn(arg, pairs[i].low, pairs[i].value);
}

/* What a new table is to be. */
struct shape {
	uint32_t n, n_bytes;
	uint16_t low, high; /* of its pages */
	uint16_t first;
	bool dense;
};

static void stretch(void *arg, uint16_t low, uint32_t value)
{
	struct shape *t = arg;

	t->low = low < t->low ? low : t->low;
	t->high = low > t->high ? low : t->high;
}

/* With one page more, `more`, if that isn't -1. */
static struct shape shape_of(const struct spans *x, uint32_t no, int32_t more)
{
	const struct span *s = span_at(x, no);
	struct shape t = {.n = s->n_pages + (more >= 0), .low = UINT16_MAX};

	spans_each(x, no, stretch, &t);
	uint16_t low_before = t.low;
	if (more >= 0)
		stretch(&t, (uint16_t)more, 0);
	uint32_t n_pairs = t.n <= N_PLAIN ? t.n : t.n + t.n / 4, range = t.high - t.low + 1u, spare = range / 8;
	t.n_bytes = n_pairs * (uint32_t)sizeof(struct pair);
	t.dense = range * sizeof(uint32_t) <= t.n_bytes;
	t.first = t.low;
	if (t.dense) {
		/* What is spare lies where the last one came. */
		if (more >= 0 && more < low_before)
			t.first = t.low < spare ? 0 : (uint16_t)(t.low - spare);
		t.n_bytes = (range + spare) * (uint32_t)sizeof(uint32_t);
	}
	t.n_bytes = storage_slot_bytes(SLOT_TABLE_HEAD_BYTES + t.n_bytes);
	return t;
}

struct refill {
	const struct spans *x;
	struct span *to;
};

static void refill_one(void *arg, uint16_t low, uint32_t value)
{
	const struct refill *r = arg;

	if (r->to->dense)
		(void)enter_value(r->x, r->to, low, value);
	else
		enter_pair(pairs_of(r->x, r->to), r->to->capacity, r->to->n_pages++, (struct pair){low, value});
}

static void drop_table(struct spans *x, uint32_t place)
{
	x->table_bytes -= storage_bytes_of(x->storage, place);
	storage_free(x->storage, place);
}

/* A table of that shape with what the span has. False: no memory. */
static bool make_table(struct spans *x, uint32_t no, const struct shape *t)
{
	struct span *s = span_at(x, no), to = *s;

	to.table = storage_alloc(x->storage, t->n_bytes);
	if (to.table == PLACE_NONE)
		return false;
	struct slot_head head = {.span = no, .kind = SLOT_TABLE};
	memcpy(storage_at(x->storage, to.table), &head, SLOT_TABLE_HEAD_BYTES);
	to.n_pages = 0;
	to.first = t->first;
	to.dense = t->dense;
	to.capacity = 0;
	if (!t->dense) {
		to.capacity = (t->n_bytes - SLOT_TABLE_HEAD_BYTES) / (uint32_t)sizeof(struct pair);
		if (t->n <= N_PLAIN && to.capacity > N_PLAIN)
			to.capacity = N_PLAIN;
		memset(pairs_of(x, &to), 0xff, to.capacity * sizeof(struct pair));
	}
	struct refill r = {.x = x, .to = &to};
	spans_each(x, no, refill_one, &r);
	to.n_pages = s->n_pages;
	if (s->capacity > 0)
		drop_table(x, s->table);
	*s = to;
	x->table_bytes += t->n_bytes;
	return true;
}

uint32_t spans_get(const struct spans *x, uint32_t span, uint16_t low)
{
	const struct span *s = span_at(x, span);

	if (s->capacity == 0)
		return s->n_pages == 1 && s->first == low ? s->table : VALUE_NONE;
	if (s->dense) {
		uint32_t at = place_in(s, low);
		return at < s->capacity ? values_of(x, s)[at] : VALUE_NONE;
	}
	const struct pair *p = find_pair(x, s, low);
	return p == NULL ? VALUE_NONE : p->value;
}

void spans_set(struct spans *x, uint32_t span, uint16_t low, uint32_t value)
{
	struct span *s = span_at(x, span);

	if (s->capacity == 0)
		s->table = value;
	else if (s->dense)
		values_of(x, s)[place_in(s, low)] = value;
	else
		find_pair(x, s, low)->value = value;
}

/* Into the table that there is. False: it doesn't fit. */
static bool enter(const struct spans *x, struct span *s, uint16_t low, uint32_t value)
{
	if (s->capacity == 0 && s->n_pages > 0)
		return false;
	if (s->capacity == 0) {
		s->first = low;
		s->table = value;
		return true;
	}
	if (s->dense)
		return enter_value(x, s, low, value);
	if (s->n_pages >= most_pairs(s->capacity))
		return false;
	enter_pair(pairs_of(x, s), s->capacity, s->n_pages, (struct pair){low, value});
	return true;
}

bool spans_add(struct spans *x, uint32_t span, uint16_t low, uint32_t value)
{
	struct span *s = span_at(x, span);

	if (!enter(x, s, low, value)) {
		struct shape t = shape_of(x, span, low);
		if (!make_table(x, span, &t))
			return false;
		(void)enter(x, s, low, value);
	}
	s->n_pages++;
	x->n_pages++;
	return true;
}

/* Is much of the table's memory of no use? */
static bool is_loose(const struct spans *x, const struct span *s)
{
	if (s->dense)
		return dense_room(x, s) > 8 && s->n_pages < dense_room(x, s) / 2;
	return s->capacity > 4 && s->n_pages < s->capacity / 2;
}

static void remove_from_table(struct spans *x, uint32_t no, uint16_t low)
{
	struct span *s = span_at(x, no);
	uint32_t table = s->table;

	if (s->dense) {
		remove_value(x, s, low);
	} else {
		struct pair *pairs = pairs_of(x, s), *p = find_pair(x, s, low);
		if (s->capacity > N_PLAIN) {
			close_gap(pairs, s->capacity, (uint32_t)(p - pairs));
		} else {
			*p = pairs[s->n_pages - 1];
			pairs[s->n_pages - 1].value = VALUE_NONE;
		}
	}
	s->n_pages--;
	if (s->n_pages == 0) {
		s->capacity = 0;
		s->dense = false;
		drop_table(x, table);
	} else if (is_loose(x, s)) {
		struct shape t = shape_of(x, no, -1);
		if (t.n_bytes < storage_bytes_of(x->storage, s->table))
			(void)make_table(x, no, &t); /* without memory it stays as it is */
	}
}

uint16_t spans_any(const struct spans *x, uint32_t span)
{
	const struct span *s = span_at(x, span);
	uint32_t i = 0;

	if (s->capacity == 0)
		return s->first;
	if (s->dense)
		return (uint16_t)(s->first + s->capacity - 1);
	const struct pair *pairs = pairs_of(x, s);
	while (pairs[i].value == VALUE_NONE)
		i++;
	return pairs[i].low;
}

void spans_table_moved(struct spans *x, uint32_t span, uint32_t to)
{
	span_at(x, span)->table = to;
}

/* ---- spans ---- */

static uint32_t hash_of(const struct spans *x, uint16_t pool, const struct tmem_object *object, uint16_t high)
{
	uint64_t key[4] = {object->words[0], object->words[1], object->words[2], (uint64_t)pool << 16 | high};

	return (uint32_t)XXH3_64bits_withSeed(key, sizeof(key), x->seed);
}

static uint32_t hash_of_span(void *owner, uint32_t no)
{
	const struct span *s = span_at(owner, no);

	return hash_of(owner, s->pool, &s->object, s->high);
}

static uint32_t *link_of_span(void *owner, uint32_t no)
{
	return &span_at(owner, no)->chain;
}

uint32_t spans_find(const struct spans *x, uint16_t pool, const struct tmem_object *object, uint16_t high)
{
	uint32_t no = chains_first(&x->by_key, hash_of(x, pool, object, high));

	while (no != CHAIN_END) {
		const struct span *s = span_at(x, no);
		if (s->pool == pool && s->high == high && memcmp(&s->object, object, sizeof(*object)) == 0)
			return no;
		no = s->chain;
	}
	return SPAN_NONE;
}

static uint32_t make_span(struct spans *x, uint16_t pool, const struct tmem_object *object, uint16_t high,
                          uint32_t *pool_list)
{
	uint32_t no = records_get(&x->records);

	if (no == RECORD_NONE)
		return SPAN_NONE;
	struct span *s = span_at(x, no);
	*s = (struct span){.object = *object, .pool = pool, .high = high, .newer = SPAN_NONE, .older = *pool_list,
	                   .sibling = SPAN_NONE};
	if (!chains_add(&x->by_key, no)) {
		records_put(&x->records, no);
		return SPAN_NONE;
	}
	if (s->older != SPAN_NONE)
		span_at(x, s->older)->newer = no;
	*pool_list = no;
	return no;
}

static void free_span(struct spans *x, uint32_t no, uint32_t *pool_list)
{
	struct span *s = span_at(x, no);

	chains_remove(&x->by_key, no);
	*(s->newer != SPAN_NONE ? &span_at(x, s->newer)->older : pool_list) = s->older;
	if (s->older != SPAN_NONE)
		span_at(x, s->older)->newer = s->newer;
	records_put(&x->records, no);
}

uint32_t spans_need(struct spans *x, uint16_t pool, const struct tmem_object *object, uint16_t high,
                    uint32_t *pool_list)
{
	uint32_t no = spans_find(x, pool, object, high);

	if (no != SPAN_NONE || high == 0)
		return no != SPAN_NONE ? no : make_span(x, pool, object, 0, pool_list);
	uint32_t first = spans_need(x, pool, object, 0, pool_list);
	if (first == SPAN_NONE)
		return SPAN_NONE;
	no = make_span(x, pool, object, high, pool_list);
	if (no == SPAN_NONE) {
		spans_unneed(x, first, pool_list);
		return SPAN_NONE;
	}
	span_at(x, no)->sibling = span_at(x, first)->sibling;
	span_at(x, first)->sibling = no;
	return no;
}

void spans_unneed(struct spans *x, uint32_t no, uint32_t *pool_list)
{
	struct span *s = span_at(x, no);

	if (s->n_pages > 0)
		return;
	if (s->high == 0) {
		if (s->sibling == SPAN_NONE)
			free_span(x, no, pool_list);
		return;
	}
	uint32_t first = spans_find(x, s->pool, &s->object, 0), *at = &span_at(x, first)->sibling;
	while (*at != no)
		at = &span_at(x, *at)->sibling;
	*at = s->sibling;
	free_span(x, no, pool_list);
	spans_unneed(x, first, pool_list);
}

void spans_remove(struct spans *x, uint32_t no, uint16_t low, uint32_t *pool_list)
{
	struct span *s = span_at(x, no);

	x->n_pages--;
	if (s->capacity == 0)
		s->n_pages = 0;
	else
		remove_from_table(x, no, low);
	if (s->n_pages == 0)
		spans_unneed(x, no, pool_list);
}

/* ---- life ---- */

void spans_init(struct spans *x, struct budget *budget, struct storage *storage, uint64_t seed)
{
	memset(x, 0, sizeof(*x));
	x->storage = storage;
	x->seed = seed;
	records_init(&x->records, budget, sizeof(struct span));
	chains_init(&x->by_key, budget, 1, x, hash_of_span, link_of_span);
}

void spans_fini(struct spans *x)
{
	records_fini(&x->records);
	chains_fini(&x->by_key);
}
