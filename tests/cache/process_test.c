/* The cache in its process: what the kernel counts, few VMAs, forks, dumps, limits, capabilities. */
#include "../support/maps.h"
#include "../support/trap.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define SPARSE (16 * GIB) /* page tables of 32 MiB: as much as the whole budget */
#define STEP (2 * MIB)

/* What the kernel counts for this process now: pages and page tables. */
static uint64_t kernels_count(void)
{
	return status_bytes("VmRSS") + status_bytes("VmPTE");
}

/* One page in each 2 MiB of a huge sparse file: page tables weigh as much as pages. */
static void touch_everywhere(bool raw)
{
	struct quire_capabilities caps;

	quire_capabilities(&caps);
	if (!caps.page_tables_reclaimed)
		skip_because("this kernel keeps empty page tables");
	file_sparse("sparse", SPARSE);
	struct quire_map *m = map_name("sparse");
	const char *p = item_ptr(m, 0);
	uint64_t before = kernels_count(), most = 0, over = 0;
	unsigned char sum = 0;

	for (uint64_t at = 0; at < SPARSE; at += STEP) {
		uint64_t offset = at + at / STEP % 512 * page_size();

		if (raw)
			sum |= *(const volatile unsigned char *)(p + offset);
		else
			assert_int_equal(want(m, p + offset, 1), 0);
		if (at % (512 * STEP) == 0) {
			uint64_t now = kernels_count();

			most = now > most ? now : most;
			uint64_t used = cache_stat().used;
			over = used > CACHE_BUDGET + over ? used - CACHE_BUDGET : over;
		}
	}
	print_message("the kernel counted %llu KiB more, the cache %llu\n",
	              (unsigned long long)(most - before) / 1024,
	              (unsigned long long)cache_stat().used / 1024);
	/* Tables of the policy and upper page tables are charged whatever the budget says; who charges
	 * next makes room for them. */
	assert_true(over <= 256 * KIB);
	assert_int_equal(sum, 0);
	/* The last load may have been woken before its fill was counted. */
	assert_in_range(map_stat(m).n_fills, SPARSE / STEP - 1, SPARSE / STEP);
	assert_true(cache_stat().n_vmas <= 16);
	if (!SANITIZED) /* whose shadow is counted as well */
		assert_true(most <= before + CACHE_BUDGET + QUIRE_BUDGET_SLACK_BYTES);
	map_end(m);
}

static void kernels_count_by_wants(void **state)
{
	touch_everywhere(false);
}

static void kernels_count_by_raw_loads(void **state)
{
	touch_everywhere(true);
}

static void dense_pages_as_the_kernel_counts_them(void **state)
{
	file_sparse("dense", 4 * CACHE_BUDGET);
	struct quire_map *m = map_name("dense");
	uint64_t before = kernels_count(), most = 0;

	for (uint64_t at = 0; at < 4 * CACHE_BUDGET; at += MIB) {
		assert_int_equal(want(m, item_ptr(m, 0) + at, MIB), 0);
		uint64_t now = kernels_count();
		most = now > most ? now : most;
	}
	if (!SANITIZED)
		assert_true(most <= before + CACHE_BUDGET + QUIRE_BUDGET_SLACK_BYTES);
	map_end(m);
}

static void few_vmas(void **state)
{
	enum { N = 200 };
	struct quire_map *maps[N];

	file_write("f", 1, pages(3));
	for (unsigned i = 0; i < N; i++) {
		maps[i] = map_name("f");
		assert_int_equal(want(maps[i], item_ptr(maps[i], 0), pages(1 + i % 3)), 0);
	}
	assert_true(cache_stat().n_vmas <= 16);
	assert_int_equal(cache_stat().n_maps, N);
	for (unsigned i = 0; i < N; i += 2)
		map_end(maps[i]);
	assert_true(cache_stat().n_vmas <= 16);
	for (unsigned i = 1; i < N; i += 2)
		map_end(maps[i]);
}

/* ---- fork ---- */

static int in_a_child(int (*fn)(struct quire_map *m), struct quire_map *m)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		_exit(fn(m));
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static int touch_first(struct quire_map *m)
{
	return *(const volatile char *)quire_map_base(m) == 0 ? 1 : 2;
}

static int touch_second(struct quire_map *m)
{
	return ((const volatile char *)quire_map_base(m))[page_size()] == 0 ? 1 : 2;
}

static int close_in_child(struct quire_map *m)
{
	struct quire_map *other;

	return quire_cache_close(cache) == -ECHILD && quire_map_destroy(m, NULL) == -ECHILD &&
	                       quire_map_create(cache, NULL, 0, NULL, &other, NULL) == -ECHILD
	               ? 33
	               : 1;
}

static void a_child_never_reads_zeros(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_map *m = map_name("f");

	assert_int_equal(want(m, quire_map_base(m), 1), 0);
	int resident = in_a_child(touch_first, m), cold = in_a_child(touch_second, m);
	assert_true(WIFSIGNALED(resident) && WTERMSIG(resident) == SIGSEGV);
	assert_true(WIFSIGNALED(cold) && WTERMSIG(cold) == SIGSEGV);
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(2)); /* the parent goes on */
	map_end(m);
}

static void a_child_may_not_close(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_map *m = map_name("f");
	int status = in_a_child(close_in_child, m);

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 33);
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(2));
	map_end(m);
}

/* ---- flags of the arena's VMAs ---- */

