/* Loops: who may run them, when they end, tasks, timers, hooks. */
#include "on_both.h"
#include <stdatomic.h>
#include <sys/wait.h>

/* ---- life ---- */

static void an_empty_loop_ends_at_once(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	run(loop);
	run(loop);
	assert_ptr_equal(quire_loop_self(), NULL);
	destroy(loop);
	assert_int_equal(quire_loop_destroy(NULL), 0);
}

static void odd_options_are_refused(void **state)
{
	struct quire_loop *loop;
	struct quire_error err;
	struct quire_loop_options o = {.size = sizeof(o), .depth = 4097};
	assert_int_equal(quire_loop_create(&o, &loop, &err), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	o = (struct quire_loop_options){.size = 0};
	assert_int_equal(quire_loop_create(&o, &loop, NULL), -EINVAL);
	o = (struct quire_loop_options){.size = sizeof(o), .engine = 9};
	assert_int_equal(quire_loop_create(&o, &loop, NULL), -EINVAL);
	o = (struct quire_loop_options){.size = sizeof(o), .n_threads = 100000};
	assert_int_equal(quire_loop_create(&o, &loop, NULL), -EINVAL);
	/* An older program, whose structure ended earlier. */
	o = (struct quire_loop_options){.size = offsetof(struct quire_loop_options, depth), .depth = 4097};
	assert_int_equal(quire_loop_create(&o, &loop, NULL), 0);
	assert_int_equal(loop_depth(loop), 256);
	destroy(loop);
}

struct task_log {
	struct loop_task task;
	int *order;
	int *n;
	int id;
	struct quire_loop *loop;
};

static void log_task(struct loop_task *task)
{
	struct task_log *t = (struct task_log *)task;
	t->order[(*t->n)++] = t->id;
	assert_true(loop_is_mine(t->loop));
}

static void tasks_run_in_order_of_posting(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int order[100], n = 0;
	struct task_log tasks[100];
	for (int i = 0; i < 100; i++) {
		tasks[i] = (struct task_log){.order = order, .n = &n, .id = i, .loop = loop};
		loop_task_init(&tasks[i].task, log_task);
		loop_post(loop, &tasks[i].task);
	}
	assert_int_equal(quire_loop_destroy(loop), -EBUSY);
	run(loop);
	assert_int_equal(n, 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(order[i], i);
	destroy(loop);
}

/* A task that defers itself a while; the loop may not wait meanwhile. */
struct again {
	struct loop_task task;
	struct quire_loop *loop;
	int left;
};

static void defer_again(struct loop_task *task)
{
	struct again *a = (struct again *)task;
	if (a->left-- > 0)
		loop_defer(a->loop, task);
}

static void deferred_tasks_run_before_the_loop_waits(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct again a = {.loop = loop, .left = 1000};
	loop_task_init(&a.task, defer_again);
	loop_post(loop, &a.task);
	run(loop);
	assert_int_equal(a.left, -1);
	destroy(loop);
}

static void stop_task(struct loop_task *task)
{
	quire_loop_stop(quire_loop_self());
}

static void stop_before_run_and_within(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct loop_task task;
	loop_hold(loop);
	quire_loop_stop(loop);
	run(loop);
	loop_task_init(&task, stop_task);
	loop_post(loop, &task);
	run(loop);
	assert_int_equal(quire_loop_destroy(loop), -EBUSY);
	loop_release(loop);
	destroy(loop);
}

static void *run_main(void *arg)
{
	assert_int_equal(quire_loop_run(arg), 0);
	return NULL;
}

static void stop_from_another_thread(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct quire_loop *loop = loop_of(state, NULL);
		pthread_t thread;
		loop_hold(loop);
		pthread_create(&thread, NULL, run_main, loop);
		quire_loop_stop(loop);
		pthread_join(thread, NULL);
		loop_release(loop);
		destroy(loop);
	}
}

static atomic_int running_flag;

static void say_running(struct loop_task *task)
{
	atomic_store(&running_flag, 1);
}

static void the_owner_alone_may_run_or_poll(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct loop_task task;
	pthread_t thread;
	loop_hold(loop);
	atomic_store(&running_flag, 0);
	loop_task_init(&task, say_running);
	loop_post(loop, &task);
	pthread_create(&thread, NULL, run_main, loop);
	while (!atomic_load(&running_flag))
		;
	assert_int_equal(quire_loop_run(loop), -EBUSY);
	assert_int_equal(quire_loop_poll(loop), -EBUSY);
	assert_int_equal(quire_loop_destroy(loop), -EBUSY);
	assert_int_equal(quire_co_spawn(loop, (quire_co_fn)free, NULL), -EPERM);
	quire_loop_stop(loop);
	pthread_join(thread, NULL);
	assert_int_equal(quire_loop_run(loop), -EBUSY);
	loop_release(loop);
	destroy(loop);
}

static void run_inside(struct quire_op *op, void *arg)
{
	struct quire_loop **loops = arg;
	assert_int_equal(quire_loop_run(loops[0]), -EDEADLK);
	assert_int_equal(quire_loop_run(loops[1]), -EDEADLK);
	assert_int_equal(quire_loop_poll(loops[1]), -EDEADLK);
	assert_int_equal(quire_loop_destroy(loops[0]), -EBUSY);
	loops[1] = NULL;
}

static void running_a_loop_within_a_loop_is_refused(void **state)
{
	struct quire_loop *loops[2] = {loop_of(state, NULL), loop_of(state, NULL)};
	struct quire_loop *other = loops[1];
	struct quire_op op;
	quire_op_init_callback(&op, loops[0], run_inside, loops);
	assert_int_equal(quire_sleep_ns(1, &op), 0);
	run(loops[0]);
	assert_null(loops[1]);
	destroy(loops[0]);
	destroy(other);
}

static void a_child_may_not_use_its_parents_loop(void **state)
{
	skip_if_emulated();
	struct quire_loop *loop = loop_of(state, NULL);
	run(loop);
	pid_t pid = fork();
	if (pid == 0) {
		bool good = quire_loop_run(loop) == -ECHILD && quire_loop_poll(loop) == -ECHILD &&
		            quire_loop_destroy(loop) == -ECHILD;
		_exit(good ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	run(loop);
	destroy(loop);
}

/* ---- posts from many threads ---- */

#define N_POSTERS 4

struct poster {
	struct loop_task task;
	struct quire_loop *loop;
	atomic_bool free;
	unsigned n_posts, n_ran;
};

static void poster_ran(struct loop_task *task)
{
	struct poster *p = (struct poster *)task;
	p->n_ran++;
	atomic_store_explicit(&p->free, true, memory_order_release);
}

static void *poster_main(void *arg)
{
	struct poster *p = arg;
	for (unsigned i = 0; i < p->n_posts; i++) {
		while (!atomic_load_explicit(&p->free, memory_order_acquire))
			sched_yield();
		atomic_store_explicit(&p->free, false, memory_order_relaxed);
		loop_post(p->loop, &p->task);
	}
	while (!atomic_load_explicit(&p->free, memory_order_acquire))
		sched_yield();
	return NULL;
}

static void *post_and_stop(void *arg)
{
	struct poster *p = arg;
	pthread_t threads[N_POSTERS];
	for (int i = 0; i < N_POSTERS; i++)
		pthread_create(&threads[i], NULL, poster_main, &p[i]);
	for (int i = 0; i < N_POSTERS; i++)
		pthread_join(threads[i], NULL);
	quire_loop_stop(p->loop);
	return NULL;
}

static void no_post_is_lost(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct poster p[N_POSTERS];
	pthread_t thread;
	for (int i = 0; i < N_POSTERS; i++) {
		p[i] = (struct poster){.loop = loop, .free = true, .n_posts = SLOW ? 2000 : 20000};
		loop_task_init(&p[i].task, poster_ran);
	}
	loop_hold(loop);
	pthread_create(&thread, NULL, post_and_stop, p);
	run(loop);
	pthread_join(thread, NULL);
	for (int i = 0; i < N_POSTERS; i++)
		assert_int_equal(p[i].n_ran, p[i].n_posts);
	loop_release(loop);
	destroy(loop);
}

/* Destroyed as soon as the last task has run, while its poster may still be busy with the loop. */
static void *post_once(void *arg)
{
	struct poster *p = arg;
	loop_post(p->loop, &p->task);
	return NULL;
}

static void stop_when_ran(struct loop_task *task)
{
	quire_loop_stop(((struct poster *)task)->loop);
}

static void destroy_right_after_a_post(void **state)
{
	for (int i = 0; i < 200; i++) {
		struct poster p = {.loop = loop_of(state, NULL)};
		pthread_t thread;
		loop_task_init(&p.task, stop_when_ran);
		loop_hold(p.loop);
		pthread_create(&thread, NULL, post_once, &p);
		run(p.loop);
		loop_release(p.loop);
		destroy(p.loop);
		pthread_join(thread, NULL);
	}
}

/* Two loops in two threads, each posting the other's task. */
struct pong {
	struct loop_task task;
	struct quire_loop *loops[2];
	int left;
};

static void pong_run(struct loop_task *task)
{
	struct pong *p = (struct pong *)task;
	struct quire_loop *other = p->loops[loop_is_mine(p->loops[0])];
	if (p->left-- > 0) {
		loop_post(other, task);
		return;
	}
	quire_loop_stop(p->loops[0]);
	quire_loop_stop(p->loops[1]);
}

static void two_loops_talk(void **state)
{
	struct pong p = {.loops = {loop_of(state, NULL), loop_of(state, NULL)}, .left = SLOW ? 500 : 5000};
	pthread_t thread;
	loop_task_init(&p.task, pong_run);
	loop_hold(p.loops[0]);
	loop_hold(p.loops[1]);
	loop_post(p.loops[1], &p.task);
	pthread_create(&thread, NULL, run_main, p.loops[1]);
	run(p.loops[0]);
	pthread_join(thread, NULL);
	for (int i = 0; i < 2; i++) {
		loop_release(p.loops[i]);
		destroy(p.loops[i]);
	}
}

/* ---- timers ---- */

struct timer_log {
	struct loop_timer timer;
	struct quire_loop *loop;
	uint64_t when_ns;
	bool ran;
};

static uint64_t last_timer_ns;
static unsigned n_timers_ran, n_timers_expected;

static void timer_ran(struct loop_timer *timer)
{
	struct timer_log *t = (struct timer_log *)timer;
	assert_true(t->when_ns >= last_timer_ns);
	assert_true(loop_now_ns() >= t->when_ns);
	assert_int_equal(timer->heap_index, 0);
	last_timer_ns = t->when_ns;
	t->ran = true;
	if (++n_timers_ran == n_timers_expected)
		loop_release(t->loop);
}

static void timers_run_in_order(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	enum { N = 1000 };
	struct timer_log *t = calloc(N, sizeof(*t));
	uint64_t now = loop_now_ns();
	unsigned seed = 1;
	last_timer_ns = 0;
	n_timers_ran = 0;
	n_timers_expected = N / 2;
	for (int i = 0; i < N; i++) {
		t[i].loop = loop;
		t[i].timer.run = timer_ran;
		t[i].when_ns = now + (uint64_t)rand_r(&seed) % (20 * MS);
		assert_int_equal(loop_timer_arm(loop, &t[i].timer, t[i].when_ns), 0);
	}
	for (int i = 0; i < N; i += 2) {
		loop_timer_disarm(loop, &t[i].timer);
		loop_timer_disarm(loop, &t[i].timer);
	}
	/* Arming anew moves it. */
	t[1].when_ns = now + 21 * MS;
	assert_int_equal(loop_timer_arm(loop, &t[1].timer, t[1].when_ns), 0);
	loop_hold(loop);
	run(loop);
	for (int i = 0; i < N; i++)
		assert_int_equal(t[i].ran, i % 2);
	free(t);
	destroy(loop);
}

static void a_bare_timer_keeps_nothing_alive(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct timer_log t = {.timer = {.run = timer_ran}};
	assert_int_equal(loop_timer_arm(loop, &t.timer, loop_now_ns() + HOUR_NS), 0);
	run(loop);
	assert_false(t.ran);
	destroy(loop);
}

/* ---- hooks ---- */

struct hook_log {
	struct loop_turn_hook hook;
	struct loop_task task;
	struct quire_loop *loop;
	unsigned n_ran, n_again;
};

static void hook_ran(struct loop_turn_hook *hook)
{
	struct hook_log *h = (struct hook_log *)hook;
	h->n_ran++;
	if (h->n_again-- > 0)
		loop_turn_hook_arm(h->loop, hook);
	else
		loop_release(h->loop);
}

static void arm_thrice(struct loop_task *task)
{
	struct hook_log *h = (struct hook_log *)((char *)task - offsetof(struct hook_log, task));
	loop_turn_hook_arm(h->loop, &h->hook);
	loop_turn_hook_arm(h->loop, &h->hook);
	loop_turn_hook_arm(h->loop, &h->hook);
	assert_int_equal(h->n_ran, 0);
}

static void a_hook_runs_once_a_turn(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	struct hook_log h = {.hook = {.run = hook_ran}, .loop = loop, .n_again = 3};
	loop_task_init(&h.task, arm_thrice);
	loop_hold(loop);
	loop_post(loop, &h.task);
	run(loop);
	assert_int_equal(h.n_ran, 4);
	destroy(loop);
}

/* ---- what layers above keep ---- */

struct kept {
	struct loop_local local;
	struct quire_loop *loop;
	bool gone;
};

static void kept_gone(struct loop_local *local)
{
	struct kept *kept = (struct kept *)local;
	/* The engine is still there. */
	assert_true(quire_loop_engine(kept->loop) != QUIRE_ENGINE_AUTO);
	kept->gone = true;
}

static void what_is_kept_goes_with_the_loop(void **state)
{
	static const char key_a, key_b;
	struct quire_loop *loop = loop_of(state, NULL);
	struct kept a = {.local = {.key = &key_a, .destroy = kept_gone}, .loop = loop}, b = a;
	b.local.key = &key_b;
	assert_null(loop_local_find(loop, &key_a));
	loop_local_add(loop, &a.local);
	loop_local_add(loop, &b.local);
	assert_ptr_equal(loop_local_find(loop, &key_a), &a);
	assert_ptr_equal(loop_local_find(loop, &key_b), &b);
	run(loop);
	assert_false(a.gone);
	destroy(loop);
	assert_true(a.gone && b.gone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(an_empty_loop_ends_at_once),
		cmocka_unit_test(odd_options_are_refused),
		ON_BOTH(tasks_run_in_order_of_posting),
		ON_BOTH(deferred_tasks_run_before_the_loop_waits),
		ON_BOTH(stop_before_run_and_within),
		ON_BOTH(stop_from_another_thread),
		ON_BOTH(the_owner_alone_may_run_or_poll),
		ON_BOTH(running_a_loop_within_a_loop_is_refused),
		ON_BOTH(a_child_may_not_use_its_parents_loop),
		ON_BOTH(no_post_is_lost),
		ON_BOTH(destroy_right_after_a_post),
		ON_BOTH(two_loops_talk),
		ON_BOTH(timers_run_in_order),
		ON_BOTH(a_bare_timer_keeps_nothing_alive),
		ON_BOTH(a_hook_runs_once_a_turn),
		ON_BOTH(what_is_kept_goes_with_the_loop),
	};
	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
