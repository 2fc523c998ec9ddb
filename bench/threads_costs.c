/* threads_costs.c - what it costs two CPUs to share: a cache line, a lock, a page that leaves, a map.
 *
 *   alone_ns     an atomic addition to a line that nobody else has
 *   add_ns       time between two additions, by whichever of two CPUs, to a line that both add to
 *   transfer_ns  until a CPU sees what another has written to a line: half of there and back
 *   lock_alone_ns, lock_ns  a mutex taken and given back, alone, and by whichever of two CPUs that both do
 *   drop_ns      MADV_DONTNEED of one page, while no other CPU runs this process
 *   drop_ipi_ns  the same while one other does, which is interrupted to forget the page
 *   ipi_ns       what that one loses each time
 *   want_ns      a want of a page that is there, by one CPU
 *   want_own_ns, want_shared_ns  the same by each of two, of a map each, and of one map
 *
 * Medians of short tries; those in which one of the two did not run all the time, since others use the machine as well,
 * do not count. What could not be measured is null: with one CPU there is nothing to share.
 */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_GOOD 25
#define N_TRIES 300
#define TRY_SECONDS 0.001
#define RAN 0.97      /* of a try */
#define RAN_LOCK 0.4  /* who finds a lock taken sleeps */

enum activity { COUNT, ADD, ANSWER, LOCK, WANT };

struct partner {
	_Atomic uint64_t line __attribute__((aligned(128)));
	_Atomic uint64_t own __attribute__((aligned(128)));
	pthread_mutex_t lock __attribute__((aligned(128)));
	uint64_t n_locked; /* under lock */
	_Atomic enum activity activity __attribute__((aligned(128)));
	atomic_bool stop;
	bool is_there;
	int cpu;
	pthread_t thread;
	clockid_t clock;
	char *page; /* that is dropped */
	struct wanter wanters[2];
};

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void lock_once(struct partner *p)
{
	pthread_mutex_lock(&p->lock);
	p->n_locked++;
	pthread_mutex_unlock(&p->lock);
}

/* An odd number is a question, the next one the answer. */
static void answer(struct partner *p)
{
	uint64_t n = atomic_load_explicit(&p->line, memory_order_acquire);

	if (n % 2 != 0)
		atomic_store_explicit(&p->line, n + 1, memory_order_release);
}

static void *partner_main(void *arg)
{
	struct partner *p = arg;

	stay_on(p->cpu);
	while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
		switch (atomic_load_explicit(&p->activity, memory_order_relaxed)) {
		case COUNT:
			break;
		case ADD:
			atomic_fetch_add_explicit(&p->line, 1, memory_order_relaxed);
			break;
		case ANSWER:
			answer(p);
			break;
		case LOCK:
			lock_once(p);
			break;
		case WANT:
			wanter_want(&p->wanters[1]);
			break;
		}
		atomic_store_explicit(&p->own, atomic_load_explicit(&p->own, memory_order_relaxed) + 1,
		                      memory_order_relaxed);
	}
	return NULL;
}

/* ---- what is tried: each does some of it, and adds to n how often, by whichever of the two, to seconds how long ---- */

struct tally {
	uint64_t n;
	double seconds;
};
typedef void (*try_fn)(struct partner *p, struct tally *t);

static void try_nothing(struct partner *p, struct tally *t)
{
	t->n += p->is_there;
}

static void try_add(struct partner *p, struct tally *t)
{
	double start = now_seconds();
	uint64_t before = atomic_load(&p->line);

	for (int i = 0; i < 100; i++)
		atomic_fetch_add_explicit(&p->line, 1, memory_order_relaxed);
	t->n += atomic_load(&p->line) - before;
	t->seconds += now_seconds() - start;
}

static void try_lock(struct partner *p, struct tally *t)
{
	double start = now_seconds();

	lock_once(p);
	uint64_t before = p->n_locked; /* as it was when we had it, or a little later */
	for (int i = 0; i < 100; i++)
		lock_once(p);
	t->n += p->n_locked - before + 1;
	t->seconds += now_seconds() - start;
}

static void try_transfer(struct partner *p, struct tally *t)
{
	double start = now_seconds();

	for (int i = 0; i < 50; i++) {
		uint64_t question = (atomic_load_explicit(&p->line, memory_order_relaxed) | 1) + 2;

		atomic_store_explicit(&p->line, question, memory_order_release);
		while (atomic_load_explicit(&p->line, memory_order_acquire) == question)
			;
	}
	t->n += 100;
	t->seconds += now_seconds() - start;
}

static void try_drop(struct partner *p, struct tally *t)
{
	*(volatile char *)p->page = 1;
	double start = now_seconds();

	madvise(p->page, 1, MADV_DONTNEED);
	t->n++;
	t->seconds += now_seconds() - start;
}

