/* Volumes that are overwritten at random while little space is left: writers wait for cleaning, and are never told that there is no space as
 * long as what is live fits; nor is anything lost if the power is cut meanwhile. */
#include "volume_env.h"

#include "../../src/volume/volume_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_WRITERS 32u
#define MOST_BLOCKS 16384u
#define AGED_UNITS 4096u /* 16 MiB, in segments of 64 KiB */
#define CLASS_UNITS 16384u /* 64 MiB, in segments as the library chooses them */
#define FILL_BLOCKS 256u   /* written at once where a volume is filled in order, by so many: */
#define N_FILLERS 8u

/* Each writer has blocks of his own, so what one may hold is known: what he was told is durable, or something that he wrote after it. */
struct ageing {
	struct env *e;
	uint64_t n_blocks, n_per_writer, random;
	unsigned n_running, flush_each; /* each so many writes of one; 0: never */
	uint64_t next;           /* to be filled */
	uint32_t written[MOST_BLOCKS], done[MOST_BLOCKS], durable[MOST_BLOCKS]; /* how often: begun, returned, at last flushed */
	int error;     /* the first, if the power was not cut */
	uint64_t n_failed;
};

struct writer {
	struct ageing *a;
	unsigned no;
	struct quire_volume *v;
};

static uint64_t what_of(uint64_t lba, uint32_t times)
{
	return times == 0 ? 0 : lba << 32 | times;
}

static int write_one(struct writer *w)
{
	struct ageing *a = w->a;
	uint64_t lba = random_next(&a->random) % (a->n_blocks / N_WRITERS) * N_WRITERS + w->no;
	int rc = put(w->v, lba * BLOCK, BLOCK, what_of(lba, ++a->written[lba]), 0);

	if (rc == 0)
		a->done[lba] = a->written[lba];
	return rc;
}

static int flush_own(struct writer *w)
{
	struct ageing *a = w->a;
	int rc = quire_volume_flush(w->v, NULL);

	for (uint64_t lba = w->no; rc == 0 && lba < a->n_blocks; lba += N_WRITERS)
		a->durable[lba] = a->done[lba];
	return rc;
}

static void run_writer(void *arg)
{
	struct writer *w = arg;
	struct ageing *a = w->a;
	int rc = 0;

	for (uint64_t i = 1; rc == 0 && i <= a->n_per_writer; i++) {
		rc = write_one(w);
		if (rc == 0 && a->flush_each != 0 && i % a->flush_each == 0)
			rc = flush_own(w);
		if (sim_is_cut(a->e->sim))
			break;
	}
	if (rc < 0 && !sim_is_cut(a->e->sim)) {
		a->error = a->error == 0 ? rc : a->error;
		a->n_failed++;
	}
	a->n_running--;
}

/* All writers at once. */
static void overwrite(struct ageing *a)
{
	struct writer writers[N_WRITERS];

	a->n_running = N_WRITERS;
	for (unsigned i = 0; i < N_WRITERS; i++) {
		writers[i] = (struct writer){a, i, open_volume(a->e, "b")};
		assert_int_equal(quire_co_spawn(a->e->loop, run_writer, &writers[i]), 0);
	}
	while (a->n_running > 0)
		(void)quire_co_yield();
	for (unsigned i = 0; i < N_WRITERS; i++)
		quire_volume_close(writers[i].v);
}

/* A volume of that part of what may be live, all of it written. */
static void fill_up(struct ageing *a, unsigned percent)
{
	struct quire_volume_options o = {.size = sizeof(o)};

	assert_int_equal(env_format(a->e), 0);
	assert_int_equal(env_open(a->e), 0);
	a->n_blocks = (uint64_t)a->e->volumes->most_blocks * percent / 100 / N_WRITERS * N_WRITERS;
	assert_true(a->n_blocks > 0 && a->n_blocks <= MOST_BLOCKS);
	o.size_bytes = a->n_blocks * BLOCK;
	assert_int_equal(quire_volume_create(a->e->volumes, "b", &o), 0);
	struct quire_volume *v = open_volume(a->e, "b");
	for (uint64_t lba = 0; lba < a->n_blocks; lba++) {
		assert_int_equal(put(v, lba * BLOCK, BLOCK, what_of(lba, 1), 0), 0);
		a->written[lba] = a->done[lba] = 1;
	}
	assert_int_equal(quire_volume_flush(v, NULL), 0);
	memcpy(a->durable, a->done, sizeof(a->durable));
	quire_volume_close(v);
}

