/* serve_signals.h - the signals that end a server: SIGINT and SIGTERM, waited for by a thread of their own. */
#ifndef CLI_SERVE_SIGNALS_H
#define CLI_SERVE_SIGNALS_H

#include <pthread.h>
#include <signal.h>

struct serve_waiter {
	pthread_t thread;
	void (*stop)(void *arg);
	void *arg; /* borrowed: until the end */
};

/* Before there is another thread: both are blocked, and SIGPIPE is ignored. */
void serve_signals_block(sigset_t *ret_set);

/* From now on stop(arg) is called once one of them comes. Says why not, if it can't be. */
int serve_waiter_start(struct serve_waiter *w, void (*stop)(void *arg), void *arg);
/* Once what was to be stopped has ended, by a signal or by itself. */
void serve_waiter_end(struct serve_waiter *w);

#endif