static bool vma_flags(const void *p, char *ret, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long long low, high;
	bool mine = false;
	char line[1024];

	assert_non_null(f);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%llx-%llx ", &low, &high) == 2)
			mine = (uintptr_t)p >= low && (uintptr_t)p < high;
		if (mine && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(ret, size, "%s", line);
	}
	fclose(f);
	return ret[0] != '\0';
}

static void not_dumped_and_not_inherited(void **state)
{
	file_write("f", 1, pages(2));
	struct quire_map *m = map_name("f");
	char flags[1024];

	for (unsigned i = 0; i < 2; i++) { /* again, where a map was before */
		if (!vma_flags(quire_map_base(m), flags, sizeof(flags)))
			skip_because("the kernel tells no VmFlags");
		assert_non_null(strstr(flags, " dd"));
		assert_non_null(strstr(flags, " dc"));
		map_end(m);
		m = map_name("f");
	}
	map_end(m);
}

/* ---- limits ---- */

static void arena_is_halved_until_it_fits(void **state)
{
	struct rlimit before, little;

	if (SANITIZED)
		skip_because("sanitizers need more address space than that");
	file_write("f", 1, pages(5));
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	little = before;
	little.rlim_cur = status_bytes("VmSize") + 20 * GIB;
	cache_anew(&(struct quire_cache_options){.reserve_bytes = 16 * TIB, .signal_faults = true});
	assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
	struct quire_map *m = NULL;
	const struct quire_item item = {.path = file_path("f")};
	int rc = map_try(&item, 1, &m, NULL);
	setrlimit(RLIMIT_AS, &before);
	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	assert_int_equal(rc, 0);
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(5));
	map_end(m);
}

static void no_room_for_any_arena(void **state)
{
	struct rlimit before, little;
	struct quire_map *m = NULL;
	struct quire_error err = {0};

	if (SANITIZED)
		skip_because("sanitizers need more address space than that");
	file_write("f", 1, pages(5));
	const struct quire_item item = {.path = file_path("f")};
	cache_anew(&(struct quire_cache_options){.signal_faults = true});
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	little = before;
	little.rlim_cur = status_bytes("VmSize") + 512 * MIB;
	assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
	int rc = map_try(&item, 1, &m, &err);
	setrlimit(RLIMIT_AS, &before);
	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	assert_int_equal(rc, -ENOMEM);
	assert_true(strlen(err.text) > 0);
	m = map_name("f"); /* the next one may have it */
	map_end(m);
}

static void many_caches_with_a_handler(void **state)
{
	struct quire_cache_options o = {
		.size = sizeof(o), .budget_bytes = QUIRE_BUDGET_MIN_BYTES, .signal_faults = true};
	struct quire_cache *caches[80];
	unsigned n = 0;
	int rc;

	for (unsigned round = 0; round < 2; round++) {
		for (n = 0, rc = 0; n < 80 && rc == 0; n += rc == 0)
			rc = quire_cache_open(&o, &caches[n], NULL);
		assert_true(n >= 60);
		assert_true(rc == 0 || rc == -ENOMEM);
		while (n > 0)
			assert_int_equal(quire_cache_close(caches[--n]), 0);
	}
}

/* ---- capabilities ---- */

static bool masked(const char *word)
{
	const char *mask = getenv("QUIRE_MASK");

	return mask != NULL && strstr(mask, word) != NULL;
}

static void capabilities_agree_with_what_happens(void **state)
{
	struct quire_capabilities caps;
	struct quire_map_options o = {.size = sizeof(o), .fault = QUIRE_FAULT_SERVICE};
	struct quire_map *m;

	assert_int_equal(quire_capabilities(&caps), 0);
	int rc = quire_map_create(cache, NULL, 0, &o, &m, NULL);
	assert_int_equal(rc, caps.grade == QUIRE_GRADE_NONE ? -ENOTSUP : 0);
	if (rc == 0)
		map_end(m);
	assert_int_equal(quire_map_create(cache, NULL, 0, NULL, &m, NULL), 0);
	assert_int_equal(quire_map_fault(m), caps.grade == QUIRE_GRADE_NONE ? QUIRE_FAULT_KERNEL
	                                                                     : QUIRE_FAULT_SERVICE);
	map_end(m);
	assert_true(caps.raw_loads);
	assert_int_equal(caps.budget_hard, caps.grade != QUIRE_GRADE_NONE);
	assert_false(caps.io_uring && masked("io_uring"));
	assert_false(caps.grade != QUIRE_GRADE_NONE && masked("userfaultfd"));
	assert_false(caps.poison && masked("uffd_poison"));
	assert_false(caps.batched_eviction && masked("process_madvise"));
	assert_false(caps.page_tables_reclaimed && masked("pt_reclaim"));
	assert_false(caps.defer_taskrun && masked("defer_taskrun"));
	assert_false(caps.grade == QUIRE_GRADE_FULL && masked("uffd_kernel_faults"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(kernels_count_by_wants),
		ON_FAULTING(kernels_count_by_raw_loads),
		ON_CHECKED(dense_pages_as_the_kernel_counts_them),
		ON_CHECKED(few_vmas),
		ON_CHECKED(a_child_never_reads_zeros),
		ON_EACH(a_child_may_not_close),
		ON_CHECKED(not_dumped_and_not_inherited),
		ON_CHECKED(arena_is_halved_until_it_fits),
		ON_CHECKED(no_room_for_any_arena),
		ON_AUTO(many_caches_with_a_handler),
		ON_AUTO(capabilities_agree_with_what_happens),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