/* What each block has is the last that was promised, or later. It is what it has from then on. */
static void look(struct ageing *a)
{
	struct quire_volume *v = open_volume(a->e, "b");

	for (uint64_t lba = 0; lba < a->n_blocks; lba++) {
		uint32_t times = a->durable[lba];
		while (times <= a->written[lba] && !holds(v, lba * BLOCK, BLOCK, what_of(lba, times)))
			times++;
		assert_true(times <= a->written[lba]);
		a->durable[lba] = a->done[lba] = a->written[lba] = times;
	}
	quire_volume_close(v);
}

static void run_in(void (*fn)(struct env *e, void *arg), uint64_t seed, uint64_t n_units, const struct sim_faults *faults)
{
	struct ageing *a = calloc(1, sizeof(*a));
	struct env e;

	assert_non_null(a);
	a->e = &e;
	a->random = seed;
	env_init(&e, seed, n_units, faults);
	env_run(&e, fn, a);
	env_fini(&e);
	free(a);
}

static void run(void (*fn)(struct env *e, void *arg), uint64_t seed, const struct sim_faults *faults)
{
	run_in(fn, seed, AGED_UNITS, faults);
}

/* ---- no error ---- */

static void age(struct env *e, void *arg)
{
	struct ageing *a = arg;
	struct quire_volumes_stat stat;

	fill_up(a, 95);
	a->n_per_writer = 2 * a->n_blocks / N_WRITERS;
	overwrite(a);
	assert_int_equal(a->error, 0);
	assert_int_equal(a->n_failed, 0);
	assert_int_equal(quire_volumes_stat(e->volumes, &stat), 0);
	assert_true(stat.n_cleaned > 0);
	reopen(e);
	memcpy(a->durable, a->done, sizeof(a->durable));
	look(a);
	assert_int_equal(env_check(e, true), 0);
	assert_int_equal(quire_volume_rm(e->volumes, "b"), 0);
	assert_int_equal(live_blocks(e), 0);
	assert_int_equal(env_close(e), 0);
}

static void writers_wait_for_cleaning(void **state)
{
	const struct sim_faults faults = {.max_delay_turns = 2};

	(void)state;
	run(age, 3, &faults);
}

/* ---- 80 % of a class ---- */

/* The next part that nobody fills: blocks as what_of says of those that were written once. */
static int fill_next(struct ageing *a, struct quire_volume *v, uint8_t *buf)
{
	uint64_t lba = a->next, n = a->n_blocks - lba < FILL_BLOCKS ? a->n_blocks - lba : FILL_BLOCKS;
	struct iovec iov = {buf, (size_t)n * BLOCK};

	a->next += n;
	for (uint64_t i = 0; i < n; i++) {
		fill(buf + i * BLOCK, BLOCK, what_of(lba + i, 1));
		a->written[lba + i] = a->done[lba + i] = 1;
	}
	return quire_volume_write(v, lba * BLOCK, &iov, 1, 0, NULL);
}

static void run_filler(void *arg)
{
	struct writer *w = arg;
	struct ageing *a = w->a;
	uint8_t *buf = malloc((size_t)FILL_BLOCKS * BLOCK);

	while (a->error == 0 && a->next < a->n_blocks)
		a->error = fill_next(a, w->v, buf);
	free(buf);
	a->n_running--;
}

/* In order, several parts at a time, as copying an image does. */
static void fill_in_order(struct ageing *a)
{
	struct writer fillers[N_FILLERS];
	struct quire_volume *v = open_volume(a->e, "b");

	a->n_running = N_FILLERS;
	for (unsigned i = 0; i < N_FILLERS; i++) {
		fillers[i] = (struct writer){a, i, v};
		assert_int_equal(quire_co_spawn(a->e->loop, run_filler, &fillers[i]), 0);
	}
	while (a->n_running > 0)
		(void)quire_co_yield();
	assert_int_equal(a->error, 0);
	assert_int_equal(quire_volume_flush(v, NULL), 0);
	quire_volume_close(v);
}

