/* deny [--io_uring | --userfaultfd] PROGRAM [ARG…] - runs a program as a container runtime would that refuses
 * io_uring and userfaultfd, or one of them: their system calls fail with EPERM, and so does the ioctl
 * that makes a userfaultfd out of /dev/userfaultfd. (A filter sees no paths, so the
 * open of that device succeeds.) Inherited by all that the program starts.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "which audit architecture is this?"
#endif

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, n_skip_if, n_skip_else) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (n_skip_if), (n_skip_else))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))

/* What is not refused is compared with a number that no call has. */
#define NO_CALL 0xffffffffu

static int install_filter(bool uring, bool uffd)
{
	/* Little-endian machines: the low word of a 64-bit argument comes first. */
	struct sock_filter program[] = {
		LOAD(arch),
		IF_EQUAL(THIS_ARCH, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		IF_EQUAL(uffd ? SYS_userfaultfd : NO_CALL, 7, 0),
		IF_EQUAL(uring ? SYS_io_uring_setup : NO_CALL, 6, 0),
		IF_EQUAL(uring ? SYS_io_uring_enter : NO_CALL, 5, 0),
		IF_EQUAL(uring ? SYS_io_uring_register : NO_CALL, 4, 0),
		IF_EQUAL(uffd ? SYS_ioctl : NO_CALL, 0, 2),
		LOAD(args[1]),
		IF_EQUAL(USERFAULTFD_IOC_NEW, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog filter = {.len = sizeof(program) / sizeof(program[0]), .filter = program};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
		return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	bool only_uring = argc > 1 && strcmp(argv[1], "--io_uring") == 0;
	bool only_uffd = argc > 1 && strcmp(argv[1], "--userfaultfd") == 0;
	char **program = argv + 1 + (only_uring || only_uffd);

	if (argc < 2 || *program == NULL) {
		fprintf(stderr, "usage: deny [--io_uring | --userfaultfd] PROGRAM [ARG…]\n");
		return 2;
	}

	int rc = install_filter(!only_uffd, !only_uring);
	if (rc < 0) {
		printf("skipped: no seccomp filter can be installed here: %s\n", strerror(-rc));
		return 77;
	}

	execvp(*program, program);
	fprintf(stderr, "deny: %s: %s\n", *program, strerror(errno));
	return 1;
}
