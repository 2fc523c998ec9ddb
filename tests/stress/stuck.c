/* stuck.c - what there is to tell where somebody does not get on: who waits in which state, who works, and at what.
 *
 * The cache's insides are looked at as they are, without its locks, of which any may be what is waited for: what is said may be
 * wrong by a moment. Looking twice, a second apart, tells those that stand still from those that work in vain. The process ends after
 * this, and what matters most comes last.
 */
#include "../../src/cache/chance_internal.h"
#include "../../src/cache/filler.h"
#include "../../src/cache/want.h"

#include "stuck.h"

#include <dirent.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST_QUEUED 1000u
#define MOST_FRAMES 40
#define MOST_THREADS 256

/* ---- threads ---- */

struct thread_look {
	unsigned long tid, user, system;
};

static void line_of(unsigned long tid, const char *name, char *text, size_t len)
{
	char path[64];
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%lu/%s", tid, name);
	FILE *f = fopen(path, "re");
	if (f != NULL) {
		n = fread(text, 1, len - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

static unsigned threads_look(struct thread_look *looks)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned n = 0;

	while (dir != NULL && n < MOST_THREADS && (entry = readdir(dir)) != NULL) {
		struct thread_look *l = &looks[n];
		char text[512];

		if (sscanf(entry->d_name, "%lu", &l->tid) != 1)
			continue;
		line_of(l->tid, "stat", text, sizeof(text));
		const char *fields = strrchr(text, ')');
		if (fields != NULL &&
		    sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &l->user, &l->system) == 2)
			n++;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

static unsigned long ticks_since(const struct thread_look *now, const struct thread_look *before, unsigned n_before)
{
	for (unsigned i = 0; i < n_before; i++)
		if (before[i].tid == now->tid)
			return now->user + now->system - before[i].user - before[i].system;
	return now->user + now->system;
}

static atomic_bool told;

static void tell_stack(int signal_number)
{
	void *frames[MOST_FRAMES];

	(void)signal_number;
	backtrace_symbols_fd(frames, backtrace(frames, MOST_FRAMES), STDERR_FILENO);
	atomic_store(&told, true);
}

/* A thread that takes no signals, as the library's own, or waits in a system call for a page, does not answer. */
static void stack_tell(unsigned long tid)
{
	const struct timespec moment = {.tv_nsec = 10000000};

	fflush(stderr);
	atomic_store(&told, false);
	if (tid == (unsigned long)gettid() || tgkill(getpid(), (pid_t)tid, SIGUSR2) < 0)
		return;
	for (unsigned tries = 0; tries < 20 && !atomic_load(&told); tries++)
		nanosleep(&moment, NULL);
}

/* Those that were at work since. */
static void threads_tell(const struct thread_look *before, unsigned n_before)
{
	struct sigaction action = {.sa_handler = tell_stack};
	struct thread_look now[MOST_THREADS];
	unsigned n = threads_look(now);
	void *first[1];

	(void)backtrace(first, 1); /* which loads what it needs, not in the handler */
	sigaction(SIGUSR2, &action, NULL);
	for (unsigned i = 0; i < n; i++) {
		char name[64], where[64];
		unsigned long ticks = ticks_since(&now[i], before, n_before);

		line_of(now[i].tid, "comm", name, sizeof(name));
		line_of(now[i].tid, "wchan", where, sizeof(where));
		fprintf(stderr, "  thread %lu, %s: %lu ticks in the last second; in the kernel at %s\n", now[i].tid, name, ticks,
		        where);
		if (ticks > 0)
			stack_tell(now[i].tid);
	}
}

/* ---- the cache ---- */

static void pages_tell(struct quire_cache *c)
{
	static const char *const names[16] = {
		[PAGE_ABSENT] = "absent",     [PAGE_RESIDENT] = "resident", [PAGE_FILLING] = "filling",
		[PAGE_EVICTING] = "evicting", [PAGE_POISONED] = "poisoned", [PAGE_ORPHAN] = "orphan",
	};
	unsigned long by_state[N_UNIT_SIZES][16] = {{0}}, n_pinned = 0, n_dup = 0, n_queued = 0;

	if (pthread_rwlock_tryrdlock(&c->ranges_lock) != 0) {
		fprintf(stderr, "  somebody writes the ranges\n");
		return;
	}
	for (size_t i = 0; i < c->n_ranges; i++) {
		for (uint64_t page = 0; page < c->ranges[i]->n_pages; page++) {
			uint32_t w = page_load(range_word(c->ranges[i], c->ranges[i]->first_page + page));

			by_state[page_unit(w)][page_state(w)]++;
			n_pinned += page_state(w) == PAGE_RESIDENT && page_value(w) > 0;
			n_dup += (w & PAGE_DUP) != 0;
			n_queued += (w & PAGE_QUEUED) != 0;
		}
	}
	fprintf(stderr, "  %zu ranges\n", c->n_ranges);
	pthread_rwlock_unlock(&c->ranges_lock);
	for (unsigned unit = 0; unit < N_UNIT_SIZES; unit++)
		for (unsigned state = 0; state < 16; state++)
			if (by_state[unit][state] > 0)
				fprintf(stderr, "  pages of units of 2^%u: %lu %s\n", unit_shift(c, (enum unit_size)unit),
				        by_state[unit][state], names[state]);
	fprintf(stderr, "  %lu pinned, %lu repeated, %lu units in the policy\n", n_pinned, n_dup, n_queued);
}

static void filler_tell(const struct filler *f, const struct quire_loop *service)
{
	unsigned n_queued = 0, n_buffers = 0;

	for (unsigned i = 0; i < FILLER_BUFFERS / 64; i++)
		n_buffers += (unsigned)__builtin_popcountll(f->buffers_used[i]);
	fprintf(stderr,
	        "  filler %u%s: %u fills under way%s, %u of %u buffers, staging %#x%s%s%s\n", f->index,
	        f->loop == service ? ", the service's" : "", f->n_active, f->free == NULL ? ", none free" : "",
	        n_buffers, f->n_buffers, f->staging_used, atomic_load(&f->queued) ? ", queued" : "",
	        atomic_load(&f->starved) ? ", starved" : "", atomic_load(&f->feeding) ? ", to be fed" : "");
	for (const struct want *w = f->queue_head; w != NULL && n_queued < MOST_QUEUED; w = w->next)
		if (++n_queued == 1)
			fprintf(stderr, "    first in its queue: flags %#x, page %#llx\n", w->flags, (unsigned long long)w->page);
	if (n_queued > 0)
		fprintf(stderr, "    %u in its queue\n", n_queued);
}

static void memory_tell(struct quire_cache *c)
{
	static const char *const names[N_BUDGET_KINDS] = {
		[BUDGET_FRAMES] = "frames",   [BUDGET_PAGE_TABLES] = "page tables", [BUDGET_TABLES] = "tables",
		[BUDGET_BUFFERS] = "buffers", [BUDGET_PROBATION] = "probation",     [BUDGET_OTHER] = "other",
		[BUDGET_TMEM] = "tmem",
	};

	fprintf(stderr, "  limit %llu, used %llu:", (unsigned long long)budget_limit(&c->budget),
	        (unsigned long long)budget_used(&c->budget));
	for (unsigned kind = 0; kind < N_BUDGET_KINDS; kind++)
		fprintf(stderr, " %s %llu,", names[kind], (unsigned long long)budget_kind_used(&c->budget, kind));
	fprintf(stderr, " pinned %llu, lent %llu; %u fillers starve\n", (unsigned long long)atomic_load(&c->pinned_bytes),
	        (unsigned long long)atomic_load(&c->budget.lent_bytes), atomic_load(&c->n_starved));
	if (c->chance != NULL)
		fprintf(stderr, "  copies: cap %llu, target %llu, reserve %llu\n",
		        (unsigned long long)atomic_load(&c->chance->cap_bytes),
		        (unsigned long long)atomic_load(&c->chance->target_bytes),
		        (unsigned long long)atomic_load(&c->chance->reserve_bytes));
}

static void counters_tell(struct cache_counters *n)
{
	fprintf(stderr, "  fills %llu, faults %llu, evictions %llu, repeats %llu, errors %llu, from probation %llu, from copies %llu\n",
	        (unsigned long long)atomic_load(&n->n_fills), (unsigned long long)atomic_load(&n->n_faults),
	        (unsigned long long)atomic_load(&n->n_evictions), (unsigned long long)atomic_load(&n->n_duplicate),
	        (unsigned long long)atomic_load(&n->n_errors), (unsigned long long)atomic_load(&n->n_probation_hits),
	        (unsigned long long)atomic_load(&n->n_chance_hits));
}

void stuck_tell(struct quire_cache *c)
{
	const struct timespec second = {.tv_sec = 1};
	struct thread_look looks[MOST_THREADS];
	unsigned n = threads_look(looks);

	counters_tell(&c->counters);
	nanosleep(&second, NULL);
	threads_tell(looks, n);
	pages_tell(c);
	for (unsigned i = 1; i < atomic_load(&c->n_fillers); i++)
		if (atomic_load(&c->fillers[i])->loop != NULL)
			filler_tell(atomic_load(&c->fillers[i]), c->service);
	memory_tell(c);
	counters_tell(&c->counters);
}
