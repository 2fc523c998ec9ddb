/* serve_signals.c - see serve_signals.h. */
#include "serve_signals.h"

#include "cli.h"

#include <string.h>

static void those_that_end(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGTERM);
}

void serve_signals_block(sigset_t *ret_set)
{
	signal(SIGPIPE, SIG_IGN);
	those_that_end(ret_set);
	pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

static void *wait_for_one(void *arg)
{
	struct serve_waiter *w = arg;
	sigset_t set;
	int number;

	those_that_end(&set);
	(void)sigwait(&set, &number);
	w->stop(w->arg);
	return NULL;
}

int serve_waiter_start(struct serve_waiter *w, void (*stop)(void *arg), void *arg)
{
	*w = (struct serve_waiter){.stop = stop, .arg = arg};
	int failed = pthread_create(&w->thread, NULL, wait_for_one, w);

	return failed != 0 ? cli_fail("serve", "%s", strerror(failed)) : CLI_DONE;
}

void serve_waiter_end(struct serve_waiter *w)
{
	(void)pthread_kill(w->thread, SIGTERM); /* what it waits for may have ended by itself */
	pthread_join(w->thread, NULL);
}