static void try_want(struct partner *p, struct tally *t)
{
	double start = now_seconds();

	for (int i = 0; i < 100; i++)
		wanter_want(&p->wanters[0]);
	t->n += 100;
	t->seconds += now_seconds() - start;
}

/* ---- tries ---- */

static double partner_seconds(const struct partner *p)
{
	return p->is_there ? clock_seconds(p->clock) : now_seconds();
}

/* True if both ran: then what one of them took, and what the partner counted a second. */
static bool one_try(struct partner *p, double ran, try_fn fn, struct tally *ret_tally, double *ret_counts)
{
	double start = now_seconds(), now = start, mine = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
	double partners = partner_seconds(p);
	uint64_t own = atomic_load(&p->own);
	struct tally t = { 0 };

	while (now - start < TRY_SECONDS) {
		fn(p, &t);
		now = now_seconds();
	}
	*ret_tally = t;
	*ret_counts = (double)(atomic_load(&p->own) - own) / (now - start);
	return clock_seconds(CLOCK_THREAD_CPUTIME_ID) - mine > ran * (now - start) &&
	       partner_seconds(p) - partners > ran * (now - start);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct cost {
	double ns;      /* one of them; below 0: not measured */
	double counts;  /* of the partner, a second */
	double every_ns;/* how often there was one */
};

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof(*values), ascending);
	return n == 0 ? -1 : values[n / 2];
}

static struct cost cost_of(struct partner *p, enum activity partners, try_fn fn)
{
	double ns[N_GOOD], counts[N_GOOD], every[N_GOOD];
	struct tally t;
	int n = 0;

	atomic_store(&p->activity, partners);
	for (int i = 0; i < N_TRIES && n < N_GOOD; i++) {
		if (!one_try(p, partners == LOCK ? RAN_LOCK : RAN, fn, &t, &counts[n]))
			continue;
		every[n] = TRY_SECONDS * 1e9 / (double)(t.n + (t.n == 0));
		ns[n++] = t.seconds * 1e9 / (double)(t.n + (t.n == 0));
	}
	atomic_store(&p->activity, COUNT);
	return (struct cost){ median(ns, n), median(counts, n), median(every, n) };
}

static bool two_cpus(int *ret_cpus)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return false;
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			ret_cpus[n++] = cpu;
	return n == 2;
}

static void print_cost(const char *name, double ns, bool last)
{
	if (ns < 0)
		printf("\"%s\": null%s", name, last ? "}\n" : ", ");
	else
		printf("\"%s\": %.2f%s", name, ns, last ? "}\n" : ", ");
}

static int costs_of_two(struct partner *p, const char *path, const int *cpus)
{
	int rc = wanters_open(p->wanters, path, true);

	if (rc < 0)
		return rc;
	stay_on(cpus[0]);
	p->cpu = cpus[1];
	print_cost("alone_ns", cost_of(p, COUNT, try_add).ns, false);
	print_cost("lock_alone_ns", cost_of(p, COUNT, try_lock).ns, false);
	print_cost("drop_ns", cost_of(p, COUNT, try_drop).ns, false);
	print_cost("want_ns", cost_of(p, COUNT, try_want).ns, false);
	if (pthread_create(&p->thread, NULL, partner_main, p) != 0 || pthread_getcpuclockid(p->thread, &p->clock) != 0)
		return failed("thread", -EAGAIN);
	p->is_there = true;
	print_cost("add_ns", cost_of(p, ADD, try_add).ns, false);
	print_cost("lock_ns", cost_of(p, LOCK, try_lock).ns, false);
	print_cost("transfer_ns", cost_of(p, ANSWER, try_transfer).ns, false);
	print_cost("want_own_ns", cost_of(p, WANT, try_want).ns, false);
	p->wanters[0].map = p->wanters[1].map;
	p->wanters[0].base = p->wanters[1].base;
	print_cost("want_shared_ns", cost_of(p, WANT, try_want).ns, false);
	double undisturbed = cost_of(p, COUNT, try_nothing).counts;
	struct cost drop = cost_of(p, COUNT, try_drop);
	bool known = undisturbed > 0 && drop.counts > 0 && drop.counts < undisturbed;
	print_cost("drop_ipi_ns", drop.ns, false);
	print_cost("ipi_ns", known ? (1 - drop.counts / undisturbed) * drop.every_ns : -1, true);
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	return 0;
}

int threads_costs(const char *path)
{
	static struct partner p = { .lock = PTHREAD_MUTEX_INITIALIZER };
	int cpus[2];

	p.page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p.page == MAP_FAILED)
		return failed("mmap", -errno);
	printf("{");
	if (two_cpus(cpus))
		return costs_of_two(&p, path, cpus);
	printf("}\n");
	return 0;
}
