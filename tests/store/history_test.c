/* history_test.c - random histories against a model, each with power cuts, deaths of the process, and a device that is
 * slow, reorders and tears; after each reopening everything must be as some order of what was asked for says.
 *
 * A history: several coroutines begin, append, commit many, delete, abort, read, hold; classes grow; the catalogue is
 * compacted often. QUIRE_TEST_SEED repeats one; QUIRE_TEST_HISTORIES says how many; QUIRE_TEST_LONG: 100,000.
 */
#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N_WORKERS 3u

struct history {
	struct env e;
	struct model m;
	uint64_t random;
	bool failed;         /* the power is gone: no more steps in this life */
	unsigned n_working;  /* workers that have not ended */
	unsigned n_steps;    /* left in this life, for all workers */
	struct object *held[4];
	uint64_t held_len[4];
	uint64_t n_cuts, n_transactions, n_compactions, n_lives;
};

static uint64_t rnd(struct history *h, uint64_t n)
{
	return env_random(&h->random) % n;
}

/* True if it is the cut's doing. */
static bool broken(struct history *h, int rc)
{
	if (rc == -EIO) {
		bool cut = false;
		for (unsigned i = 0; i < STORE_N_CLASSES; i++)
			cut |= h->e.sims[i] != NULL && sim_is_cut(h->e.sims[i]);
		if (!cut)
			fail_msg("-EIO without a cut");
		h->failed = true;
	}
	return rc == -EIO;
}

static uint64_t random_len(struct history *h)
{
	switch (rnd(h, 8)) {
	case 0:
		return 0;
	case 1:
		return rnd(h, 64) * 1024;
	case 2:
		return rnd(h, 2) * 70000 + rnd(h, 60000);
	default:
		return rnd(h, 9000);
	}
}

/* ---- steps ---- */

static struct model_object *pick(struct history *h, enum model_state state)
{
	if (h->m.n == 0)
		return NULL;
	for (unsigned n = 0, i = (unsigned)rnd(h, h->m.n); n < h->m.n; n++, i++) {
		struct model_object *o = &h->m.objects[i % h->m.n];
		if (o->state == state && o->tx < 0)
			return o;
	}
	return NULL;
}

static void step_begin(struct history *h)
{
	uint64_t id, max_id = h->m.max_id, expected = rnd(h, 4) == 0 ? rnd(h, 100000) : 0;
	unsigned cls = h->e.sims[1] != NULL && rnd(h, 3) == 0;
	int rc = object_begin(h->e.store, cls, expected, ENV_SHIFT(cls), ENV_TAG(cls), &id);

	if (broken(h, rc) || rc == -ENOSPC)
		return;
	assert_int_equal(rc, 0);
	(void)max_id;
	model_begun(&h->m, id, cls);
}

/* The object must not be used by another worker meanwhile: it is marked as if by a transaction. */
static void step_append(struct history *h)
{
	struct model_object *o = pick(h, MODEL_WRITING);

	if (o == NULL)
		return;
	uint64_t id = o->id, len = random_len(h), at = o->len_bytes;
	if (at > 300000)
		return;
	o->tx = 1000;
	int rc = env_append(&h->e, id, at, len);
	o = model_find(&h->m, id);
	if (broken(h, rc))
		return;
	o->tx = -1;
	assert_true(rc == 0 || rc == -ENOSPC);
	if (rc == 0)
		o->len_bytes += len;
}

static void step_abort(struct history *h)
{
	struct model_object *o = pick(h, MODEL_WRITING);

	if (o == NULL)
		return;
	o->state = MODEL_GONE;
	assert_int_equal(object_abort(h->e.store, o->id), 0);
}

static void step_apply(struct history *h)
{
	uint64_t commit[MODEL_MAX_NAMED], remove[MODEL_MAX_NAMED];
	unsigned n_commit = 0, n_remove = 0;
	unsigned want_commit = (unsigned)rnd(h, rnd(h, 4) == 0 ? MODEL_MAX_NAMED : 4);
	unsigned want_remove = (unsigned)rnd(h, rnd(h, 4) == 0 ? MODEL_MAX_NAMED : 3);
	struct model_object *o;

	while (n_commit < want_commit && (o = pick(h, MODEL_WRITING)) != NULL) {
		o->tx = 1000;
		commit[n_commit++] = o->id;
	}
	while (n_remove < want_remove && (o = pick(h, MODEL_COMMITTED)) != NULL) {
		o->tx = 1000;
		remove[n_remove++] = o->id;
	}
	int tx = model_asked(&h->m, commit, n_commit, remove, n_remove);
	int rc = store_apply(h->e.store, commit, n_commit, remove, n_remove);
	if (broken(h, rc))
		return;
	assert_true(rc == 0 || rc == -ENOSPC);
	model_answered(&h->m, tx, rc == 0);
	h->n_transactions++;
}

