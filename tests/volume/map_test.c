/* Trees of extents against a model: an array of (place, birth) for each block of each tree. What merges and deletions tell to be
 * dead is held against what no tree has any more, to the block. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/volume/map_tree.h"

#include "../log/log_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_BLOCKS 3000u
#define MAX_TREES 12u
#define MAX_PLACES (1u << 20)

struct block {
	uint64_t place, birth;
};

struct tree {
	bool there, frozen;
	uint32_t id;
	int parent;        /* index; -1: none */
	uint64_t gen;      /* frozen: up to which it was written */
	struct map_root root;
	struct block blocks[N_BLOCKS];
};

struct model {
	struct map_owner owner;
	struct map_cache *cache;
	struct budget budget;
	struct map_delta delta;
	uint8_t *pages[MAX_PLACES]; /* owned; by place */
	bool alive[MAX_PLACES];     /* has not been told dead */
	uint64_t next_place, n_alive, gen, random, n_reads, n_written;
	uint32_t next_id;
	int fail_after;             /* writes; -1: never */
	struct tree trees[MAX_TREES];
};

static uint64_t below(struct model *m, uint64_t n)
{
	return random_next(&m->random) % n;
}

/* ---- pages ---- */

static int read_page(struct map_owner *owner, uint64_t place, void *page)
{
	struct model *m = (struct model *)owner;

	assert_true(place < MAX_PLACES && m->pages[place] != NULL && m->alive[place]);
	memcpy(page, m->pages[place], MAP_NODE_BYTES);
	m->n_reads++;
	return 0;
}

static uint64_t take_places(struct model *m, uint64_t n)
{
	uint64_t first = m->next_place;

	m->next_place += n + below(m, 3);
	assert_true(m->next_place < MAX_PLACES);
	for (uint64_t i = 0; i < n; i++)
		m->alive[first + i] = true;
	m->n_alive += n;
	return first;
}

static int write_pages(struct map_owner *owner, const void *pages, unsigned n, uint64_t *ret_places)
{
	struct model *m = (struct model *)owner;

	if (m->fail_after == 0)
		return -ENOSPC;
	if (m->fail_after > 0)
		m->fail_after--;
	uint64_t first = take_places(m, n);
	m->n_written += n;
	for (unsigned i = 0; i < n; i++) {
		m->pages[first + i] = malloc(MAP_NODE_BYTES);
		memcpy(m->pages[first + i], (const uint8_t *)pages + i * MAP_NODE_BYTES, MAP_NODE_BYTES);
		ret_places[i] = first + i;
	}
	return 0;
}

static void dead(void *arg, uint64_t place, uint64_t n)
{
	struct model *m = arg;

	for (uint64_t i = 0; map_is_data(place) && i < n; i++) {
		assert_true(m->alive[place + i]); /* once, and of what there is */
		m->alive[place + i] = false;
		m->n_alive--;
	}
}

static void tell_dead(struct map_owner *owner, uint64_t place, uint64_t n)
{
	if (place < MAX_PLACES) /* else one that was made up, by fill() */
		dead(owner, place, n);
}

static struct model *model_new(uint64_t seed, uint64_t cap_bytes)
{
	struct model *m = calloc(1, sizeof(*m));

	m->owner = (struct map_owner){map_cache_new_owner(), read_page, write_pages, tell_dead};
	m->random = seed;
	m->next_place = MAP_FIRST_PLACE;
	m->gen = m->next_id = 1;
	m->fail_after = -1;
	budget_init(&m->budget, 1u << 30);
	assert_int_equal(map_cache_create(cap_bytes, &m->budget, &m->cache), 0);
	return m;
}

static void model_free(struct model *m)
{
	map_cache_destroy(m->cache);
	assert_int_equal(budget_used(&m->budget), 0);
	map_delta_fini(&m->delta);
	for (uint64_t i = 0; i < MAX_PLACES; i++)
		free(m->pages[i]);
	free(m);
}

/* ---- trees ---- */

