/* confine_test.c - what a daemon has given up is refused to it, and what it needs is not. Each test in a child, since there is no way back. */
#include "../../src/cli/cli.h"
#include "../../src/cli/serve_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child ends with 0, or the line at which it was not as it should be. */
#define MUST(what)                                \
	do {                                      \
		if (!(what)) {                    \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #what, errno); \
			_exit(1);                 \
		}                                 \
	} while (0)

static void in_a_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		MUST(serve_confine(false) == CLI_DONE);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static bool is_refused(long rc)
{
	return rc == -1 && errno == EPERM;
}

static void look_into_itself(void)
{
	char from[8] = "secret", to[8];
	struct iovec local = {to, sizeof(to)}, remote = {from, sizeof(from)};

	/* A process may do these to itself, if nobody forbids the calls. */
	MUST(is_refused(process_vm_readv(getpid(), &local, 1, &remote, 1, 0)));
	MUST(is_refused(process_vm_writev(getpid(), &local, 1, &remote, 1, 0)));
	MUST(is_refused(syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0)));
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	MUST(pidfd >= 0 || errno == ENOSYS);
	MUST(is_refused(syscall(SYS_pidfd_getfd, pidfd, 0, 0)));
	MUST(is_refused(syscall(SYS_personality, 0xffffffff)));
	MUST(is_refused(syscall(SYS_clock_adjtime, 0, NULL)));
}

static void other_processes_are_not_looked_into(void **state)
{
	(void)state;
	in_a_child(look_into_itself);
}

static void make_namespaces(void)
{
	static const int all[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};

	MUST(is_refused(unshare(CLONE_FILES))); /* which anybody may */
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		long pid = syscall(SYS_clone, all[i] | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			_exit(0);
		MUST(is_refused(pid));
	}
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	MUST(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == ENOSYS);
}

static void no_namespaces_are_made(void **state)
{
	(void)state;
	in_a_child(make_namespaces);
}

static void *add_one(void *arg)
{
	++*(int *)arg;
	return NULL;
}

static void go_on(void)
{
	pthread_t thread;
	int n = 0, status;

	MUST(pthread_create(&thread, NULL, add_one, &n) == 0);
	MUST(pthread_join(thread, NULL) == 0);
	MUST(n == 1);
	pid_t pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	MUST(waitpid(pid, &status, 0) == pid && status == 0);
	MUST(open("/dev/null", O_RDWR | O_CLOEXEC) >= 0);
}

static void threads_and_programs_are_started(void **state)
{
	(void)state;
	in_a_child(go_on);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_processes_are_not_looked_into),
		cmocka_unit_test(no_namespaces_are_made),
		cmocka_unit_test(threads_and_programs_are_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
