/* coro_signal.c - a fault handler in which a coroutine may suspend. See coro.c for what it takes. */
#include "coro.h"
#include "stack_notes.h"
#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef STACK_NOTES_TSAN
/* The kernel's own, alike on x86-64 and arm64. */
struct kernel_action {
	void (*handler)(int, siginfo_t *, void *);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

/* TSan puts a handler of its own before ours, with every signal masked; as we switch away within it,
 * the mask would stay. So ours goes to the kernel directly, with what libc added to it. */
static int install_raw(int sig, void (*handler)(int, siginfo_t *, void *))
{
	struct kernel_action action;
	if (syscall(SYS_rt_sigaction, sig, NULL, &action, sizeof(action.mask)) < 0)
		return -errno;
	action.handler = handler;
	action.mask = 0;
	return syscall(SYS_rt_sigaction, sig, &action, NULL, sizeof(action.mask)) < 0 ? -errno : 0;
}
#else
static int install_raw(int sig, void (*handler)(int, siginfo_t *, void *))
{
	return 0;
}
#endif

int coro_install_fault_handler(int sig, void (*handler)(int, siginfo_t *, void *), struct sigaction *ret_old)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
	sigemptyset(&action.sa_mask);
	if (sigaction(sig, &action, ret_old) < 0)
		return -errno;
	return install_raw(sig, handler);
}
