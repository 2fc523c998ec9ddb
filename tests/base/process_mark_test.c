/* A forked child is told from its parent, also without the page that is wiped, and what it marks itself is its own. */
#include "../../src/base/process_mark.h"
#include "cmocka_env.h"

#include <sys/wait.h>
#include <unistd.h>

static struct process_mark mark;

static bool child_ends_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && status == 0;
}

/* 0: the child knows whose mark it has; its own is its own, and not its child's. */
static int be_a_child(void)
{
	struct process_mark own;

	if (!process_mark_is_of_parent(&mark))
		return 1;
	process_mark_init(&own);
	if (process_mark_is_of_parent(&own))
		return 2;
	pid_t pid = fork();
	if (pid == 0)
		_exit(process_mark_is_of_parent(&own) ? 0 : 1);
	return child_ends_well(pid) ? 0 : 3;
}

static void children_know(void **state)
{
	process_mark_init(&mark);
	assert_false(process_mark_is_of_parent(&mark));
	pid_t pid = fork();
	if (pid == 0)
		_exit(be_a_child());
	assert_true(child_ends_well(pid));
	assert_false(process_mark_is_of_parent(&mark));
	process_mark_fini(&mark);
	(void)state;
}

/* As on a kernel that has no such memory, or an emulator that ignores what it is asked for. */
static void children_know_without_the_page(void **state)
{
	process_mark_init(&mark);
	struct process_mark without = {.n_forks = mark.n_forks};
	pid_t pid = fork();
	if (pid == 0)
		_exit(process_mark_is_of_parent(&without) ? 0 : 1);
	assert_true(child_ends_well(pid));
	process_mark_fini(&mark);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(children_know),
		cmocka_unit_test(children_know_without_the_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
