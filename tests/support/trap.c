/* trap.c - a SIGBUS handler that jumps back to where the load was tried. */
#include "trap.h"

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local sigjmp_buf back;
static _Thread_local volatile bool armed;
static atomic_uint n_traps;

static void on_sigbus(int signal_number)
{
	if (!armed)
		abort();
	armed = false;
	atomic_fetch_add(&n_traps, 1);
	siglongjmp(back, 1);
}

void trap_install(void)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_handler = on_sigbus;
	sigaction(SIGBUS, &act, NULL);
}

bool load_traps(const void *p)
{
	if (sigsetjmp(back, 1) != 0)
		return true;
	armed = true;
	(void)*(const volatile char *)p;
	armed = false;
	return false;
}

unsigned trap_count(void)
{
	return atomic_load(&n_traps);
}
