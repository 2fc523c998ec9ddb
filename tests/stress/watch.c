/* watch.c - the memory of the process as the kernel counts it, and whether everybody gets on.
 *
 * What is measured is RssAnon and VmPTE of /proc/self/status, less what they were before the cache
 * was opened and what the test itself needs: the cache's memory is anonymous. Under sanitizers, whose
 * own memory is counted as well, the cache's own account is looked at instead.
 */
#include "stress.h"
#include "stuck.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 3000000l

_Atomic uint64_t budget_in_force;

static struct {
	pthread_t thread;
	atomic_bool ending;
	uint64_t baseline, own_bytes;
	int64_t most_kernel, most_account; /* above the budget in force */
	uint64_t most_bytes;
	uint64_t seen[MAX_ACTORS];
	time_t since;
} watch;

static uint64_t field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at != NULL ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

static uint64_t memory_now(void)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	CHECK(fd >= 0, "%s", strerror(errno));
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	CHECK(n > 0, "status");
	text[n] = '\0';
	return field(text, "RssAnon:") + field(text, "VmPTE:");
}

void watch_baseline(void)
{
	watch.baseline = memory_now();
}

unsigned count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CHECK(dir != NULL, "%s", strerror(errno));
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void look_at_memory(void)
{
	uint64_t before = atomic_load(&budget_in_force);
	uint64_t now = SANITIZED ? 0 : memory_now(), taken = watch.baseline + watch.own_bytes;
	struct quire_cache_stat stat;

	quire_cache_stat(cache, &stat);
	uint64_t after = atomic_load(&budget_in_force), budget = after > before ? after : before;
	int64_t above = (int64_t)(now - taken) - (int64_t)budget, account = (int64_t)stat.used - (int64_t)budget;
	if (now > taken && now - taken > watch.most_bytes)
		watch.most_bytes = now - taken;
	if (now != 0 && above > watch.most_kernel)
		watch.most_kernel = above;
	if (account > watch.most_account)
		watch.most_account = account;
	CHECK(SANITIZED || above <= (int64_t)QUIRE_BUDGET_SLACK_BYTES,
	      "memory is %lld KiB above the budget of %llu KiB", (long long)above / 1024,
	      (unsigned long long)budget / 1024);
	CHECK(account <= (int64_t)QUIRE_BUDGET_SLACK_BYTES, "the account is %lld KiB above the budget",
	      (long long)account / 1024);
}

static void tell(void)
{
	struct quire_cache_stat s;

	for (struct actor *a = actors; a < actors + options.n_threads; a++)
		fprintf(stderr, "  %2u %-12s %9llu steps, %llu operations started, %llu completed; %s\n", a->index,
		        a->role, (unsigned long long)atomic_load(&a->progress),
		        (unsigned long long)atomic_load(&a->n_started),
		        (unsigned long long)atomic_load(&a->n_completed), atomic_load(&a->doing));
	quire_cache_stat(cache, &s);
	fprintf(stderr,
	        "  budget %llu, used %llu: frames %llu, page tables %llu, tables %llu, buffers %llu, other %llu; "
	        "pinned %llu; fills %llu, faults %llu, repeated %llu, evictions %llu, errors %llu\n",
	        (unsigned long long)s.budget, (unsigned long long)s.used, (unsigned long long)s.frames,
	        (unsigned long long)s.page_tables, (unsigned long long)s.tables, (unsigned long long)s.buffers,
	        (unsigned long long)s.other, (unsigned long long)s.pinned, (unsigned long long)s.n_fills,
	        (unsigned long long)s.n_faults, (unsigned long long)s.n_duplicate,
	        (unsigned long long)s.n_evictions, (unsigned long long)s.n_errors);
}

static void look_at_progress(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec == watch.since)
		return;
	for (unsigned i = 0; i < options.n_threads; i++) {
		static time_t moved_at[MAX_ACTORS];
		uint64_t progress = atomic_load(&actors[i].progress);

		if (progress != watch.seen[i] || moved_at[i] == 0 || atomic_load(&actors[i].doing) == NULL) {
			watch.seen[i] = progress;
			moved_at[i] = now.tv_sec;
		} else if (now.tv_sec - moved_at[i] > options.stuck_seconds) {
			stuck_tell(cache);
			fprintf(stderr, "no progress of actor %u for %d s:\n", i, options.stuck_seconds);
			tell();
			FAIL("stuck: %s", atomic_load(&actors[i].doing));
		}
	}
	watch.since = now.tv_sec;
}

static void *watch_main(void *arg)
{
	while (!atomic_load(&watch.ending)) {
		struct timespec ts = {.tv_nsec = PERIOD_NS};

		look_at_memory();
		look_at_progress();
		nanosleep(&ts, NULL);
	}
	return NULL;
}

void watch_start(uint64_t own_bytes)
{
	watch.own_bytes = own_bytes;
	CHECK(pthread_create(&watch.thread, NULL, watch_main, NULL) == 0, "thread");
}

void watch_stop(void)
{
	atomic_store(&watch.ending, true);
	pthread_join(watch.thread, NULL);
	tell();
	if (!SANITIZED)
		fprintf(stderr, "memory at most %llu KiB, at most %lld KiB above the budget; ",
		        (unsigned long long)watch.most_bytes / 1024, (long long)watch.most_kernel / 1024);
	fprintf(stderr, "the account at most %lld KiB above it\n", (long long)watch.most_account / 1024);
}
