/* Masks: each test is a process of its own, as the first probe freezes them. */
#include "../../src/base/feature.h"
#include "cmocka_env.h"

#include <quire/error.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's verdict is its exit code: cmocka's own ways don't cross a fork. */
static void in_child(bool (*holds)(void))
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		unsetenv("QUIRE_MASK");
		_exit(holds() ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static bool each_word_masks_its_feature(void)
{
	for (unsigned f = 0; f < N_FEATURES; f++) {
		if (quire_mask(feature_name((enum feature)f)) != 0)
			return false;
	}
	for (unsigned f = 0; f < N_FEATURES; f++) {
		if (feature_have((enum feature)f))
			return false;
	}
	return true;
}

static bool unknown_word_masks_nothing(void)
{
	return quire_mask("direct,no_such_thing") == -EINVAL && quire_mask("DIRECT") == -EINVAL &&
	       quire_mask(NULL) == -EINVAL && quire_mask(" direct") == -EINVAL &&
	       feature_have(FEATURE_DIRECT);
}

static bool empty_list_masks_nothing(void)
{
	return quire_mask("") == 0 && feature_have(FEATURE_DIRECT);
}

static bool masks_add_up(void)
{
	setenv("QUIRE_MASK", "cachestat", 1);
	return quire_mask("direct") == 0 && quire_mask("io_uring,") == 0 &&
	       !feature_have(FEATURE_DIRECT) && !feature_have(FEATURE_IO_URING) &&
	       !feature_have(FEATURE_DEFER_TASKRUN) && !feature_have(FEATURE_CACHESTAT);
}

static bool environment_may_hold_words_of_other_versions(void)
{
	setenv("QUIRE_MASK", "new_in_version_9,direct", 1);
	return !feature_have(FEATURE_DIRECT);
}

static bool without_userfaultfd_its_parts_are_gone(void)
{
	return quire_mask("userfaultfd") == 0 && !feature_have(FEATURE_UFFD_KERNEL_FAULTS) &&
	       !feature_have(FEATURE_UFFD_MOVE) && !feature_have(FEATURE_UFFD_POISON) &&
	       feature_userfaultfd(false, 0) == -ENOSYS;
}

static bool without_kernel_faults_the_rest_stays(void)
{
	if (quire_mask("uffd_kernel_faults") != 0 || feature_have(FEATURE_UFFD_KERNEL_FAULTS))
		return false;
	if (!feature_have(FEATURE_USERFAULTFD))
		return true;
	int fd = feature_userfaultfd(false, 0);
	return fd >= 0 && feature_userfaultfd(true, 0) == -EPERM;
}

#define MASK_TEST(name)                                                                            \
	static void name##_in_child(void **state)                                                  \
	{                                                                                          \
		in_child(name);                                                                    \
	}

MASK_TEST(each_word_masks_its_feature)
MASK_TEST(unknown_word_masks_nothing)
MASK_TEST(empty_list_masks_nothing)
MASK_TEST(masks_add_up)
MASK_TEST(environment_may_hold_words_of_other_versions)
MASK_TEST(without_userfaultfd_its_parts_are_gone)
MASK_TEST(without_kernel_faults_the_rest_stays)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_word_masks_its_feature_in_child),
		cmocka_unit_test(unknown_word_masks_nothing_in_child),
		cmocka_unit_test(empty_list_masks_nothing_in_child),
		cmocka_unit_test(masks_add_up_in_child),
		cmocka_unit_test(environment_may_hold_words_of_other_versions_in_child),
		cmocka_unit_test(without_userfaultfd_its_parts_are_gone_in_child),
		cmocka_unit_test(without_kernel_faults_the_rest_stays_in_child),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