static int pick(struct model *m, bool (*fits)(const struct model *m, const struct tree *t))
{
	unsigned at = (unsigned)below(m, MAX_TREES);

	for (unsigned i = 0; i < MAX_TREES; i++, at = (at + 1) % MAX_TREES)
		if (fits(m, &m->trees[at]))
			return (int)at;
	return -1;
}

static bool is_free(const struct model *m, const struct tree *t)
{
	return (void)m, !t->there;
}

static bool is_there(const struct model *m, const struct tree *t)
{
	return (void)m, t->there;
}

static bool is_writable(const struct model *m, const struct tree *t)
{
	return (void)m, t->there && !t->frozen;
}

static uint64_t shared_of(const struct model *m, const struct tree *t)
{
	return t->parent < 0 ? 0 : m->trees[t->parent].gen;
}

static struct map_tree_env env_of(struct model *m)
{
	return (struct map_tree_env){m->cache, &m->owner};
}

static void write_some(struct model *m, struct tree *t)
{
	uint64_t lba = below(m, N_BLOCKS), n = 1 + below(m, below(m, 4) == 0 ? 300 : 4), kind = below(m, 8);

	if (n > N_BLOCKS - lba)
		n = N_BLOCKS - lba;
	struct map_extent e = {lba, n, kind == 0 ? MAP_HOLE : kind == 1 ? MAP_ZERO : take_places(m, n), m->gen};
	assert_int_equal(map_delta_set(&m->delta, t->id, &e, dead, m), 0);
	for (uint64_t i = 0; i < n; i++)
		t->blocks[lba + i] = (struct block){map_place_at(e.place, i), m->gen};
}

/* All trees, since what is snapshotted or deleted here is merged. */
static void merge_all(struct model *m)
{
	for (unsigned i = 0; i < MAX_TREES; i++) {
		struct tree *t = &m->trees[i];
		struct map_merge merge = {.env = env_of(m), .delta = &m->delta, .tree = t->id,
		                          .birth = t->frozen ? t->gen : m->gen, .shared = shared_of(m, t)};
		if (t->there)
			assert_int_equal(map_merge(&merge, &t->root, &t->root), 0);
	}
	map_delta_fini(&m->delta);
}

static void snapshot(struct model *m)
{
	int from = pick(m, is_there), to = pick(m, is_free);

	if (from < 0 || to < 0)
		return;
	merge_all(m);
	struct tree *f = &m->trees[from], *t = &m->trees[to];
	if (!f->frozen) {
		f->frozen = true;
		f->gen = m->gen++;
	}
	*t = *f;
	t->frozen = false;
	t->id = m->next_id++;
	t->parent = from;
}

static unsigned children_of(const struct model *m, int of, struct map_root *ret_roots, int *ret_last)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MAX_TREES; i++)
		if (m->trees[i].there && m->trees[i].parent == of) {
			ret_roots[n++] = m->trees[i].root;
			*ret_last = (int)i;
		}
	return n;
}

static void delete(struct model *m)
{
	int at = pick(m, is_there), child = -1;
	struct map_root roots[MAX_TREES];
	struct map_tree_env env = env_of(m);

	if (at < 0)
		return;
	merge_all(m);
	unsigned n = children_of(m, at, roots, &child);
	if (n > 1)
		return;
	struct tree *t = &m->trees[at];
	assert_int_equal(map_free(&env, &t->root, shared_of(m, t), roots, n, NULL), 0);
	if (child >= 0)
		m->trees[child].parent = t->parent;
	t->there = false;
}

/* ---- held against the model ---- */

static void look(struct model *m, const struct tree *t, uint64_t lba, uint64_t end, uint64_t since)
{
	struct map_tree_env env = env_of(m);

	while (lba < end) {
		struct map_extent e, d;
		bool gap, over = map_delta_find(&m->delta, t->id, lba, &d);
		uint64_t stop = over && d.lba < end ? d.lba : end;
		if (over && d.lba <= lba) {
			e = map_cut(&d, lba, end);
			gap = false;
		} else {
			assert_int_equal(map_tree_look(&env, &t->root, lba, stop, since, &e, &gap), 0);
		}
		assert_true(e.lba == lba && e.n > 0 && map_end(&e) <= end);
		for (uint64_t i = 0; i < e.n; i++) {
			const struct block *b = &t->blocks[lba + i];
			if (gap && since > 0)
				assert_true(b->birth <= since);
			else
				assert_true(b->place == map_place_at(e.place, i) && b->birth == (gap ? 0 : e.birth));
		}
		lba = map_end(&e);
	}
}

