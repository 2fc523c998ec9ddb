/* Random histories of volumes on a simulated disk: see history.h. Each is of some lives, which end by a close or by a cut of the
 * power, at any write or flush; then the group is opened again, and each family must be in a state that was promised, or came after.
 * The store is checked as well. A seed repeats a history. */
#include "history.h"
#include "volume_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_UNITS 800u /* full now and then */

static struct sim_faults lasting; /* in each life */

static bool is_cut(void *arg)
{
	struct env *e = arg;

	return sim_is_cut(e->sim);
}

static struct env *env_of(const struct history *h)
{
	return h->arg;
}

/* ---- a life ---- */

static void run_family(void *arg)
{
	struct family *f = arg;

	while (f->n_left > 0 && !f->h->dead) {
		f->n_left--;
		volume_step(f);
	}
	f->h->n_working--;
}

static void live(struct history *h)
{
	h->n_lives++;
	h->n_working = h->n_families;
	for (unsigned i = 0; i < h->n_families; i++) {
		h->families[i].n_left = 10 + (unsigned)rnd(h, 50);
		want(h, quire_co_spawn(env_of(h)->loop, run_family, &h->families[i]) == 0);
	}
	while (h->n_working > 0)
		(void)quire_co_yield();
}

/* In some lives I/O fails, now and then; then the log may stop, or a checkpoint not be made. */
static void plan_faults(struct history *h, bool faulty)
{
	struct sim_faults faults = lasting;

	h->faulty = faulty;
	if (faulty) {
		uint32_t rate = UINT32_MAX / (uint32_t)(50 + rnd(h, 400));
		faults.eio_write = rnd(h, 2) == 0 ? rate : 0;
		faults.eio_flush = rnd(h, 2) == 0 ? rate : 0;
		faults.eio_read = rnd(h, 2) == 0 ? rate : 0;
	}
	sim_set_faults(env_of(h)->sim, &faults);
}

static void plan_cut(struct history *h)
{
	if (rnd(h, 3) != 0)
		sim_cut_at(env_of(h)->sim, sim_n_events(env_of(h)->sim) + rnd(h, 150), rnd(h, 4));
}

/* Opens; the power may be cut in there, too. */
static void open_group(struct history *h)
{
	int rc;

	while ((rc = env_open(env_of(h))) < 0) {
		if (!sim_is_cut(env_of(h)->sim))
			(void)fprintf(stderr, "%d: %s\n", rc, env_of(h)->err.text);
		want(h, sim_is_cut(env_of(h)->sim));
		h->n_cuts++;
	}
	h->volumes = env_of(h)->volumes;
	h->dead = false;
	for (unsigned i = 0; i < h->n_families && !h->dead; i++)
		family_settle(&h->families[i]);
}

/* Nothing has anything any more. */
static void remove_all(struct history *h)
{
	struct quire_volumes *volumes = h->volumes;
	struct quire_volumes_stat stat;
	struct quire_volume_info info;

	for (int pass = 0; pass < 2; pass++) /* snapshots first */
		for (uint32_t id = 0; quire_volume_ls(volumes, id, &info) == 1; id = info.id)
			if (info.snapshot || pass == 1)
				want_done(h, quire_volume_rm(volumes, info.name));
	want_done(h, quire_volumes_checkpoint(volumes));
	want(h, quire_volumes_stat(volumes, &stat) == 0);
	want(h, stat.n_volumes == 0 && stat.n_snapshots == 0 && stat.live_bytes == 0 && stat.reserved_bytes == 0);
}

static void run_history(struct env *e, void *arg)
{
	struct history *h = arg;
	unsigned n_lives = 2 + (unsigned)rnd(h, 4);

	want(h, env_format(e) == 0);
	for (unsigned i = 0; i < n_lives; i++) {
		if (i > 0)
			plan_cut(h);
		open_group(h);
		plan_faults(h, i > 0 && rnd(h, 4) == 0);
		if (!h->dead)
			live(h);
		h->n_cuts += sim_is_cut(e->sim);
		struct quire_volumes_stat stat;
		want(h, quire_volumes_stat(e->volumes, &stat) == 0);
		h->n_moved += stat.moved_bytes / BLOCK;
		h->n_checkpoints += stat.n_checkpoints;
		int rc = env_close(e);
		want(h, rc == 0 || h->faulty || sim_is_cut(e->sim));
		for (unsigned k = 0; k < h->n_families && rc == 0 && !sim_is_cut(e->sim); k++)
			family_promise(&h->families[k], h->families[k].n_done);
		plan_faults(h, false);
	}
	sim_cut_at(e->sim, UINT64_MAX, 0);
	open_group(h);
	want(h, !h->dead);
	int64_t n_found = env_check(e, true);
	want(h, n_found == 0);
	int rc = quire_volumes_checkpoint(e->volumes);
	want(h, rc == 0 || rc == -ENOSPC);
	for (unsigned k = 0; k < h->n_families && rc == 0; k++)
		family_count(&h->families[k]);
	remove_all(h);
	want(h, env_close(e) == 0);
}

static void one_history(uint64_t seed, struct history *totals)
{
	const struct sim_faults faults = {.max_delay_turns = (unsigned)(seed % 4), .cut_ends_io = true,
	                                  .tear_4k = seed % 5 == 0, .ordered = seed % 7 == 0};
	struct env e;
	struct history h = {.seed = seed, .random = seed, .next_tag = 1, .power_is_gone = is_cut, .arg = &e};

	lasting = faults;
	env_init(&e, seed, LEAST_UNITS + seed * 7919 % 1200, &faults);
	e.checkpoint_bytes = 65536u << rnd(&h, 6);
	h.n_families = 1 + (unsigned)rnd(&h, MAX_FAMILIES);
	for (unsigned i = 0; i < h.n_families; i++)
		family_init(&h.families[i], &h, i);
	env_run(&e, run_history, &h);
	env_fini(&e);
	for (unsigned i = 0; i < h.n_families; i++)
		free(h.families[i].states);
	totals->n_steps += h.n_steps;
	totals->n_lives += h.n_lives;
	totals->n_cuts += h.n_cuts;
	totals->n_full += h.n_full;
	totals->n_moved += h.n_moved;
	totals->n_checkpoints += h.n_checkpoints;
}

static void random_histories(void **state)
{
	uint64_t seed = random_seed(), n = random_count(40, 10000);
	struct history totals = {0};

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++)
		one_history(seed + i, &totals);
	print_message("  %llu histories, %llu lives, %llu steps, %llu cuts, %llu times full, %llu checkpoints, %llu blocks moved\n",
	              (unsigned long long)n, (unsigned long long)totals.n_lives, (unsigned long long)totals.n_steps,
	              (unsigned long long)totals.n_cuts, (unsigned long long)totals.n_full,
	              (unsigned long long)totals.n_checkpoints, (unsigned long long)totals.n_moved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_histories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
