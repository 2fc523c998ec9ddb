/* Probing: answers are stable, agree with what then works, and leave nothing behind. */
#include "../../src/base/feature.h"
#include "cmocka_env.h"

#include <quire/error.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UFFD_FEATURE_MOVE_BIT (1ull << 16)
#define UFFD_FEATURE_POISON_BIT (1ull << 14)

static unsigned n_descriptors(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void *ask_all(void *arg)
{
	unsigned *found = arg;
	for (unsigned f = 0; f < N_FEATURES; f++)
		*found |= (unsigned)feature_have((enum feature)f) << f;
	return NULL;
}

/* First of all tests: the probe itself happens here, in four threads at once. */
static void threads_get_the_same_answer(void **state)
{
	pthread_t threads[4];
	unsigned found[4] = {0};
	unsigned before = n_descriptors();
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(0, pthread_create(&threads[i], NULL, ask_all, &found[i]));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(found[i], found[0]);
	assert_int_equal(n_descriptors(), before);
	for (unsigned f = 0; f < N_FEATURES; f++)
		print_message("%s: %s\n", feature_name((enum feature)f),
		              found[0] >> f & 1 ? "yes" : "no");
}

static void parts_need_their_whole(void **state)
{
	if (!feature_have(FEATURE_USERFAULTFD)) {
		assert_false(feature_have(FEATURE_UFFD_KERNEL_FAULTS));
		assert_false(feature_have(FEATURE_UFFD_MOVE));
		assert_false(feature_have(FEATURE_UFFD_POISON));
	}
	if (!feature_have(FEATURE_IO_URING))
		assert_false(feature_have(FEATURE_DEFER_TASKRUN));
}

static void userfaultfd_is_given_as_far_as_probed(void **state)
{
	int fd = feature_userfaultfd(false, 0);
	if (feature_have(FEATURE_USERFAULTFD)) {
		assert_true(fd >= 0);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
		close(fd);
	} else {
		assert_int_equal(fd, -ENOSYS);
	}

	fd = feature_userfaultfd(true, 0);
	assert_int_equal(fd >= 0, feature_have(FEATURE_UFFD_KERNEL_FAULTS));
	if (fd >= 0)
		close(fd);
}

static void userfaultfd_features_are_given_as_far_as_probed(void **state)
{
	int fd = feature_userfaultfd(false, UFFD_FEATURE_MOVE_BIT);
	assert_int_equal(fd >= 0, feature_have(FEATURE_UFFD_MOVE));
	if (fd >= 0)
		close(fd);
	fd = feature_userfaultfd(false, UFFD_FEATURE_POISON_BIT);
	assert_int_equal(fd >= 0, feature_have(FEATURE_UFFD_POISON));
	if (fd >= 0)
		close(fd);
}

static void unknown_userfaultfd_feature_leaks_nothing(void **state)
{
	unsigned before = n_descriptors();
	assert_true(feature_userfaultfd(false, 1ull << 62) < 0);
	assert_int_equal(n_descriptors(), before);
}

static void masks_come_too_late(void **state)
{
	assert_int_equal(quire_mask("cachestat"), -EBUSY);
}

static void masks_in_the_environment_hold(void **state)
{
	const char *words = getenv("QUIRE_MASK");
	if (words == NULL) {
		print_message("QUIRE_MASK is not set\n");
		skip();
	}
	char copy[512];
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *word = strtok(copy, ","); word != NULL; word = strtok(NULL, ",")) {
		for (unsigned f = 0; f < N_FEATURES; f++) {
			if (strcmp(word, feature_name((enum feature)f)) == 0)
				assert_false(feature_have((enum feature)f));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_get_the_same_answer),
		cmocka_unit_test(parts_need_their_whole),
		cmocka_unit_test(userfaultfd_is_given_as_far_as_probed),
		cmocka_unit_test(userfaultfd_features_are_given_as_far_as_probed),
		cmocka_unit_test(unknown_userfaultfd_feature_leaks_nothing),
		cmocka_unit_test(masks_come_too_late),
		cmocka_unit_test(masks_in_the_environment_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
