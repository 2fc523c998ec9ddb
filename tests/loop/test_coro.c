/* Coroutines: stacks, switching, waking, suspending inside a fault handler. */
#include "on_both.h"
#include "loop/coro.h"
#include <fenv.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- turns ---- */

static int order[64], n_order;

static void yield_thrice(void *arg)
{
	for (int i = 0; i < 3; i++) {
		order[n_order++] = (int)(intptr_t)arg;
		assert_true(quire_in_coroutine());
		assert_int_equal(quire_co_yield(), 0);
	}
}

static void yielding_is_fair(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_order = 0;
	for (intptr_t i = 0; i < 4; i++)
		spawn(loop, yield_thrice, (void *)i);
	assert_int_equal(n_order, 0);
	assert_int_equal(quire_loop_destroy(loop), -EBUSY);
	run(loop);
	assert_int_equal(n_order, 12);
	for (int i = 0; i < 12; i++)
		assert_int_equal(order[i], i % 4);
	assert_false(quire_in_coroutine());
	assert_int_equal(quire_co_yield(), -EPERM);
	destroy(loop);
}

static void count_down(void *arg)
{
	int *left = arg;
	if (--*left > 0)
		spawn(quire_loop_self(), count_down, left);
}

static void coroutines_spawn_coroutines(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	int left = SLOW ? 1000 : 10000;
	spawn(loop, count_down, &left);
	run(loop);
	assert_int_equal(left, 0);
	destroy(loop);
}

static void keep_errno(void *arg)
{
	for (int i = 0; i < 100; i++) {
		errno = (int)(intptr_t)arg;
		quire_co_yield();
		assert_int_equal(errno, (int)(intptr_t)arg);
	}
}

/* Rounding mode is a callee-saved control word; the rest lives across calls in callee-saved registers. */
static void keep_rounding(void *arg)
{
	int mode = arg != NULL ? FE_UPWARD : FE_DOWNWARD;
	fesetround(mode);
	for (int i = 0; i < 100; i++) {
		quire_co_yield();
		assert_int_equal(fegetround(), mode);
	}
}

static void each_has_its_errno_and_rounding(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	for (intptr_t i = 0; i < 10; i++) {
		spawn(loop, keep_errno, (void *)i);
		spawn(loop, keep_rounding, (void *)(i & 1));
	}
	run(loop);
	assert_int_equal(fegetround(), FE_TONEAREST);
	destroy(loop);
}

/* ---- suspend and wake ---- */

static struct coro *sleeper;
static int n_woken;

static void suspend_twice(void *arg)
{
	sleeper = coro_self();
	coro_suspend();
	n_woken++;
	/* A wake that comes first is kept. */
	coro_wake(coro_self());
	coro_suspend();
	n_woken++;
}

static void wake_sleeper(void *arg)
{
	coro_wake(sleeper);
}

static void a_wake_before_the_suspend_is_kept(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_woken = 0;
	spawn(loop, suspend_twice, NULL);
	spawn(loop, wake_sleeper, NULL);
	run(loop);
	assert_int_equal(n_woken, 2);
	destroy(loop);
}

static void *wake_main(void *arg)
{
	coro_wake(arg);
	return NULL;
}

static void woken_by_a_thread(void *arg)
{
	for (int i = 0; i < 100; i++) {
		pthread_t thread;
		pthread_create(&thread, NULL, wake_main, coro_self());
		coro_suspend();
		pthread_join(thread, NULL);
	}
	n_woken++;
}

static void wakes_come_from_other_threads(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_woken = 0;
	spawn(loop, woken_by_a_thread, NULL);
	run(loop);
	assert_int_equal(n_woken, 1);
	destroy(loop);
}

/* ---- stacks ---- */

static uintptr_t stack_pages[4];
static int n_stack_pages;

static void note_stack(void *arg)
{
	volatile char here = 0;
	uintptr_t page = (uintptr_t)&here & ~(uintptr_t)65535;
	for (int i = 0; i < n_stack_pages; i++) {
		if (stack_pages[i] == page)
			return;
	}
	assert_true(n_stack_pages < 4);
	stack_pages[n_stack_pages++] = page;
}

static void stacks_are_used_again(void **state)
{
	struct quire_loop *loop = loop_of(state, NULL);
	n_stack_pages = 0;
	for (int i = 0; i < 100; i++) {
		spawn(loop, note_stack, NULL);
		run(loop);
	}
	assert_int_equal(n_stack_pages, 1);
	destroy(loop);
}

/* (Not by statm: under an emulator its pages need not be ours.) */
static long mapped_bytes(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (kib < 0 && fgets(line, sizeof(line), f) != NULL)
		(void)sscanf(line, "VmSize: %ld kB", &kib);
	fclose(f);
	assert_true(kib >= 0);
	return kib << 10;
}

