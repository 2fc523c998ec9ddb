/* denied - run by deny: says whether the filter holds. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

static bool is_denied(const char *what, long rc)
{
	bool denied = rc == -1 && errno == EPERM;
	printf("%s: %s\n", what, denied ? "denied" : "NOT denied");
	return denied;
}

int main(void)
{
	struct io_uring_params params;
	memset(&params, 0, sizeof(params));

	bool all = is_denied("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
	all &= is_denied("io_uring_setup", syscall(SYS_io_uring_setup, 1, &params));
	all &= is_denied("io_uring_enter", syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0));
	all &= is_denied("io_uring_register", syscall(SYS_io_uring_register, -1, 0, NULL, 0));

	/* Denied before the descriptor is looked at, so any will do. */
	all &= is_denied("USERFAULTFD_IOC_NEW", ioctl(STDOUT_FILENO, USERFAULTFD_IOC_NEW, O_CLOEXEC));
	return all ? 0 : 1;
}
