/* Random work of several threads on a region four times the budget, beside what it should hold.
 *
 * Each thread owns every N_THREADS-th page, so that the model needs no lock; pages that lie side by side are different threads'. What a
 * page holds is a number, of which its content is made; 0 is zeros. All come and go for all of them.
 */
#include "region.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define N_THREADS 4
#define MAX_RUN 8

struct worker {
	pthread_t thread;
	unsigned index;
	uint64_t random, n_steps;
	_Atomic bool *stop;
	const char *wrong;
};

static size_t n_pages;
static uint64_t *model; /* of each page */
static uint64_t *edits; /* its second word, which is changed alone */
static _Atomic uint64_t next_content;

static uint64_t draw(struct worker *w, uint64_t n)
{
	w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
	return w->random % n;
}

static bool holds(size_t i)
{
	const char *p = page_at(i);

	if (model[i] == 0)
		return bytes_are_zero(p, page_size());
	if (edits[i] != 0 && ((const volatile uint64_t *)(const void *)p)[1] != edits[i])
		return false;
	/* The word that was changed is put back, which is one more change. */
	uint64_t *word = (uint64_t *)(void *)p + 1;
	if (edits[i] == 0)
		return page_is(p, model[i]);
	*word = model[i];
	edits[i] = 0;
	return page_is(p, model[i]);
}

static size_t own_page(struct worker *w)
{
	return draw(w, n_pages / N_THREADS) * N_THREADS + w->index;
}

static bool look(struct worker *w)
{
	return holds(own_page(w));
}

static bool store(struct worker *w)
{
	size_t i = own_page(w);

	model[i] = atomic_fetch_add(&next_content, 1) + 1;
	edits[i] = 0;
	page_fill(page_at(i), model[i]);
	return true;
}

static bool edit(struct worker *w)
{
	size_t i = own_page(w);

	if (model[i] == 0)
		return true;
	edits[i] = atomic_fetch_add(&next_content, 1) + 1;
	((volatile uint64_t *)(void *)page_at(i))[1] = edits[i];
	return true;
}

/* Of all threads' pages. */
static bool want_some(struct worker *w)
{
	size_t i = draw(w, n_pages - MAX_RUN), n = 1 + draw(w, MAX_RUN);

	return want_pages(i, n, draw(w, 2) ? QUIRE_ANON_WRITE : 0) == 0;
}

static bool pin_and_look(struct worker *w)
{
	size_t i = own_page(w);

	if (want_pages(i, 1, QUIRE_ANON_PIN) < 0)
		return false;
	bool right = quire_anon_resident(region, page_at(i), 1) && holds(i);
	return unwant_pages(i, 1) == 0 && right;
}

static bool drop(struct worker *w)
{
	size_t i = draw(w, n_pages - 64);

	return advise_pages(i, 1 + draw(w, 64), draw(w, 4) ? QUIRE_ANON_AWAY : QUIRE_ANON_COLD) == 0;
}

static bool discard(struct worker *w)
{
	size_t i = own_page(w);
	int rc = advise_pages(i, 1, QUIRE_ANON_DISCARD);

	/* A want of another's may be about to pin no page: nobody pins this one but its owner. */
	if (rc < 0)
		return false;
	model[i] = edits[i] = 0;
	return true;
}

static const struct {
	const char *name;
	bool (*run)(struct worker *w);
	unsigned share;
} steps[] = {
	{"look", look, 40}, {"store", store, 30}, {"edit", edit, 15}, {"want", want_some, 6},
	{"pin", pin_and_look, 4}, {"leave", drop, 2}, {"discard", discard, 3},
};

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!*w->stop && w->wrong == NULL) {
		uint64_t at = draw(w, 100);
		unsigned k = 0;

		while (at >= steps[k].share)
			at -= steps[k++].share;
		if (!steps[k].run(w))
			w->wrong = steps[k].name;
		w->n_steps++;
	}
	return NULL;
}

static uint64_t seed_of_test(void)
{
	const char *s = getenv("QUIRE_TEST_SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return s != NULL ? strtoull(s, NULL, 0) : (uint64_t)now.tv_nsec;
}

static void sleep_for_work(void)
{
	const char *s = getenv("QUIRE_TEST_SECONDS");
	unsigned ms = s != NULL ? (unsigned)(1000 * atof(s)) : getenv("QUIRE_TEST_LONG") != NULL ? 60000 : 250;

	usleep(1000 * ms);
}

static void random_work(void)
{
	struct worker workers[N_THREADS] = {0};
	_Atomic bool stop = false;
	uint64_t seed = seed_of_test(), n_steps = 0;

	n_pages = quire_anon_bytes(region) / page_size();
	model = calloc(n_pages, sizeof(*model));
	edits = calloc(n_pages, sizeof(*edits));
	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < N_THREADS; i++) {
		workers[i] = (struct worker){.index = i, .random = seed * 31 + i * 7919 + 1, .stop = &stop};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	sleep_for_work();
	stop = true;
	for (unsigned i = 0; i < N_THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		if (workers[i].wrong != NULL)
			print_error("thread %u: %s\n", i, workers[i].wrong);
		assert_null(workers[i].wrong);
		n_steps += workers[i].n_steps;
	}
	for (size_t i = 0; i < n_pages; i++)
		assert_true(holds(i));
	struct quire_anon_stat s = region_stat();
	print_message("%llu steps, %llu faults, %llu came, %llu left, %llu of them moved\n", (unsigned long long)n_steps,
	              (unsigned long long)s.n_faults, (unsigned long long)s.n_fills, (unsigned long long)s.n_evictions,
	              (unsigned long long)s.n_moved);
	assert_int_equal(s.n_errors, 0);
	free(model);
	free(edits);
}

static void all_of_it_survives(void **state)
{
	region_make(4 * BUDGET, NULL);
	random_work();
	assert_true(cache_stat().used <= BUDGET + MIB);
}

struct toucher {
	pthread_t thread;
	_Atomic bool stop;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;
	struct worker w = {.random = 77};

	while (!t->stop) {
		size_t i = draw(&w, n_pages);

		if (want_pages(i, 1, QUIRE_ANON_WRITE | QUIRE_ANON_PIN) == 0) {
			page_fill(page_at(i), i);
			unwant_pages(i, 1);
		}
	}
	return NULL;
}

/* One region comes and goes beside another that is under load. */
static void others_may_end_under_load(void **state)
{
	struct toucher t = {0};

	region_make(4 * BUDGET, NULL);
	n_pages = quire_anon_bytes(region) / page_size();
	assert_int_equal(pthread_create(&t.thread, NULL, touch, &t), 0);
	for (unsigned round = 0; round < 4; round++) {
		struct quire_anon *other = NULL;
		assert_int_equal(quire_anon_create(cache, BUDGET, NULL, &other, NULL), 0);
		char *b = quire_anon_base(other);
		for (size_t i = 0; i < BUDGET / page_size(); i += 16)
			page_fill(b + pages(i), i);
		for (size_t i = 0; i < BUDGET / page_size(); i += 16)
			assert_true(page_is(b + pages(i), i));
		assert_int_equal(quire_anon_destroy(other, NULL), 0);
	}
	t.stop = true;
	pthread_join(t.thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_CACHE(all_of_it_survives), IN_CACHE(others_may_end_under_load),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
