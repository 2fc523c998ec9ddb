/* serve_confine.c - a daemon parses what others send, and has the rights of whoever started it, which may be root's.
 *
 * It gives up what it has no use for, so that whoever got to run code in it by a mistake of ours would not have it either:
 *
 * - capabilities but those that files of any owner, pinned memory, and userfaultfd for the kernel's own accesses need;
 *   they are taken from the bounding set too, so no program that it starts gets them back;
 * - new privileges by execve (no_new_privs): a program with the set-user-ID bit is an ordinary one;
 * - system calls that look into other processes, make namespaces, or change the machine: a filter answers EPERM.
 *
 * Not refused: execve, since verbs of volumes start qemu-img; opening files, since verbs name them. What is given up
 * is given up by the first thread, before there are others, which inherit it. docs/security.md has the whole picture.
 */
#include "serve_confine.h"

#include "cli.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- capabilities ---- */

static const unsigned needed[] = {
	/* files of whoever calls, read by import, written by export with their owners and modes */
	CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID,
	/* arenas: locked, filled for the kernel's accesses, emptied by process_madvise */
	CAP_IPC_LOCK, CAP_SYS_PTRACE, CAP_SYS_NICE,
	/* PR_SET_IO_FLUSHER and limits; ports below 1024 */
	CAP_SYS_RESOURCE, CAP_NET_BIND_SERVICE,
};

static int keep_capabilities(bool keeps_admin)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	uint64_t keep = keeps_admin ? UINT64_C(1) << CAP_SYS_ADMIN : 0;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		keep |= UINT64_C(1) << needed[i];
	for (unsigned cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if ((keep >> cap & 1) == 0)
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* who may not has nothing that could come back */
	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		uint32_t mine = (uint32_t)(keep >> 32 * i);
		data[i].permitted &= mine;
		data[i].effective &= mine;
		data[i].inheritable &= mine;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* ---- system calls ---- */

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

#define X32_BIT 0x40000000u /* of the number, on x86-64: another way to say the same calls */

#ifdef THIS_ARCH

/* AddressSanitizer looks for leaks by it. */
#if defined(__SANITIZE_ADDRESS__)
#define TRACES_ITSELF
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRACES_ITSELF
#endif
#endif

static const unsigned refused[] = {
#ifndef TRACES_ITSELF
	SYS_ptrace,
#endif
	SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp, SYS_perf_event_open, SYS_bpf,
	SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
	SYS_move_mount, SYS_mount_setattr, SYS_open_tree, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
	SYS_kexec_file_load, SYS_reboot, SYS_swapon, SYS_swapoff, SYS_sethostname, SYS_setdomainname, SYS_settimeofday,
	SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_acct, SYS_quotactl, SYS_quotactl_fd,
	SYS_syslog, SYS_add_key, SYS_request_key, SYS_keyctl, SYS_open_by_handle_at, SYS_personality, SYS_vhangup,
};
#define N_REFUSED (sizeof(refused) / sizeof(refused[0]))

#define NEW_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define IF(how, value, yes, no) BPF_JUMP(BPF_JMP | (how) | BPF_K, value, yes, no)
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)

/* clone3(2) has its flags in memory, where a filter sees nothing: who is told that there is none takes clone(2), as the C library does. */
static int refuse_calls(void)
{
	enum { N_BEFORE = 10, REFUSE = N_BEFORE + N_REFUSED + 1, NONE = REFUSE + 1, N_ALL = NONE + 1 };
	struct sock_filter program[N_ALL] = {
		LOAD(arch),
		IF(BPF_JEQ, THIS_ARCH, 1, 0),
		ANSWER(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		IF(BPF_JGE, X32_BIT, REFUSE - 5, 0),
		IF(BPF_JEQ, SYS_clone3, NONE - 6, 0),
		IF(BPF_JEQ, SYS_clone, 0, 3),
		LOAD(args[0]), /* the lower half, on both machines */
		IF(BPF_JSET, NEW_NAMESPACES, REFUSE - 9, 0),
		ANSWER(SECCOMP_RET_ALLOW),
		[N_BEFORE + N_REFUSED] = ANSWER(SECCOMP_RET_ALLOW),
		[REFUSE] = ANSWER(SECCOMP_RET_ERRNO | EPERM),
		[NONE] = ANSWER(SECCOMP_RET_ERRNO | ENOSYS),
	};
	struct sock_fprog filter = {.len = N_ALL, .filter = program};

	for (size_t i = 0; i < N_REFUSED; i++)
		program[N_BEFORE + i] = (struct sock_filter)IF(BPF_JEQ, refused[i], (uint8_t)(N_REFUSED - i), 0);
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ? -errno : 0;
}

#else

static int refuse_calls(void)
{
	return 0;
}

#endif

int serve_confine(bool keeps_admin)
{
	int rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : keep_capabilities(keeps_admin);

	if (rc == 0)
		rc = refuse_calls();
	if (rc < 0 && rc != -EINVAL && rc != -ENOSYS) /* no seccomp, or a sandbox that lets nobody ask for more of it */
		return cli_fail("serve", "giving up rights: %s", strerror(-rc));
	return CLI_DONE;
}