/* Were each victim as full as all of the class is, cleaning would write the whole over what is left for each block; the emptiest are taken, so it is less,
 * with heads, pages of the map and the store's own. */
static double bound(const struct env *e, uint64_t n_blocks)
{
	struct quire_volumes_stat stat;

	assert_int_equal(quire_volumes_stat(e->volumes, &stat), 0);
	double used = (double)n_blocks / (double)(stat.n_segments * group_holds(e->volumes));
	return 1 / (1 - used);
}

static void fill_and_overwrite(struct env *e, void *arg)
{
	struct ageing *a = arg;
	struct quire_volume_options o = {.size = sizeof(o)};

	e->segment_bytes = 0;
	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	a->n_blocks = CLASS_UNITS * 8 / 10 / N_WRITERS * N_WRITERS;
	o.size_bytes = a->n_blocks * BLOCK;
	assert_int_equal(quire_volume_create(e->volumes, "b", &o), 0);
	fill_in_order(a);
	uint64_t filled = sim_n_written_bytes(e->sim);
	a->n_per_writer = random_count(a->n_blocks / 4, 2 * a->n_blocks) / N_WRITERS;
	overwrite(a);
	assert_int_equal(a->error, 0);
	assert_int_equal(a->n_failed, 0);
	double each = (double)(sim_n_written_bytes(e->sim) - filled) / (double)(a->n_per_writer * N_WRITERS * BLOCK);
	print_message("overwritten: %.2f bytes for each, of %.2f at most\n", each, bound(e, a->n_blocks));
	assert_true(each < bound(e, a->n_blocks));
	memcpy(a->durable, a->done, sizeof(a->durable));
	look(a);
	assert_int_equal(env_check(e, true), 0);
	assert_int_equal(env_close(e), 0);
}

static void four_fifths_of_a_class_are_filled_and_overwritten(void **state)
{
	(void)state;
	run_in(fill_and_overwrite, 5, CLASS_UNITS, NULL);
}

/* ---- cuts ---- */

static void age_and_cut(struct env *e, void *arg)
{
	struct ageing *a = arg;
	unsigned n_cuts = 0;

	fill_up(a, 85);
	a->n_per_writer = a->n_blocks / N_WRITERS;
	a->flush_each = 7;
	overwrite(a); /* there is nothing free by then that was not cleaned */
	assert_int_equal(a->error, 0);
	for (unsigned i = 0; i < 12; i++) {
		sim_cut_at(e->sim, sim_n_events(e->sim) + 20 + random_next(&a->random) % 600, (unsigned)(random_next(&a->random) % 4));
		overwrite(a);
		assert_int_equal(a->error, 0);
		n_cuts += sim_is_cut(e->sim);
		(void)env_close(e);
		sim_cut_at(e->sim, UINT64_MAX, 0);
		int rc = env_open(e);
		if (rc < 0)
			print_message("  %s\n", e->err.text);
		assert_int_equal(rc, 0);
		look(a);
		assert_int_equal(env_check(e, true), 0);
	}
	assert_true(n_cuts > 6);
	assert_int_equal(quire_volume_rm(e->volumes, "b"), 0);
	assert_int_equal(live_blocks(e), 0);
	assert_int_equal(env_close(e), 0);
}

static void a_cut_while_it_is_cleaned_loses_nothing(void **state)
{
	const struct sim_faults faults = {.max_delay_turns = 2, .cut_ends_io = true};
	uint64_t seed = random_seed(), n = random_count(getenv("QUIRE_SANITIZED") != NULL ? 1 : 2, 20);

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++)
		run(age_and_cut, seed + i, &faults);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers_wait_for_cleaning),
		cmocka_unit_test(four_fifths_of_a_class_are_filled_and_overwritten),
		cmocka_unit_test(a_cut_while_it_is_cleaned_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
