/* demo_quiet.h - keeps other programs, and the client, out of the servers' way, as far as allowed.
 *
 * The measuring client has a CPU of its own where there are two; client and servers come before
 * other programs. Ordinary users may not ask for the latter: then it is as it is, for every
 * contender alike.
 */
#ifndef CLI_DEMO_QUIET_H
#define CLI_DEMO_QUIET_H

#include <sched.h>
#include <stdbool.h>

struct quiet {
	bool split; /* client and servers have CPUs of their own */
	cpu_set_t client, server, before;
	int nice_before, autogroup_before;
};

/* In the client, before the first server is started; and at the end. */
void quiet_begin(struct quiet *q);
void quiet_end(const struct quiet *q);

/* CPU time used so far by everybody, by what the kernel counts; 0 if it can't be read. */
double quiet_cpu_seconds(void);

/* In a server's process. */
void quiet_server(const struct quiet *q);

#endif