static void come_and_go(void *arg)
{
	quire_co_yield();
}

/* After a crowd has gone, only so many stacks stay mapped. */
static void idle_stacks_are_bounded(void **state)
{
	if (SANITIZED_THREADS || RUNNING_ON_VALGRIND) {
		print_message("skipped: what watches this maps far more for each coroutine\n");
		skip();
	}
	struct quire_loop *loop = loop_of(state, NULL);
	long page = sysconf(_SC_PAGESIZE);
	long before = mapped_bytes();
	n_order = 0;
	for (intptr_t i = 0; i < 2000; i++)
		spawn(loop, come_and_go, NULL);
	long crowd = mapped_bytes();
	run(loop);
	long after = mapped_bytes();
	assert_true(crowd - before >= 2000 * (128L << 10));
	assert_true(after - before <= 300 * ((128L << 10) + 3 * page) + (4L << 20));
	destroy(loop);
}

static void use_much_stack(void *arg)
{
	volatile char much[400 << 10];
	memset((void *)much, 1, sizeof(much));
	*(int *)arg = much[1234];
}

static void stack_size_is_an_option(void **state)
{
	struct quire_loop_options o = {.stack_bytes = 512 << 10};
	struct quire_loop *loop = loop_of(state, &o);
	int result = 0;
	spawn(loop, use_much_stack, &result);
	run(loop);
	assert_int_equal(result, 1);
	destroy(loop);
}

static unsigned recurse(unsigned depth)
{
	volatile char frame[256];
	frame[0] = (char)depth;
	return depth == 0 ? 0 : recurse(depth - 1) + (unsigned)frame[0];
}

static void overflow(void *arg)
{
	*(volatile unsigned *)arg = recurse(1u << 24);
}

/* Under a sanitizer the report is its own, so the child ends otherwise than by the signal. */
static void overflowing_a_stack_dies_at_the_guard(void **state)
{
	if (SANITIZED_THREADS) {
		print_message("skipped: the sanitizer forbids a forked child to start threads\n");
		skip();
	}
	if (getenv("QUIRE_EMULATED") != NULL && sysconf(_SC_PAGESIZE) > 4096) {
		print_message("skipped: qemu fails itself where it should signal this, with pages that aren't the machine's\n");
		skip();
	}
	struct quire_loop *loop = loop_of(state, NULL);
	destroy(loop);
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};
		stack_t no_stack = {.ss_flags = SS_DISABLE};
		unsigned sink;
		setrlimit(RLIMIT_CORE, &none);
		sigaltstack(&no_stack, NULL);
		signal(SIGSEGV, SIG_DFL);
		struct quire_loop_options o = {.size = sizeof(o), .engine = *(enum quire_engine *)*state};
		if (quire_loop_create(&o, &loop, NULL) == 0) {
			quire_co_spawn(loop, overflow, &sink);
			quire_loop_run(loop);
		}
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

/* ---- suspending inside a fault handler ----
 *
 * A range of pages without access. A load faults; the handler hands the page to a "filler" (a task
 * that makes it readable later, in another order) and suspends. */

#define N_FAULT_COROS (SLOW ? 40 : 300)
#define N_FAULT_LOADS (SLOW ? 20 : 60)

struct fill {
	struct loop_task task;
	struct loop_timer timer;
	struct coro *co;
	char *page;
};

static char *cold;
static size_t page_bytes, n_cold;
static struct quire_loop *fault_loop;
/* volatile: the compiler does not know that other coroutines run during a load. */
static volatile unsigned n_faults, n_loads;
static char signal_stack[64 << 10];
static bool handler_on_coroutine;