struct walked {
	const struct tree *t;
	uint64_t next, since;
};

static int walk(void *arg, const struct map_extent *e)
{
	struct walked *w = arg;

	assert_true(e->lba >= w->next && e->birth > w->since);
	for (; w->next < e->lba; w->next++)
		assert_true(w->t->blocks[w->next].birth <= w->since);
	for (; w->next < map_end(e); w->next++)
		assert_true(w->t->blocks[w->next].birth == e->birth);
	return 0;
}

static void check(struct model *m)
{
	static bool used[MAX_PLACES];
	struct map_tree_env env = env_of(m);
	uint64_t n_pages = 0, n_data = 0;

	assert_true(map_delta_check(&m->delta));
	merge_all(m);
	memset(used, 0, sizeof(used));
	for (unsigned i = 0; i < MAX_TREES; i++) {
		struct tree *t = &m->trees[i];
		if (!t->there)
			continue;
		look(m, t, 0, N_BLOCKS, 0);
		look(m, t, 0, N_BLOCKS, m->gen / 2);
		struct walked w = {t, 0, below(m, m->gen)};
		assert_int_equal(map_tree_walk(&env, &t->root, w.since, walk, &w), 0);
		for (unsigned k = 0; k < N_BLOCKS; k++) {
			uint64_t place = t->blocks[k].place;
			if (map_is_data(place) && !used[place]) {
				used[place] = true;
				assert_true(m->alive[place]);
				n_data++;
			}
		}
	}
	for (uint64_t i = 0; i < m->next_place; i++) {
		n_pages += m->alive[i] && m->pages[i] != NULL;
		assert_true(used[i] || !m->alive[i] || m->pages[i] != NULL);
	}
	assert_int_equal(n_data + n_pages, m->n_alive);
}

static void random_histories(void **state)
{
	uint64_t seed = random_seed(), n = random_count(12, 2000);

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++, seed++) {
		struct model *m = model_new(seed, i % 2 == 0 ? 65536 : 4u << 20);
		m->trees[0] = (struct tree){.there = true, .id = 0, .parent = -1};
		for (unsigned step = 0; step < 400; step++) {
			int at = pick(m, is_writable);
			uint64_t what = below(m, 40);
			if (at >= 0 && what < 34)
				write_some(m, &m->trees[at]);
			else if (what == 34)
				snapshot(m);
			else if (what == 35)
				delete(m);
			else if (what == 36)
				merge_all(m);
			else if (what == 37)
				map_cache_drop(m->cache);
			else if (at >= 0)
				look(m, &m->trees[at], below(m, N_BLOCKS), N_BLOCKS, 0);
		}
		check(m);
		for (unsigned k = 0; k < 8 * MAX_TREES; k++)
			delete(m);
		check(m);
		model_free(m);
	}
}

/* ---- what it costs ---- */

/* n blocks, each lying anywhere, in an order that is none (stride: odd), merged as the delta has so many. */
static void fill(struct model *m, struct tree *t, uint64_t n, uint64_t stride, uint64_t delta_extents)
{
	for (uint64_t i = 0, lba = 0; i < n; i++, lba = (lba + stride) % n) {
		struct map_extent e = {lba, 1, (UINT64_C(1) << 28) + below(m, UINT64_C(1) << 28), m->gen};
		assert_int_equal(map_delta_set(&m->delta, t->id, &e, NULL, NULL), 0);
		if (m->delta.n_extents >= delta_extents)
			merge_all(m);
	}
	merge_all(m);
}

static uint64_t pages_alive(const struct model *m)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < m->next_place; i++)
		n += m->alive[i];
	return n;
}

