/* Who appends for all, and who puts himself first meanwhile; and which record it goes into. */
#include "volume_env.h"

#include "../../src/journal/frame.h"
#include "../../src/volume/volume_internal.h"
#include "../../src/volume/space.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static struct env *refuses; /* the next writer: upkeep puts itself first then */
static struct request upkeep;

bool __real_space_is_writers(struct quire_volumes *g);
bool __wrap_space_is_writers(struct quire_volumes *g);

static void run_upkeep(void *arg)
{
	(void)arg;
	upkeep.result = group_append(&upkeep);
}

bool __wrap_space_is_writers(struct quire_volumes *g)
{
	struct env *e = refuses;

	if (e == NULL)
		return __real_space_is_writers(g);
	refuses = NULL;
	upkeep = (struct request){.kind = REQUEST_MOVE, .group = g, .is_upkeep = true};
	assert_int_equal(quire_co_spawn(e->loop, run_upkeep, NULL), 0);
	while (g->first_pending != &upkeep)
		(void)quire_co_yield();
	return false;
}

static void refuse_one(struct env *e, void *arg)
{
	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	upkeep.result = 1;
	refuses = e;
	assert_int_equal(put(v, 0, BLOCK, 1, 0), 0);
	assert_null(refuses);
	assert_true(upkeep.done);
	assert_int_equal(upkeep.result, 0);
	assert_true(holds(v, 0, BLOCK, 1));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_writer_is_refused_and_not_the_upkeep_that_came_first(void **state)
{
	struct env e;

	(void)state;
	env_init(&e, 1, ENV_UNITS, NULL);
	env_run(&e, refuse_one, NULL);
	env_fini(&e);
}

/* ---- records that are made longer ---- */

#define N_WRITES 40u

static uint64_t n_records(const struct env *e)
{
	return journal_n_records(e->volumes->journal);
}

static void write_and_count(struct env *e, void *arg)
{
	const bool *durable = arg;

	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	uint64_t before = n_records(e);
	for (uint64_t i = 0; i < N_WRITES; i++)
		assert_int_equal(put(v, 3 * i * BLOCK, BLOCK, i + 1, *durable ? QUIRE_VOLUME_FUA : 0), 0);
	uint64_t n = n_records(e) - before;
	print_message("%u writes, %s: %llu records\n", N_WRITES, *durable ? "durable" : "volatile", (unsigned long long)n);
	assert_true(*durable ? n >= N_WRITES : n < N_WRITES / 4);
	/* The same block again, in one record: the later one counts; and so do zeros. */
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(put(v, 0, BLOCK, 100 + i, 0), 0);
	assert_int_equal(quire_volume_zero(v, 3 * BLOCK, BLOCK, 0, NULL), 0);
	assert_int_equal(quire_volume_flush(v, NULL), 0);
	quire_volume_close(v);
	for (unsigned life = 0; life < 2; life++) {
		v = open_volume(e, "a");
		assert_true(holds(v, 0, BLOCK, 104));
		assert_true(holds(v, 3 * BLOCK, BLOCK, 0));
		for (uint64_t i = 2; i < N_WRITES; i++)
			assert_true(holds(v, 3 * i * BLOCK, BLOCK, i + 1));
		quire_volume_close(v);
		if (life == 0)
			reopen(e);
	}
	assert_int_equal(env_check(e, true), 0);
	assert_int_equal(env_close(e), 0);
}

static void run(bool durable)
{
	struct env e;

	env_init(&e, 1, 16384, NULL);
	e.segment_bytes = 1u << 20;
	env_run(&e, write_and_count, &durable);
	env_fini(&e);
}

static void volatile_writes_share_records(void **state)
{
	(void)state;
	run(false);
}

static void durable_ones_have_their_own(void **state)
{
	(void)state;
	run(true);
}

/* ---- beside a checkpoint ---- */

struct beside {
	struct env *e;
	bool ends;
	int error;
};

static void make_checkpoints(void *arg)
{
	struct beside *b = arg;

	for (unsigned i = 0; i < 20 && b->error == 0; i++)
		b->error = quire_volumes_checkpoint(b->e->volumes);
	b->ends = true;
}

/* What is written while a checkpoint begins is behind its place: it is there when the process has died. */
static void write_beside(struct env *e, void *arg)
{
	struct beside b = {.e = e};
	uint64_t n = 0;

	(void)arg;
	begin(e);
	struct quire_volume *v = open_volume(e, "a");
	assert_int_equal(quire_co_spawn(e->loop, make_checkpoints, &b), 0);
	for (; !b.ends; n++) {
		assert_int_equal(put(v, n % 500 * BLOCK, BLOCK, n + 1, 0), 0);
		(void)quire_co_yield();
	}
	assert_int_equal(b.error, 0);
	assert_int_equal(quire_volume_flush(v, NULL), 0);
	assert_true(n > 100);
	quire_volume_close(v);
	sim_cut_at(e->sim, sim_n_events(e->sim), 0);
	(void)env_close(e);
	sim_cut_at(e->sim, UINT64_MAX, 0);
	assert_int_equal(env_open(e), 0);
	v = open_volume(e, "a");
	for (uint64_t i = n < 500 ? 0 : n - 500; i < n; i++)
		assert_true(holds(v, i % 500 * BLOCK, BLOCK, i + 1));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void what_is_written_beside_a_checkpoint_is_behind_it(void **state)
{
	const struct sim_faults faults = {.max_delay_turns = 3, .cut_ends_io = true};
	struct env e;

	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		env_init(&e, seed, ENV_UNITS, &faults);
		env_run(&e, write_beside, NULL);
		env_fini(&e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_writer_is_refused_and_not_the_upkeep_that_came_first),
		cmocka_unit_test(volatile_writes_share_records),
		cmocka_unit_test(durable_ones_have_their_own),
		cmocka_unit_test(what_is_written_beside_a_checkpoint_is_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
