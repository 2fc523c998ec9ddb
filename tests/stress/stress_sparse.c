/* stress_sparse.c - one page in each 2 MiB of a huge sparse file: the worst that page tables can be.
 *
 *   stress_sparse [--budget BYTES] [--bytes SIZE]
 *
 * Four threads touch or want these pages. Each page then costs a page table beside it, and so it is the
 * kernel's page tables, not the pages, that have to be kept within the budget. Where the kernel does not
 * give empty ones back, that can't hold: then it is checked that every access is answered all the
 * same, and that the maps' end gives the memory back.
 */
#include "../support/sanitized.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SKIPPED 77
#define N_THREADS 4
#define STRIDE_BYTES (UINT64_C(2) << 20)
#define OWN_BYTES (1u << 20) /* stacks of the test's threads */
#define CHECK(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static uint64_t budget_bytes = 64u << 20, file_bytes = UINT64_C(128) << 30;
static struct quire_cache *cache;
static struct quire_map *map;
static const char *base;
static _Atomic uint64_t next_stride;
static atomic_bool ending;
static uint64_t baseline, most_bytes, most_account;

_Noreturn static void fail(const char *what, int line)
{
	fprintf(stderr, "line %d: %s (%s)\n", line, what, strerror(errno));
	abort();
}

static uint64_t memory_now(void)
{
	char text[4096];
	const char *const names[] = {"RssAnon:", "VmPTE:"};
	uint64_t sum = 0;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	CHECK(n > 0);
	close(fd);
	text[n] = '\0';
	for (size_t i = 0; i < 2; i++) {
		const char *at = strstr(text, names[i]);

		if (at != NULL)
			sum += strtoull(at + strlen(names[i]), NULL, 10) * 1024;
	}
	return sum;
}

static void *watch_main(void *arg)
{
	while (!atomic_load(&ending)) {
		struct timespec ts = {.tv_nsec = 2000000};
		struct quire_cache_stat stat;
		uint64_t now = memory_now();

		if (now > baseline && now - baseline > most_bytes)
			most_bytes = now - baseline;
		CHECK(quire_cache_stat(cache, &stat) == 0);
		if (stat.used > most_account)
			most_account = stat.used;
		nanosleep(&ts, NULL);
	}
	return NULL;
}

/* Where the file has something else than zeroes. */
static bool is_marked(uint64_t stride)
{
	return stride % 1021 == 0;
}

static uint64_t mark_of(uint64_t stride)
{
	return stride * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static void *touch_main(void *arg)
{
	uint64_t n = file_bytes / STRIDE_BYTES, stride;
	bool pinned_only = quire_map_fault(map) == QUIRE_FAULT_PINNED;

	while ((stride = atomic_fetch_add(&next_stride, 1)) < n) {
		const char *at = base + stride * STRIDE_BYTES;
		struct iovec v = {(void *)(uintptr_t)at, 1};
		uint64_t expected = is_marked(stride) ? mark_of(stride) : 0;

		if (pinned_only)
			CHECK(quire_map_want(map, &v, 1, QUIRE_WANT_PIN, NULL) == 0);
		else if (stride % 2 == 0)
			CHECK(quire_map_want(map, &v, 1, 0, NULL) == 0);
		CHECK(*(const volatile uint64_t *)at == expected);
		if (pinned_only)
			CHECK(quire_map_unwant(map, &v, 1) == 0);
	}
	return NULL;
}

static int make_file(char *path, size_t path_bytes)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(path, path_bytes, "%s/quire-sparse-XXXXXX", tmp != NULL ? tmp : "/tmp");
	int fd = mkostemp(path, O_CLOEXEC);
	CHECK(fd >= 0);
	unlink(path);
	if (ftruncate(fd, (off_t)file_bytes) < 0) {
		printf("skipped: a file of %llu bytes: %s\n", (unsigned long long)file_bytes, strerror(errno));
		exit(SKIPPED);
	}
	for (uint64_t stride = 0; stride < file_bytes / STRIDE_BYTES; stride++) {
		uint64_t mark = mark_of(stride);

		if (is_marked(stride))
			CHECK(pwrite(fd, &mark, sizeof(mark), (off_t)(stride * STRIDE_BYTES)) == sizeof(mark));
	}
	return fd;
}

static void run(int fd)
{
	struct quire_item item = {.fd = fd};
	struct quire_map_options o = {.size = sizeof(o)};
	pthread_t threads[N_THREADS], watch;
	struct quire_capabilities caps;
	struct quire_error err;

	quire_capabilities(&caps);
	o.fault = caps.grade == QUIRE_GRADE_NONE ? QUIRE_FAULT_PINNED : QUIRE_FAULT_SERVICE;
	if (o.fault == QUIRE_FAULT_PINNED && !caps.page_tables_reclaimed) {
		printf("skipped: page tables that the kernel keeps leave no room for pins\n");
		exit(SKIPPED);
	}
	if (quire_map_create(cache, &item, 1, &o, &map, &err) < 0) {
		/* Sanitizers leave no room for so large an arena. */
		printf("skipped: %s\n", err.text);
		exit(SKIPPED);
	}
	base = quire_map_base(map);
	CHECK(pthread_create(&watch, NULL, watch_main, NULL) == 0);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, touch_main, NULL) == 0);
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&ending, true);
	pthread_join(watch, NULL);
	CHECK(quire_map_destroy(map, NULL) == 0);

	struct quire_cache_stat stat;
	CHECK(quire_cache_stat(cache, &stat) == 0);
	CHECK(stat.frames == 0 && stat.pinned == 0);
	fprintf(stderr, "page tables reclaimed: %s; memory at most %llu KiB, account at most %llu KiB, of a budget of %llu KiB; "
	        "page tables at the end %llu KiB\n", caps.page_tables_reclaimed ? "yes" : "no",
	        (unsigned long long)most_bytes / 1024, (unsigned long long)most_account / 1024,
	        (unsigned long long)budget_bytes / 1024, (unsigned long long)stat.page_tables / 1024);
	if (caps.page_tables_reclaimed) {
		CHECK(most_account <= budget_bytes + QUIRE_BUDGET_SLACK_BYTES);
		CHECK(SANITIZED || most_bytes <= budget_bytes + QUIRE_BUDGET_SLACK_BYTES + OWN_BYTES);
	}
	/* What is left when no map is: upper levels, by the GiB. */
	CHECK(stat.page_tables <= 4 * (file_bytes >> 30) * (uint64_t)sysconf(_SC_PAGESIZE));
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{"budget", required_argument, NULL, 'b'}, {"bytes", required_argument, NULL, 's'}, {0},
	};
	struct quire_error err;
	char path[256];
	int o;

	while ((o = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (o != 'b' && o != 's')
			return 2;
		*(o == 'b' ? &budget_bytes : &file_bytes) = strtoull(optarg, NULL, 0);
	}
	int fd = make_file(path, sizeof(path));
	struct quire_cache_options co = {.size = sizeof(co), .budget_bytes = budget_bytes};
	baseline = memory_now();
	CHECK(quire_cache_open(&co, &cache, &err) == 0);
	run(fd);
	CHECK(quire_cache_close(cache) == 0);
	close(fd);
	return 0;
}