static void step_read(struct history *h)
{
	struct model_object *o = pick(h, MODEL_COMMITTED);

	if (o == NULL)
		return;
	uint64_t id = o->id;
	int rc = env_verify(&h->e, id, o->len_bytes);
	if (broken(h, rc))
		return;
	/* Another worker may have removed it just before it was looked for. */
	assert_int_equal(rc, 0);
}

static void let_go(struct history *h, unsigned slot)
{
	object_put(h->held[slot]);
	h->held[slot] = NULL;
}

static void step_hold(struct history *h)
{
	struct model_object *o = pick(h, MODEL_COMMITTED);
	unsigned slot = (unsigned)rnd(h, 4);

	if (h->held[slot] != NULL) {
		struct object *held = h->held[slot];
		void *buf = aligned_alloc(PAGE, PAGE);
		h->held[slot] = NULL;
		int rc = h->held_len[slot] == 0 ? 0 : object_read_wait(held, 0, 1, buf, NULL);
		if (!broken(h, rc))
			assert_int_equal(rc, 0);
		free(buf);
		object_put(held);
		return;
	}
	if (o == NULL)
		return;
	assert_int_equal(object_get(h->e.store, o->id, &h->held[slot]), 0);
	h->held_len[slot] = o->len_bytes;
}

static void step_grow(struct history *h)
{
	unsigned cls = h->e.sims[1] != NULL && rnd(h, 2) == 0;
	struct store_stat stat;

	store_stat(h->e.store, &stat);
	uint64_t bytes = stat.classes[cls].bytes + rnd(h, 64) * PAGE;
	if (bytes > 6000 * PAGE)
		return;
	int rc = store_class_grow(h->e.store, cls, bytes, NULL);
	if (broken(h, rc))
		return;
	/* Another worker was quicker, and made it larger. */
	assert_true(rc == 0 || (rc == -EINVAL && h->m.n_units[cls] > bytes / PAGE));
	if (rc == 0)
		h->m.n_units[cls] = bytes / PAGE;
}

static void step(struct history *h)
{
	unsigned what = (unsigned)rnd(h, 100);

	if (what < 25)
		step_begin(h);
	else if (what < 55)
		step_append(h);
	else if (what < 80)
		step_apply(h);
	else if (what < 85)
		step_abort(h);
	else if (what < 92)
		step_read(h);
	else if (what < 98)
		step_hold(h);
	else
		step_grow(h);
}

/* ---- a life: from an open to a close, or a cut ---- */

static void worker(void *arg)
{
	struct history *h = arg;

	while (!h->failed && h->n_steps > 0) {
		h->n_steps--;
		step(h);
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

	for (unsigned i = 0; i < 4; i++)
		if (h->held[i] != NULL)
			let_go(h, i);
	store_stat(e->store, &stat);
	h->n_compactions += stat.n_compactions;
	if (!h->failed && rnd(h, 4) == 0)
		model_verify(&h->m, e, 4);
	env_close(e);
}

static void live(struct history *h)
{
	struct env *e = &h->e;

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
	struct sim_faults faults = {.cut_ends_io = true};

	h->random = seed;
	faults.max_delay_turns = (unsigned)rnd(h, 4);
	faults.tear_4k = rnd(h, 2);
	faults.ordered = rnd(h, 8) == 0;
	faults.shorten = rnd(h, 2) == 0 ? 0 : UINT32_MAX / 8;
	const uint64_t n_units[STORE_N_CLASSES] = {400 + rnd(h, 1500), rnd(h, 2) * (256 + rnd(h, 500))};
	env_init(&h->e, seed, n_units, &faults);
	if (n_units[1] != 0 && rnd(h, 2) == 0) {
		sim_destroy(h->e.sims[1]);
		assert_int_equal(sim_create_pmem(n_units[1] * PAGE, seed, &faults, &h->e.sims[1]), 0);
	}
	h->e.slack_bytes = 1 + rnd(h, 8000);
	model_init(&h->m);
	env_run(&h->e, format, NULL);
	for (unsigned i = 1 + (unsigned)rnd(h, 4); i > 0; i--)
		live(h);
	env_run(&h->e, last_look, h);
	env_fini(&h->e);
	sum->n_cuts += h->n_cuts;
	sum->n_lives += h->n_lives;
	sum->n_transactions += h->n_transactions;
	sum->n_compactions += h->n_compactions;
	free(h);
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != 0 ? strtoull(text, NULL, 0) : otherwise;
}

static void test_histories(void **state)
{
	static struct history sum;
	bool is_long = getenv("QUIRE_TEST_LONG") != NULL;
	uint64_t n = number("QUIRE_TEST_HISTORIES", is_long ? 100000 : getenv("QUIRE_SANITIZED") != NULL ? 800 : 2500);
	uint64_t seed = number("QUIRE_TEST_SEED", (uint64_t)time(NULL) << 20);
	struct timespec begin, end;

	if (getenv("QUIRE_TEST_SEED") != NULL && getenv("QUIRE_TEST_HISTORIES") == NULL)
		n = 1;
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