/* At most so many bytes of media, which is what a page in memory has, for each mapping; what is written of pages for each write is told. */
static void mappings_are_small(void **state)
{
	static const struct {
		const char *what;
		uint64_t stride, delta_extents, rounds;
	} orders[] = {
		{"in order, each by itself", 1, 8192, 1},
		{"at random, merged by 8192", 77773, 8192, 1},
		{"at random, merged by 32768", 77773, 32768, 1},
		{"at random, each twice, in 4 generations", 77773, 32768, 4},
	};
	const uint64_t n = 100000;

	(void)state;
	for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct model *m = model_new(7, 8u << 20);
		m->trees[0] = (struct tree){.there = true, .id = 0, .parent = -1};
		for (uint64_t r = 0; r < orders[i].rounds; r++, m->gen++)
			fill(m, &m->trees[0], r == 0 ? n : n / 3, orders[i].stride, orders[i].delta_extents);
		double each = (double)(pages_alive(m) * MAP_NODE_BYTES) / (double)n;
		double writes = (double)n + (double)(n / 3) * (double)(orders[i].rounds - 1);
		print_message("  %s: %.1f bytes for each mapping, %.0f of pages written for each write\n", orders[i].what, each,
		              (double)(m->n_written * MAP_NODE_BYTES) / writes);
		assert_true(each <= 16);
		model_free(m);
	}
}

static void the_cap_holds(void **state)
{
	struct model *m = model_new(7, 256u << 10);
	struct map_cache_stat stat;

	(void)state;
	m->trees[0] = (struct tree){.there = true, .id = 0, .parent = -1};
	fill(m, &m->trees[0], 60000, 77773, 8192);
	map_cache_stat(m->cache, &stat);
	assert_true(stat.bytes <= 256u << 10 && stat.bytes == budget_used(&m->budget) && stat.n_misses > 50);
	model_free(m);
}

static void a_merge_that_fails_leaves_the_old_tree(void **state)
{
	struct model *m = model_new(11, 1u << 20);
	struct tree *t = &m->trees[0];
	struct map_tree_env env;

	(void)state;
	*t = (struct tree){.there = true, .id = 0, .parent = -1};
	for (unsigned i = 0; i < 500; i++)
		write_some(m, t);
	merge_all(m);
	env = env_of(m);
	struct map_root before = t->root;
	struct map_extent e = {10, 1, MAP_HOLE, m->gen};
	assert_int_equal(map_delta_set(&m->delta, 0, &e, NULL, NULL), 0);
	struct map_merge merge = {.env = env, .delta = &m->delta, .birth = m->gen, .shared = UINT64_MAX};
	m->fail_after = 0;
	assert_int_equal(map_merge(&merge, &t->root, &t->root), -ENOSPC);
	assert_memory_equal(&before, &t->root, sizeof(before));
	map_delta_fini(&m->delta);
	look(m, t, 0, N_BLOCKS, 0);
	model_free(m);
}

static void damage_is_told(void **state)
{
	struct model *m = model_new(12, 1u << 20);
	struct tree *t = &m->trees[0];
	struct map_extent e;
	bool gap;

	(void)state;
	*t = (struct tree){.there = true, .id = 0, .parent = -1};
	for (unsigned i = 0; i < 300; i++)
		write_some(m, t);
	merge_all(m);
	struct map_tree_env env = env_of(m);
	map_cache_drop(m->cache);
	m->pages[t->root.place][100] ^= 4;
	assert_int_equal(map_tree_look(&env, &t->root, 5, 6, 0, &e, &gap), -EBADMSG);
	m->pages[t->root.place][100] ^= 4;
	assert_int_equal(map_tree_look(&env, &t->root, 5, 6, 0, &e, &gap), 0);
	struct map_root other = t->root;
	other.birth++;
	assert_int_equal(map_tree_look(&env, &other, 5, 6, 0, &e, &gap), -EUCLEAN);
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_histories),
		cmocka_unit_test(mappings_are_small),
		cmocka_unit_test(the_cap_holds),
		cmocka_unit_test(a_merge_that_fails_leaves_the_old_tree),
		cmocka_unit_test(damage_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
