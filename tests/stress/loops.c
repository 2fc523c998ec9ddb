/* loops.c - threads that run loops full of coroutines. */
#include "stress.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define N_COROUTINES 20
#define STEPS_A_LIFE 150

struct stress_coroutine {
	struct walker walker;
	struct quire_loop *loop;
	unsigned *n_alive;
};

struct quire_loop *stress_loop(struct actor *a, bool suspend)
{
	struct quire_loop_options o = {
		.size = sizeof(o),
		.engine = options.engine,
		.depth = 8u << chance_below(&a->chance, 4),
		.n_threads = 2 + chance_below(&a->chance, 3),
		.suspend_faults = suspend,
	};
	struct quire_loop *loop;
	struct quire_error err;

	CHECK(quire_loop_create(&o, &loop, &err) == 0, "%s", err.text);
	return loop;
}

/* Several at once, waited for in any order, some of them cancelled. */
static void await_several(struct walker *w)
{
	struct quire_op ops[3];
	struct pins pins[3];
	unsigned n_destroys[3], n = 0;
	bool canceled[3] = {false};

	doing(w->actor, "awaiting several");
	for (unsigned i = 0; i < 3; i++) {
		struct slot *s = slot_pick(&w->chance);
		struct view *v = slot_enter(s);

		if (v == NULL)
			continue;
		if (pins_pick(&pins[n], s, v, &w->chance, 8)) {
			n_destroys[n] = atomic_load(&s->n_destroys);
			quire_op_init(&ops[n]);
			int rc = quire_map_want(v->map, pins[n].ranges, pins[n].n, 0, &ops[n]);
			if (rc == 0)
				n++;
			else
				result_check(&pins[n], rc, false, false, n_destroys[n]);
		}
		slot_leave(s);
	}
	atomic_fetch_add(&w->actor->n_started, n);
	for (unsigned i = 0; i < n; i++)
		if (one_in(&w->chance, 3)) {
			canceled[i] = true;
			(void)quire_op_cancel(&ops[i]);
		}
	for (unsigned i = n; i-- > 0;) {
		int64_t result = quire_await(&ops[i]);

		CHECK(result == ops[i].result, "await");
		result_check(&pins[i], result, false, canceled[i], n_destroys[i]);
		atomic_fetch_add(&w->actor->n_completed, 1);
	}
}

static void coroutine_main(void *arg)
{
	struct stress_coroutine *co = arg;
	struct walker *w = &co->walker;

	for (unsigned i = 0; i < STEPS_A_LIFE && !atomic_load(&stopping); i++) {
		unsigned what = chance_below(&w->chance, 100);

		if (what < 80)
			walker_step(w);
		else if (what < 88)
			await_several(w);
		else if (what < 94)
			CHECK(quire_co_yield() == 0, "yield");
		else
			CHECK(quire_sleep_ns(chance_below(&w->chance, 300000), NULL) == 0, "sleep");
	}
	walker_end(w);
	(*co->n_alive)--;
}

static void run_coroutines(struct actor *a, bool suspend)
{
	struct stress_coroutine *all = calloc(N_COROUTINES, sizeof(*all));
	int scratch_fd = scratch_open();

	CHECK(all != NULL, "memory");
	while (!atomic_load(&stopping)) {
		struct quire_loop *loop = stress_loop(a, suspend);
		unsigned n_alive = N_COROUTINES;

		for (unsigned i = 0; i < N_COROUTINES; i++) {
			memset(&all[i], 0, sizeof(all[i]));
			all[i].walker = (struct walker){.actor = a, .chance = {chance_next(&a->chance)},
			                                .scratch_fd = scratch_fd};
			all[i].loop = loop;
			all[i].n_alive = &n_alive;
			CHECK(quire_co_spawn(loop, coroutine_main, &all[i]) == 0, "spawn");
		}
		CHECK(quire_loop_run(loop) == 0, "run");
		CHECK(n_alive == 0, "%u coroutines never ended", n_alive);
		/* A feed may be on its way to a loop that has just ended: one more run takes it. */
		int rc;
		while ((rc = quire_loop_destroy(loop)) == -EBUSY)
			CHECK(quire_loop_run(loop) == 0, "run");
		CHECK(rc == 0, "destroy: %d", rc);
	}
	close(scratch_fd);
	free(all);
}

void actor_coroutines(struct actor *a)
{
	run_coroutines(a, false);
}

void actor_suspending(struct actor *a)
{
	run_coroutines(a, true);
}
