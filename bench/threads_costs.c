/* threads_costs.c - what it costs two CPUs to share: a cache line, and a page that leaves.
 *
 *   alone_ns     an atomic addition to a line that nobody else has
 *   line_ns      time between two additions, by whichever of two CPUs, to a line that both add to
 *   drop_ns      MADV_DONTNEED of one page, while no other CPU runs this process
 *   drop_ipi_ns  the same while one other does, which is interrupted to forget the page
 *   ipi_ns       what that one loses each time
 *
 * Each is the best of many short tries in which both ran: on a machine that others use as well the rest say little. With
 * one CPU there is nothing to share: zeros.
 */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_TRIES 200
#define TRY_SECONDS 0.005

struct partner {
	_Atomic uint64_t line __attribute__((aligned(128)));
	_Atomic uint64_t own __attribute__((aligned(128)));
	atomic_bool stop __attribute__((aligned(128)));
	atomic_bool share;
	int cpu;
};

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *partner_main(void *arg)
{
	struct partner *p = arg;

	stay_on(p->cpu);
	while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
		if (atomic_load_explicit(&p->share, memory_order_relaxed))
			atomic_fetch_add_explicit(&p->line, 1, memory_order_relaxed);
		atomic_store_explicit(&p->own, atomic_load_explicit(&p->own, memory_order_relaxed) + 1,
		                      memory_order_relaxed);
	}
	return NULL;
}

static void keep_least(double *best, double value)
{
	if (*best == 0 || value < *best)
		*best = value;
}

/* with: only tries in which the partner had a third of the additions or more. */
static double additions_ns(struct partner *p, bool with)
{
	double best = 0;

	for (int i = 0; i < N_TRIES; i++) {
		uint64_t before = atomic_load(&p->line), own_before = atomic_load(&p->own);
		double start = now_seconds(), now = start;

		while (now - start < TRY_SECONDS) {
			for (int k = 0; k < 100; k++)
				atomic_fetch_add_explicit(&p->line, 1, memory_order_relaxed);
			now = now_seconds();
		}
		uint64_t n = atomic_load(&p->line) - before, n_own = atomic_load(&p->own) - own_before;
		if (!with || n_own * 3 >= n)
			keep_least(&best, (now - start) * 1e9 / (double)n);
	}
	return best;
}

/* undisturbed: how fast the partner counts when left alone, a second; 0: there is none. Tries in which he had less than half
 * of that say nothing. What he loses with each page that leaves: the least of all tries. */
static double drops_ns(struct partner *p, char *page, double undisturbed, double *ret_lost_ns)
{
	double best = 0;

	for (int i = 0; i < N_TRIES; i++) {
		uint64_t before = atomic_load(&p->own), n = 0;
		double start = now_seconds(), now = start, spent = 0;

		while (now - start < TRY_SECONDS) {
			*(volatile char *)page = 1;
			double from = now_seconds();
			madvise(page, 1, MADV_DONTNEED);
			now = now_seconds();
			spent += now - from;
			n++;
		}
		double counts = (double)(atomic_load(&p->own) - before) / (now - start);
		if (counts < undisturbed / 2)
			continue;
		keep_least(&best, spent * 1e9 / (double)n);
		if (undisturbed > 0 && counts < undisturbed)
			keep_least(ret_lost_ns, (1 - counts / undisturbed) * (now - start) * 1e9 / (double)n);
	}
	return best;
}

static double undisturbed_counts(struct partner *p)
{
	double best = 0;

	for (int i = 0; i < N_TRIES; i++) {
		uint64_t before = atomic_load(&p->own);
		double start = now_seconds(), now = start;

		while (now - start < TRY_SECONDS)
			now = now_seconds();
		double counts = (double)(atomic_load(&p->own) - before) / (now - start);
		if (counts > best)
			best = counts;
	}
	return best;
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

int threads_costs(void)
{
	static struct partner p;
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	char *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double alone = 0, line = 0, drop = 0, drop_ipi = 0, ipi = 0;
	pthread_t thread;
	int cpus[2];

	if (page == MAP_FAILED)
		return run_failed("mmap", -errno);
	if (two_cpus(cpus)) {
		stay_on(cpus[0]);
		alone = additions_ns(&p, false);
		drop = drops_ns(&p, page, 0, &ipi);
		p.cpu = cpus[1];
		if (pthread_create(&thread, NULL, partner_main, &p) != 0)
			return run_failed("thread", -EAGAIN);
		drop_ipi = drops_ns(&p, page, undisturbed_counts(&p), &ipi);
		atomic_store(&p.share, true);
		line = additions_ns(&p, true);
		atomic_store(&p.stop, true);
		pthread_join(thread, NULL);
	}
	printf("{\"alone_ns\": %.2f, \"line_ns\": %.2f, \"drop_ns\": %.1f, \"drop_ipi_ns\": %.1f, \"ipi_ns\": %.1f}\n", alone,
	       line, drop, drop_ipi, ipi);
	return 0;
}
