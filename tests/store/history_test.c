/* history_test.c - random histories against a model, each with power cuts, deaths of the process, and a device that is
 * slow, reorders and tears; after each reopening everything must be as some order of what was asked for says.
 *
 * A history: several coroutines begin, append, commit many, delete, abort, read, hold; classes grow; the catalogue is
 * compacted often. QUIRE_TEST_SEED repeats one; QUIRE_TEST_COUNT says how many; QUIRE_TEST_LONG: 20,000.
 */
#include "history.h"
#include "../support/random.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_WORKERS 3u

/* ---- a life: from an open to a close, or a cut ---- */

static void worker(void *arg)
{
	struct history *h = arg;

	while (!h->failed && h->n_steps > 0) {
		h->n_steps--;
		store_step(h);
	}
	h->n_working--;
}

static void open_and_look(struct env *e, void *arg)
{
	struct history *h = arg;
	int rc = env_open(e);

	if (rc < 0)
		fail_msg("open: %d, %s", rc, e->err.text);
	model_settle(&h->m, e);
	model_verify(&h->m, e, 1 + (unsigned)rnd(h, 3));
}

static void close_clean(struct env *e, void *arg)
{
	struct history *h = arg;
	struct store_stat stat;

	store_history_let_go(h);
	store_stat(e->store, &stat);
	h->n_compactions += stat.n_compactions;
	if (!h->failed && rnd(h, 4) == 0)
		model_verify(&h->m, e, 4);
	env_close(e);
}

static void live(struct history *h)
{
	struct env *e = h->e;

	env_run(e, open_and_look, h);
	h->failed = false;
	h->n_lives++;
	h->n_steps = 5 + (unsigned)rnd(h, 50);
	/* Both devices, at one moment: the other when it is next used, or with the close. */
	bool cut = rnd(h, 4) != 0;
	uint64_t choice = rnd(h, 3) == 0 ? rnd(h, 2) : 2 + rnd(h, 1000000);
	if (cut)
		sim_cut_at(e->sims[0], sim_n_events(e->sims[0]) + rnd(h, 1 + h->n_steps * 2), choice);
	h->n_working = N_WORKERS;
	for (unsigned i = 0; i < N_WORKERS; i++)
		assert_int_equal(quire_co_spawn(e->loop, worker, h), 0);
	assert_int_equal(quire_loop_run(e->loop), 0);
	assert_int_equal(h->n_working, 0);
	bool was_cut = sim_is_cut(e->sims[0]);
	sim_cut_at(e->sims[0], UINT64_MAX, 0);
	/* A clean close, or a death with or without loss of power. */
	if (!was_cut && cut && rnd(h, 2) == 0) {
		sim_cut(e->sims[0], choice);
		was_cut = true;
	}
	if (was_cut && e->sims[1] != NULL && !sim_is_cut(e->sims[1]))
		sim_cut(e->sims[1], choice);
	h->failed |= was_cut;
	h->n_cuts += was_cut;
	env_run(e, close_clean, h);
}

static void format(struct env *e, void *arg)
{
	assert_int_equal(env_format(e), 0);
}

static void last_look(struct env *e, void *arg)
{
	open_and_look(e, arg);
	env_close(e);
}

static void run_history(uint64_t seed, struct history *sum)
{
	struct history *h = calloc(1, sizeof(*h));
	struct env e;
	struct sim_faults faults = {.cut_ends_io = true};

	h->random = seed;
	h->e = &e;
	h->most_units = 6000;
	faults.max_delay_turns = (unsigned)rnd(h, 4);
	faults.tear_4k = rnd(h, 2);
	faults.ordered = rnd(h, 8) == 0;
	faults.shorten = rnd(h, 2) == 0 ? 0 : UINT32_MAX / 8;
	const uint64_t n_units[STORE_N_CLASSES] = {400 + rnd(h, 1500), rnd(h, 2) * (256 + rnd(h, 500))};
	env_init(h->e, seed, n_units, &faults);
	if (n_units[1] != 0 && rnd(h, 2) == 0) {
		sim_destroy(h->e->sims[1]);
		assert_int_equal(sim_create_pmem(n_units[1] * PAGE, seed, &faults, &h->e->sims[1]), 0);
	}
	h->e->slack_bytes = 1 + rnd(h, 8000);
	model_init(&h->m);
	env_run(h->e, format, NULL);
	for (unsigned i = 1 + (unsigned)rnd(h, 4); i > 0; i--)
		live(h);
	env_run(h->e, last_look, h);
	env_fini(h->e);
	sum->n_cuts += h->n_cuts;
	sum->n_lives += h->n_lives;
	sum->n_transactions += h->n_transactions;
	sum->n_compactions += h->n_compactions;
	free(h);
}

static void test_histories(void **state)
{
	static struct history sum;
	bool is_given = getenv("QUIRE_TEST_SEED") != NULL;
	uint64_t seed = is_given ? random_seed() : random_beginning() << 20;
	uint64_t n = random_count(is_given ? 1 : getenv("QUIRE_SANITIZED") != NULL ? 250 : 1000, 20000);
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (uint64_t i = 0; i < n; i++) {
		/* Told before it runs: a failed assertion in a coroutine may not come back. */
		FILE *f = getenv("QUIRE_TEST_VERBOSE") != NULL ? stderr : NULL;
		if (f != NULL)
			fprintf(f, "seed %" PRIu64 "\n", seed + i);
		run_history(seed + i, &sum);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_message("%" PRIu64 " histories from seed %" PRIu64 ": %" PRIu64 " lives, %" PRIu64 " cuts, %" PRIu64
	              " transactions, %" PRIu64 " compactions, %.1f s\n",
	              n, seed, sum.n_lives, sum.n_cuts, sum.n_transactions, sum.n_compactions,
	              (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
