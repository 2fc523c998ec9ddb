/* Limits read from made-up machines, and the budget that follows them. */
#include "../../src/base/memory_limit.h"
#include "cmocka_env.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)

static char root[PATH_MAX];

/* Writes ROOT/path, with the folders that it takes. */
static void put(const char *path, const char *text)
{
	char full[2 * PATH_MAX];
	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	FILE *file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int make_root(void **state)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(root, sizeof(root), "%s/quire-limit-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(root));
	put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:   12582912 kB\n");
	return 0;
}

static int remove_root(void **state)
{
	char command[PATH_MAX + 32];
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command) != 0;
}

static void put_v2_mount(void)
{
	put("proc/self/mountinfo",
	    "22 1 0:20 / /proc rw,relatime - proc proc rw\n"
	    "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static struct memory_limit read_limit(void)
{
	struct memory_limit m;
	assert_int_equal(memory_limit_read(root, &m), 0);
	return m;
}

static void without_cgroups_the_machine_counts(void **state)
{
	struct memory_limit m = read_limit();
	assert_int_equal(m.limit_bytes, 16 * GIB);
	assert_int_equal(m.used_bytes, 4 * GIB);
	assert_true(m.pressure_some_pct == 0);
}

static void without_anything_physical_memory_counts(void **state)
{
	struct memory_limit m;
	assert_int_equal(memory_limit_read("/nonexistent", &m), 0);
	assert_int_equal(m.limit_bytes, (uint64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
	assert_int_equal(m.used_bytes, 0);
}

static void v2_limit_and_usage_without_files(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/app\n");
	put("sys/fs/cgroup/app/memory.max", "2147483648\n");
	put("sys/fs/cgroup/app/memory.current", "1610612736\n");
	put("sys/fs/cgroup/app/memory.stat",
	    "anon 536870912\nfile 1073741824\ninactive_file 805306368\nactive_file 268435456\n");
	struct memory_limit m = read_limit();
	assert_int_equal(m.limit_bytes, 2 * GIB);
	assert_int_equal(m.used_bytes, 512 * MIB);
}

static void v2_high_is_a_limit_too(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/app\n");
	put("sys/fs/cgroup/app/memory.max", "max\n");
	put("sys/fs/cgroup/app/memory.high", "1073741824\n");
	assert_int_equal(read_limit().limit_bytes, GIB);
}

static void v2_max_is_no_limit(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/app\n");
	put("sys/fs/cgroup/app/memory.max", "max\n");
	put("sys/fs/cgroup/app/memory.current", "1073741824\n");
	struct memory_limit m = read_limit();
	assert_int_equal(m.limit_bytes, 16 * GIB);
	assert_int_equal(m.used_bytes, 4 * GIB);
}

static void tightest_ancestor_binds(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/a/b/c\n");
	put("sys/fs/cgroup/a/memory.max", "4294967296\n");
	put("sys/fs/cgroup/a/memory.current", "3221225472\n");
	put("sys/fs/cgroup/a/b/memory.max", "1073741824\n");
	put("sys/fs/cgroup/a/b/memory.current", "268435456\n");
	put("sys/fs/cgroup/a/b/c/memory.max", "max\n");
	struct memory_limit m = read_limit();
	assert_int_equal(m.limit_bytes, GIB);
	assert_int_equal(m.used_bytes, 256 * MIB);
}

static void ancestor_without_room_binds_too(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/a/b\n");
	put("sys/fs/cgroup/a/memory.max", "4294967296\n");
	put("sys/fs/cgroup/a/memory.current", "4160749568\n"); /* 128 MiB left */
	put("sys/fs/cgroup/a/b/memory.max", "1073741824\n");
	put("sys/fs/cgroup/a/b/memory.current", "268435456\n");
	struct memory_limit m = read_limit();
	assert_int_equal(m.limit_bytes, GIB);
	assert_int_equal(m.limit_bytes - m.used_bytes, 128 * MIB);
}

static void usage_above_the_limit_leaves_no_room(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/a\n");
	put("sys/fs/cgroup/a/memory.max", "1073741824\n");
	put("sys/fs/cgroup/a/memory.current", "2147483648\n");
	struct memory_limit m = read_limit();
	assert_int_equal(m.used_bytes, m.limit_bytes);
}

static void v1_limit_and_usage_without_files(void **state)
{
	put("proc/self/mountinfo",
	    "31 1 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
	    "32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
	put("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/box/one\n0::/\n");
	put("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
	put("sys/fs/cgroup/memory/box/one/memory.limit_in_bytes", "1073741824\n");
	put("sys/fs/cgroup/memory/box/one/memory.usage_in_bytes", "805306368\n");
	put("sys/fs/cgroup/memory/box/one/memory.stat",
	    "inactive_file 1\ntotal_inactive_file 268435456\ntotal_active_file 268435456\n");
	struct memory_limit m = read_limit();
	assert_int_equal(m.limit_bytes, GIB);
	assert_int_equal(m.used_bytes, 256 * MIB);
}

static void both_hierarchies_count(void **state)
{
	put("proc/self/mountinfo",
	    "32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	    "33 1 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
	put("proc/self/cgroup", "3:memory:/one\n0::/two\n");
	put("sys/fs/cgroup/memory/one/memory.limit_in_bytes", "2147483648\n");
	put("sys/fs/cgroup/unified/two/memory.max", "1073741824\n");
	assert_int_equal(read_limit().limit_bytes, GIB);
}

/* A container without a namespace of its own: it sees the host's path, but only its own
 * cgroup is mounted. */
static void path_is_taken_relative_to_the_mount(void **state)
{
	put("proc/self/mountinfo",
	    "33 1 0:29 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
	put("proc/self/cgroup", "0::/docker/abc/in\n");
	put("sys/fs/cgroup/memory.max", "1073741824\n");
	put("sys/fs/cgroup/in/memory.max", "536870912\n");
	assert_int_equal(read_limit().limit_bytes, 512 * MIB);
	put("proc/self/cgroup", "0::/docker/abcd\n");
	assert_int_equal(read_limit().limit_bytes, GIB);
	put("proc/self/cgroup", "0::/docker/abc/../../etc\n");
	assert_int_equal(read_limit().limit_bytes, GIB);
}

static void mount_points_with_blanks_are_found(void **state)
{
	put("proc/self/mountinfo", "33 1 0:29 / /sys/fs/c\\040g ro - cgroup2 cgroup rw\n");
	put("proc/self/cgroup", "0::/\n");
	put("sys/fs/c g/memory.max", "1073741824\n");
	assert_int_equal(read_limit().limit_bytes, GIB);
}

static void damaged_files_count_as_missing(void **state)
{
	static const char *const junk[] = {"", "\n", "x\n", "-1\n", "12x\n", "max4\n", " 5\n", "\x01\xff"};
	put_v2_mount();
	put("proc/self/cgroup", "0::/app\n");
	for (unsigned i = 0; i < sizeof(junk) / sizeof(junk[0]); i++) {
		put("sys/fs/cgroup/app/memory.max", junk[i]);
		put("sys/fs/cgroup/app/memory.current", junk[i]);
		put("sys/fs/cgroup/app/memory.stat", junk[i]);
		put("sys/fs/cgroup/app/memory.pressure", junk[i]);
		struct memory_limit m = read_limit();
		assert_int_equal(m.limit_bytes, 16 * GIB);
		assert_int_equal(m.used_bytes, 4 * GIB);
		assert_true(m.pressure_some_pct == 0);
	}
	for (unsigned i = 0; i < sizeof(junk) / sizeof(junk[0]); i++) {
		put("proc/self/cgroup", junk[i]);
		put("proc/self/mountinfo", junk[i]);
		put("proc/pressure/memory", junk[i]);
		assert_int_equal(read_limit().limit_bytes, 16 * GIB);
	}
}

static void enormous_numbers_saturate(void **state)
{
	put_v2_mount();
	put("proc/self/cgroup", "0::/app\n");
	put("sys/fs/cgroup/app/memory.max", "99999999999999999999999999\n");
	put("sys/fs/cgroup/app/memory.current", "99999999999999999999999999\n");
	assert_int_equal(read_limit().limit_bytes, 16 * GIB);
}

static void long_lines_do_no_harm(void **state)
{
	enum { N = 100000 };
	char *line = malloc(N + 2);
	memset(line, 'a', N);
	line[N] = '\n';
	line[N + 1] = '\0';
	put("proc/self/mountinfo", line);
	put("proc/self/cgroup", line);
	put("proc/pressure/memory", line);
	assert_int_equal(read_limit().limit_bytes, 16 * GIB);
	memcpy(line, "0::/", 4);
	put("proc/self/cgroup", line);
	put_v2_mount();
	assert_int_equal(read_limit().limit_bytes, 16 * GIB);
	free(line);
}

static void pressure_of_the_cgroup_before_that_of_the_machine(void **state)
{
	put("proc/pressure/memory", "some avg10=1.25 avg60=0.00 avg300=0.00 total=1\nfull avg10=9.00\n");
	assert_true(read_limit().pressure_some_pct == 1.25);
	put_v2_mount();
	put("proc/self/cgroup", "0::/app\n");
	put("sys/fs/cgroup/app/memory.pressure", "some avg10=30.50 avg60=0.00 avg300=0.00 total=1\n");
	assert_true(read_limit().pressure_some_pct == 30.5);
}

/* ---- the budget ---- */

static const struct memory_limit calm = {.limit_bytes = 8 * GIB, .used_bytes = 4 * GIB};

static void first_budget_is_a_share_of_the_room(void **state)
{
	assert_int_equal(memory_limit_auto_budget(&calm, 0, 0, 8 * MIB), 3 * GIB);
	assert_int_equal(memory_limit_auto_budget(&calm, UINT64_MAX, 0, 8 * MIB), 3 * GIB);
}

static void what_is_held_counts_as_room(void **state)
{
	assert_int_equal(memory_limit_auto_budget(&calm, 0, 2 * GIB, 8 * MIB), 4 * GIB + GIB / 2);
}

static void never_under_the_minimum(void **state)
{
	struct memory_limit full = {.limit_bytes = GIB, .used_bytes = GIB};
	assert_int_equal(memory_limit_auto_budget(&full, 0, 0, 8 * MIB), 8 * MIB);
	full.pressure_some_pct = 99;
	assert_int_equal(memory_limit_auto_budget(&full, 9 * MIB, 9 * MIB, 8 * MIB), 8 * MIB);
}

static void never_above_the_limit(void **state)
{
	struct memory_limit odd = {.limit_bytes = GIB, .used_bytes = 0};
	assert_true(memory_limit_auto_budget(&odd, 0, UINT64_MAX, 8 * MIB) <= GIB);
	assert_true(memory_limit_auto_budget(&odd, 0, 100 * GIB, 8 * MIB) <= GIB);
}

static void less_room_shrinks_at_once(void **state)
{
	struct memory_limit tight = {.limit_bytes = 4 * GIB, .used_bytes = 4 * GIB};
	assert_int_equal(memory_limit_auto_budget(&tight, 3 * GIB, 2 * GIB, 8 * MIB), 3 * GIB / 2);
}

static void grows_slowly_and_arrives(void **state)
{
	uint64_t budget = 64 * MIB;
	unsigned n_steps = 0;
	while (budget < 3 * GIB) {
		uint64_t next = memory_limit_auto_budget(&calm, budget, 0, 8 * MIB);
		assert_true(next > budget && next <= budget + budget / 16);
		budget = next;
		n_steps++;
	}
	assert_int_equal(budget, 3 * GIB);
	assert_true(n_steps > 30 && n_steps < 100);
	assert_int_equal(memory_limit_auto_budget(&calm, budget, 0, 8 * MIB), budget);
}

static void pressure_shrinks_more_the_higher_it_is(void **state)
{
	struct memory_limit m = calm;
	uint64_t last = 2 * GIB;
	for (unsigned pct = 5; pct <= 40; pct += 5) {
		m.pressure_some_pct = pct;
		uint64_t next = memory_limit_auto_budget(&m, 2 * GIB, 2 * GIB, 8 * MIB);
		assert_true(next < last);
		last = next;
	}
	assert_in_range(last, 2 * GIB * 79 / 100, 2 * GIB * 81 / 100);
	m.pressure_some_pct = 100;
	assert_int_equal(memory_limit_auto_budget(&m, 2 * GIB, 2 * GIB, 8 * MIB), last);
}

static void some_pressure_stops_growth(void **state)
{
	struct memory_limit m = calm;
	m.pressure_some_pct = 2;
	assert_int_equal(memory_limit_auto_budget(&m, GIB, 0, 8 * MIB), GIB);
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_ROOT(without_cgroups_the_machine_counts),
		WITH_ROOT(without_anything_physical_memory_counts),
		WITH_ROOT(v2_limit_and_usage_without_files),
		WITH_ROOT(v2_high_is_a_limit_too),
		WITH_ROOT(v2_max_is_no_limit),
		WITH_ROOT(tightest_ancestor_binds),
		WITH_ROOT(ancestor_without_room_binds_too),
		WITH_ROOT(usage_above_the_limit_leaves_no_room),
		WITH_ROOT(v1_limit_and_usage_without_files),
		WITH_ROOT(both_hierarchies_count),
		WITH_ROOT(path_is_taken_relative_to_the_mount),
		WITH_ROOT(mount_points_with_blanks_are_found),
		WITH_ROOT(damaged_files_count_as_missing),
		WITH_ROOT(enormous_numbers_saturate),
		WITH_ROOT(long_lines_do_no_harm),
		WITH_ROOT(pressure_of_the_cgroup_before_that_of_the_machine),
		cmocka_unit_test(first_budget_is_a_share_of_the_room),
		cmocka_unit_test(what_is_held_counts_as_room),
		cmocka_unit_test(never_under_the_minimum),
		cmocka_unit_test(never_above_the_limit),
		cmocka_unit_test(less_room_shrinks_at_once),
		cmocka_unit_test(grows_slowly_and_arrives),
		cmocka_unit_test(pressure_shrinks_more_the_higher_it_is),
		cmocka_unit_test(some_pressure_stops_growth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