static uint64_t cold_value(size_t page)
{
	return page * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void fill_now(struct loop_timer *timer)
{
	struct fill *f = (struct fill *)((char *)timer - offsetof(struct fill, timer));
	uint64_t value = cold_value((size_t)(f->page - cold) / page_bytes);
	mprotect(f->page, page_bytes, PROT_READ | PROT_WRITE);
	memcpy(f->page + 64, &value, sizeof(value));
	mprotect(f->page, page_bytes, PROT_READ);
	coro_wake(f->co);
}

/* Arming may allocate, which is not for a handler. */
static void fill_later(struct loop_task *task)
{
	struct fill *f = (struct fill *)task;
	int rc = loop_timer_arm(fault_loop, &f->timer, loop_now_ns() + (uintptr_t)f->page / page_bytes % 7 * 10000);
	assert_int_equal(rc, 0);
}

/* As the cache's own: on the coroutine's stack, frame and all. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	char *addr = info->si_addr;
	char here;
	if (addr < cold || addr >= cold + n_cold * page_bytes || !quire_in_coroutine())
		abort();
	handler_on_coroutine = &here < signal_stack || &here >= signal_stack + sizeof(signal_stack);
	n_faults++;
	struct fill f = {.timer = {.run = fill_now}, .co = coro_self()};
	f.page = cold + (size_t)(addr - cold) / page_bytes * page_bytes;
	loop_task_init(&f.task, fill_later);
	loop_defer(fault_loop, &f.task);
	coro_suspend();
}

typedef double vector __attribute__((vector_size(32)));

/* Sums in integer, scalar and vector registers across loads that fault. */
static void touch_cold(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	uint64_t sum = 0, expected = 0;
	double scalar = 0.5;
	vector v = {1, 2, 3, 4};
	for (int i = 0; i < N_FAULT_LOADS; i++) {
		size_t page = (size_t)rand_r(&seed) % n_cold;
		uint64_t loaded = *(volatile uint64_t *)(cold + page * page_bytes + 64);
		sum += loaded;
		expected += cold_value(page);
		scalar = scalar * 1.5 + (double)(loaded & 255);
		scalar = (scalar - (double)(cold_value(page) & 255)) / 1.5;
		v = v * 2.0;
		v = v + (double)(loaded & 15);
		v = (v - (double)(cold_value(page) & 15)) / 2.0;
		n_loads++;
		/* Cold again, for the others and for later; nobody is between fault and load, since a woken
		 * coroutine loads before it can be interrupted. */
		if (i % 2)
			mprotect(cold + page * page_bytes, page_bytes, PROT_NONE);
	}
	assert_int_equal(sum, expected);
	assert_true(scalar == 0.5);
	assert_true(v[0] == 1 && v[1] == 2 && v[2] == 3 && v[3] == 4);
}

static void suspend_inside_a_fault_handler(void **state)
{
	if (RUNNING_ON_VALGRIND) {
		print_message("skipped: valgrind calls every load that faults an error\n");
		skip();
	}
	struct quire_loop_options o = {.suspend_faults = true};
	fault_loop = loop_of(state, &o);
	assert_true(loop_suspends_faults(fault_loop));
	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	n_cold = 512;
	n_faults = n_loads = 0;
	cold = mmap(NULL, n_cold * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(cold != MAP_FAILED);
	stack_t alternate = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)}, before, after;
	struct sigaction old;
	assert_int_equal(sigaltstack(&alternate, &before), 0);
	assert_int_equal(coro_install_fault_handler(SIGSEGV, on_fault, &old), 0);
	for (uintptr_t i = 0; i < N_FAULT_COROS; i++)
		spawn(fault_loop, touch_cold, (void *)(i + 1));
	run(fault_loop);
	assert_int_equal(n_loads, N_FAULT_COROS * N_FAULT_LOADS);
	assert_true(n_faults > n_cold);
	assert_true(handler_on_coroutine);
	print_message("%u loads, %u faults\n", n_loads, n_faults);
	/* The thread's own signal stack is back. */
	assert_int_equal(sigaltstack(&before, &after), 0);
	assert_ptr_equal(after.ss_sp, signal_stack);
	/* And once more, embedded. */
	assert_int_equal(mprotect(cold, n_cold * page_bytes, PROT_NONE), 0);
	assert_int_equal(sigaltstack(&alternate, NULL), 0);
	n_loads = 0;
	for (uintptr_t i = 0; i < N_FAULT_COROS; i++)
		spawn(fault_loop, touch_cold, (void *)(i + 1));
	while (n_loads < N_FAULT_COROS * N_FAULT_LOADS)
		assert_true(quire_loop_poll(fault_loop) >= 0);
	while (quire_loop_destroy(fault_loop) == -EBUSY)
		assert_true(quire_loop_poll(fault_loop) >= 0);
	assert_int_equal(sigaltstack(&before, &after), 0);
	assert_ptr_equal(after.ss_sp, signal_stack);
	sigaction(SIGSEGV, &old, NULL);
	munmap(cold, n_cold * page_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(yielding_is_fair),
		ON_BOTH(coroutines_spawn_coroutines),
		ON_BOTH(each_has_its_errno_and_rounding),
		ON_BOTH(a_wake_before_the_suspend_is_kept),
		ON_BOTH(wakes_come_from_other_threads),
		ON_BOTH(stacks_are_used_again),
		ON_BOTH(idle_stacks_are_bounded),
		ON_BOTH(stack_size_is_an_option),
		ON_BOTH(overflowing_a_stack_dies_at_the_guard),
		ON_BOTH(suspend_inside_a_fault_handler),
	};
	return cmocka_run_group_tests_name("coro", tests, NULL, NULL);
}
