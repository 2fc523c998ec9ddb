/* threads_test.c - a store on a real file and who uses it at the same time: plain threads and a loop's coroutines, all at
 * once, what each did being there after a reopen; who misses a round of reclaiming; two loops, one waiting for what
 * the other reads. */
#include "store_env.h"

#include "../../src/loop/loop.h"
#include "../../src/store/store_internal.h"

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

static void begin(struct shared *s)
{
	const char *dir = getenv("TMPDIR");

	snprintf(s->path, sizeof(s->path), "%s/quire-store-%d", dir != NULL ? dir : "/tmp", (int)getpid());
	budget_init(&s->e.budget, 64u << 20);
	assert_int_equal(service_get(&s->e.loop, NULL), 0);
	open_store(s, DEVICE_CREATE, 512u << 20, true);
}

static void end(struct shared *s)
{
	service_put();
	unlink(s->path);
	assert_int_equal(budget_used(&s->e.budget), 0);
}

static void test_threads_and_coroutines(void **state)
{
	static struct shared s;
	static struct actor actors[N_THREADS + N_COROUTINES];
	pthread_t threads[N_THREADS];
	struct quire_loop *loop;

	begin(&s);
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
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
	end(&s);
}

/* ---- space on its way back ---- */

/* Who counted the rounds, then found no space, looks again if one ended meanwhile. */
static void test_a_round_that_ended_is_not_missed(void **state)
{
	static struct shared s;

	begin(&s);
	uint64_t id = (uint64_t)env_put(&s.e, 0, 10 * PAGE);
	store_settle(s.e.store);
	uint64_t n_rounds = reclaim_n_rounds(s.e.store);
	assert_false(reclaim_wait_round(s.e.store, n_rounds));
	assert_int_equal(store_apply(s.e.store, NULL, 0, &id, 1), 0);
	store_settle(s.e.store);
	assert_true(reclaim_wait_round(s.e.store, n_rounds));
	assert_false(reclaim_wait_round(s.e.store, reclaim_n_rounds(s.e.store)));
	assert_int_equal(store_close(s.e.store), 0);
	end(&s);
}

/* ---- two loops ---- */

struct reader {
	struct object_read read;
	struct quire_loop *loop;
	void *buf;
	int result;
	bool done;
};

static void reader_done(struct object_read *read, int result)
{
	struct reader *r = (struct reader *)read;

	r->result = result;
	r->done = true;
}

static void reader_start(void *arg)
{
	struct reader *r = arg;

	object_read_start(r->loop, &r->read);
}

static void reader_init(struct reader *r, struct object *o)
{
	r->buf = aligned_alloc(PAGE, PAGE);
	assert_non_null(r->buf);
	r->read = (struct object_read){
		.object = o, .len_bytes = PAGE, .buf = r->buf, .buffer_slot = -1, .done = reader_done,
	};
	assert_int_equal(quire_loop_create(NULL, &r->loop, NULL), 0);
	assert_int_equal(quire_co_spawn(r->loop, reader_start, r), 0);
}

/* The second loop has read its page, and nothing keeps it but that the first, which does not turn, has not
 * read the checksums yet. False: the first was so fast that it had. */
static bool second_waits_for_first(struct object *o)
{
	struct reader readers[2] = {{.done = false}};

	for (unsigned i = 0; i < 2; i++)
		reader_init(&readers[i], o);
	assert_true(quire_loop_poll(readers[0].loop) >= 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_true(quire_loop_poll(readers[1].loop) >= 0);
		usleep(1000);
	}
	bool waits = !readers[0].done && !readers[1].done;
	if (waits)
		assert_int_equal(quire_loop_destroy(readers[1].loop), -EBUSY);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(quire_loop_run(readers[i].loop), 0);
		assert_true(readers[i].done);
		assert_int_equal(readers[i].result, 0);
		assert_int_equal(quire_loop_destroy(readers[i].loop), 0);
		free(readers[i].buf);
	}
	return waits;
}

static void test_a_loop_that_waits_for_another_s_read_can_not_end(void **state)
{
	static struct shared s;
	bool waited = false;

	begin(&s);
	int64_t id = env_put(&s.e, 0, 10 * PAGE);
	assert_true(id > 0);
	assert_int_equal(store_close(s.e.store), 0);
	for (unsigned i = 0; i < 50 && !waited; i++) {
		struct object *o;

		open_store(&s, 0, 0, false);
		assert_int_equal(object_get(s.e.store, (uint64_t)id, &o), 0);
		waited = second_waits_for_first(o);
		object_put(o);
		assert_int_equal(store_close(s.e.store), 0);
	}
	assert_true(waited);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_and_coroutines),
		cmocka_unit_test(test_a_round_that_ended_is_not_missed),
		cmocka_unit_test(test_a_loop_that_waits_for_another_s_read_can_not_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
