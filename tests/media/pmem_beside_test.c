/* pmem_beside_test.c - files are mapped as devices while other threads map memory of their own: none of that is mapped over. On the file system of
 * $TMPDIR: one that knows MAP_SYNC and hasn't it for this file, as ext4 and XFS on a disk, is where it matters. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/device.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICE_BYTES (8u << 20)
#define OWN_BYTES (DEVICE_BYTES + (2u << 20)) /* as libpmem2 reserves */
#define N_OPENINGS 2000u
#define N_THREADS 2u

static _Atomic bool stop;
static _Atomic unsigned n_mapped, n_lost;

/* Maps, and looks whether that is its own as long as it has it. */
static void *map_own(void *arg)
{
	uint64_t tag = 0;

	while (!atomic_load(&stop)) {
		volatile uint64_t *own = mmap(NULL, OWN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (own == MAP_FAILED)
			continue;
		for (unsigned i = 0; i < 4; i++)
			own[i * (OWN_BYTES / 32)] = ++tag;
		for (unsigned look = 0; look < 20; look++)
			for (unsigned i = 0; i < 4; i++)
				atomic_fetch_add(&n_lost, own[i * (OWN_BYTES / 32)] != tag - 3 + i);
		munmap((void *)(uintptr_t)own, OWN_BYTES);
		atomic_fetch_add(&n_mapped, 1);
	}
	return arg;
}

static void others_keep_their_memory(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char dir[PATH_MAX / 2], path[PATH_MAX];
	pthread_t threads[N_THREADS];
	struct quire_error err;
	struct device *d;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/quire-beside-XXXXXX", tmp != NULL ? tmp : "/var/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/device", dir);
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, map_own, NULL), 0);
	for (unsigned i = 0; i < N_OPENINGS && atomic_load(&n_lost) == 0; i++) {
		int rc = device_open_pmem(path, i == 0 ? DEVICE_CREATE : 0, DEVICE_BYTES, DEVICE_DURABLE_PROCESS, NULL, &d, &err);
		if (rc < 0)
			fail_msg("%s", err.text);
		device_close(d);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	(void)unlink(path);
	(void)rmdir(dir);
	assert_int_equal(n_lost, 0);
	assert_true(n_mapped > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(others_keep_their_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
