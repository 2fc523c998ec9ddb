/* threads_test.c - plain threads and a loop's coroutines use one store on a real file, all at once; what each did is there
 * after a reopen. */
#include "store_env.h"

#include "../../src/loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_THREADS 4u
#define N_COROUTINES 4u
#define N_ROUNDS 60u
#define N_KEPT 512u

struct shared {
	struct env e;
	char path[300];
	uint64_t ids[N_THREADS + N_COROUTINES][N_KEPT], lens[N_THREADS + N_COROUTINES][N_KEPT];
	unsigned n[N_THREADS + N_COROUTINES];
};

struct actor {
	struct shared *s;
	unsigned no;
	unsigned n_wrong;
};

static void expect(struct actor *a, int rc)
{
	a->n_wrong += rc != 0; /* no assertions: they may jump out of the main thread only */
}

static void act(struct actor *a)
{
	struct shared *s = a->s;
	uint64_t random = a->no + 1, *ids = s->ids[a->no], *lens = s->lens[a->no];
	unsigned n = 0;

	for (unsigned i = 0; i < N_ROUNDS; i++) {
		unsigned k = 1 + (unsigned)(env_random(&random) % 4), first = n;
		for (; k > 0; k--, n++) {
			lens[n] = env_random(&random) % (i % 8 == 0 ? 400000 : 9000);
			expect(a, object_begin(s->e.store, 0, 0, 0, 0, &ids[n]));
			expect(a, env_append(&s->e, ids[n], 0, lens[n]));
		}
		expect(a, store_apply(s->e.store, ids + first, n - first, NULL, 0));
		expect(a, env_verify(&s->e, ids[n - 1], lens[n - 1]));
		if (i % 3 == 0) {
			n--;
			expect(a, store_apply(s->e.store, NULL, 0, &ids[n], 1));
		}
	}
	s->n[a->no] = n;
}

static void *act_in_thread(void *arg)
{
	act(arg);
	return NULL;
}

static void act_in_coroutine(void *arg)
{
	act(arg);
}

static void open_store(struct shared *s, unsigned flags, uint64_t bytes, bool format)
{
	struct store_media media = {{NULL}};
	struct store_config config = {.budget = &s->e.budget, .service = s->e.loop, .compact_slack_bytes = 4096};
	struct quire_error err = {0};

	if (device_open(s->path, flags, bytes, s->e.loop, &media.classes[0], &err) < 0 ||
	    (format && store_format(&media, &config, &err) < 0) || store_open(&media, &config, &s->e.store, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_threads_and_coroutines(void **state)
{
	static struct shared s;
	static struct actor actors[N_THREADS + N_COROUTINES];
	pthread_t threads[N_THREADS];
	struct quire_loop *loop;
	const char *dir = getenv("TMPDIR");

	snprintf(s.path, sizeof(s.path), "%s/quire-store-%d", dir != NULL ? dir : "/tmp", (int)getpid());
	budget_init(&s.e.budget, 64u << 20);
	assert_int_equal(service_get(&s.e.loop, NULL), 0);
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	open_store(&s, DEVICE_CREATE, 512u << 20, true);
	for (unsigned i = 0; i < N_THREADS + N_COROUTINES; i++) {
		actors[i] = (struct actor){.s = &s, .no = i};
		if (i < N_THREADS)
			assert_int_equal(pthread_create(&threads[i], NULL, act_in_thread, &actors[i]), 0);
		else
			assert_int_equal(quire_co_spawn(loop, act_in_coroutine, &actors[i]), 0);
	}
	assert_int_equal(quire_loop_run(loop), 0);
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < N_THREADS + N_COROUTINES; i++) {
			assert_int_equal(actors[i].n_wrong, 0);
			for (unsigned k = 0; k < s.n[i]; k++)
				assert_int_equal(env_verify(&s.e, s.ids[i][k], s.lens[i][k]), 0);
		}
		assert_int_equal(env_check(&s.e, true), 0);
		assert_int_equal(store_close(s.e.store), 0);
		if (round == 0)
			open_store(&s, 0, 0, false);
	}
	assert_int_equal(quire_loop_destroy(loop), 0);
	service_put();
	unlink(s.path);
	assert_int_equal(budget_used(&s.e.budget), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_and_coroutines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
