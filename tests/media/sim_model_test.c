/* sim_model_test.c - random histories on a simulated device, against a model of what it promises.
 *
 * The model knows for each block what was written there, in order, and from which of these on everything
 * may be found: after a cut each sector is of one of those, or of a write under way. While the power
 * is on, a read finds the last that was done.
 *
 * usage: sim_model_test [HISTORIES [SEED]]
 */
#include "sim_env.h"
#include "../support/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_BLOCKS 48u
#define N_WORKERS 4u
#define N_VERSIONS 255u

/* Each block belongs to one worker, so its writes follow one another. */
struct block {
	unsigned n_written;  /* the last version that was submitted */
	unsigned last_done;
	unsigned oldest;     /* that may still be found after a cut */
};

struct world {
	struct env env;
	struct block blocks[N_BLOCKS];
	uint64_t random;
	unsigned n_ios;
};

struct worker {
	struct world *w;
	unsigned no;
	unsigned char *buf;
};

static void do_write(struct worker *k, unsigned b)
{
	struct world *w = k->w;
	struct block *block = &w->blocks[b];
	bool durable = random_next(&w->random) & 1;
	if (block->n_written == N_VERSIONS)
		return;
	unsigned version = ++block->n_written;
	env_fill(k->buf, 1, version);
	if (device_write(w->env.device, b * BLOCK, k->buf, BLOCK, durable) < 0)
		return;
	block->last_done = version;
	if (durable)
		block->oldest = version;
}

static void do_read(struct worker *k, unsigned b)
{
	struct world *w = k->w;
	if (device_read(w->env.device, b * BLOCK, k->buf, BLOCK) < 0)
		return;
	for (unsigned i = 0; i < BLOCK / SECTOR; i++)
		assert_int_equal(env_tag(k->buf, i), w->blocks[b].last_done);
}

static void do_flush(struct worker *k)
{
	struct world *w = k->w;
	unsigned done[N_BLOCKS];
	for (unsigned b = 0; b < N_BLOCKS; b++)
		done[b] = w->blocks[b].last_done;
	if (device_flush(w->env.device) < 0)
		return;
	for (unsigned b = 0; b < N_BLOCKS; b++) {
		if (w->blocks[b].oldest < done[b])
			w->blocks[b].oldest = done[b];
	}
}

static void work(void *arg)
{
	struct worker *k = arg;
	for (unsigned i = 0; i < 60 && !sim_is_cut(k->w->env.sim); i++) {
		unsigned b = (unsigned)(random_next(&k->w->random) % (N_BLOCKS / N_WORKERS)) * N_WORKERS + k->no;
		unsigned what = (unsigned)(random_next(&k->w->random) % 16);
		k->w->n_ios++;
		if (what == 0)
			do_flush(k);
		else if (what < 10)
			do_write(k, b);
		else
			do_read(k, b);
	}
}

static void check_after_cut(struct world *w, unsigned b)
{
	const struct block *block = &w->blocks[b];
	int tags[BLOCK / SECTOR];
	env_tags(&w->env, b, 1, tags);
	for (unsigned i = 0; i < BLOCK / SECTOR; i++)
		assert_in_range(tags[i], block->oldest, block->n_written);
}

/* Another life on what is left. */
static void settle_model(struct world *w, unsigned b)
{
	unsigned char buf[BLOCK];
	env_fill(buf, 1, 1);
	sim_poke(w->env.sim, b * BLOCK, buf, BLOCK);
	w->blocks[b] = (struct block){.n_written = 1, .last_done = 1, .oldest = 1};
}

static unsigned run_history(struct quire_loop *loop, uint64_t seed)
{
	static unsigned char memory[N_WORKERS][BLOCK] __attribute__((aligned(BLOCK)));
	struct sim_faults faults = {
		.max_delay_turns = (unsigned)(seed % 5),
		.tear_4k = seed / 5 % 2,
		.ordered = seed / 10 % 2,
		.shorten = UINT32_MAX / 8,
		.cut_ends_io = true,
	};
	struct world w = {.random = seed};
	struct worker workers[N_WORKERS];
	w.env.loop = loop;
	assert_int_equal(sim_create(N_BLOCKS * BLOCK, seed, &faults, &w.env.sim), 0);
	for (unsigned life = 0; life < 2; life++) {
		assert_int_equal(sim_open(w.env.sim, NULL, &w.env.device), 0);
		sim_cut_at(w.env.sim, sim_n_events(w.env.sim) + random_next(&w.random) % 160, random_next(&w.random));
		for (unsigned i = 0; i < N_WORKERS; i++) {
			workers[i] = (struct worker){.w = &w, .no = i, .buf = memory[i]};
			assert_int_equal(quire_co_spawn(loop, work, &workers[i]), 0);
		}
		assert_int_equal(quire_loop_run(loop), 0);
		sim_check(w.env.sim);
		if (!sim_is_cut(w.env.sim))
			sim_cut(w.env.sim, random_next(&w.random));
		sim_check(w.env.sim);
		for (unsigned b = 0; b < N_BLOCKS; b++)
			check_after_cut(&w, b);
		device_close(w.env.device);
		for (unsigned b = 0; b < N_BLOCKS; b++)
			settle_model(&w, b);
	}
	sim_destroy(w.env.sim);
	return w.n_ios;
}

static uint64_t n_histories = 300, first_seed = 1, now_seed;

static int tell_seed(void **state)
{
	print_message("last seed %llu\n", (unsigned long long)now_seed);
	return 0;
}

static void test_random_histories(void **state)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};
	struct quire_loop *loop;
	struct timespec from, to;
	uint64_t n_ios = 0;
	assert_int_equal(quire_loop_create(&opts, &loop, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (uint64_t i = 0; i < n_histories; i++) {
		now_seed = first_seed + i;
		n_ios += run_history(loop, first_seed + i);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_int_equal(quire_loop_destroy(loop), 0);
	print_message("%llu histories from seed %llu, %llu I/Os, %.2f s\n", (unsigned long long)n_histories,
	              (unsigned long long)first_seed, (unsigned long long)n_ios,
	              (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random_histories, tell_seed),
	};
	if (argc > 1)
		n_histories = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		first_seed = strtoull(argv[2], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
