/* demo_quiet.c - CPUs and priorities of the contest.
 *
 * Where the kernel groups processes by session (Documentation/scheduler: autogroup), niceness
 * counts within a session only, so the session is raised too: for a server, which gets a session
 * of its own, and for the client's until the contest is over.
 */
#include "demo_quiet.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICENESS (-19)
#define TURN_NS 100000u
#define AUTOGROUP "/proc/self/autogroup"

/* "/autogroup-11 nice 0" */
static int autogroup_nice(void)
{
	int nice = 0;
	FILE *f = fopen(AUTOGROUP, "re");

	if (f != NULL && fscanf(f, "%*s nice %d", &nice) != 1)
		nice = 0;
	if (f != NULL)
		fclose(f);
	return nice;
}

/* struct sched_attr of linux/sched/types.h, which glibc's headers do not go well with. */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

/* Short turns: a kernel that knows them lets who wakes up with such a turn go before who is
 * in the middle of a long one. Everybody may ask for it; 0 is the default again. */
static void set_turn(int nice, uint64_t ns)
{
	const struct scheduling s = {
		.size = sizeof(s), .policy = SCHED_OTHER, .nice = nice, .runtime_ns = ns
	};

	syscall(SYS_sched_setattr, 0, &s, 0);
}

/* Where it is refused, it was not changed. */
static void set_nice(int nice, int autogroup)
{
	setpriority(PRIO_PROCESS, 0, nice);
	FILE *f = fopen(AUTOGROUP, "we");
	if (f == NULL)
		return;
	fprintf(f, "%d", autogroup);
	fclose(f);
}

/* "cpu user nice system idle iowait irq softirq steal …", in ticks. */
double quiet_cpu_seconds(void)
{
	unsigned long long user, nice, system, irq, softirq, steal;
	FILE *f = fopen("/proc/stat", "re");
	double seconds = 0;

	if (f != NULL && fscanf(f, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice, &system, &irq,
	                        &softirq, &steal) == 6)
		seconds = (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
	if (f != NULL)
		fclose(f);
	return seconds;
}

void quiet_begin(struct quiet *q)
{
	unsigned last = 0;

	memset(q, 0, sizeof(*q));
	q->nice_before = getpriority(PRIO_PROCESS, 0);
	q->autogroup_before = autogroup_nice();
	set_nice(NICENESS, NICENESS);
	set_turn(getpriority(PRIO_PROCESS, 0), TURN_NS);
	q->split = sched_getaffinity(0, sizeof(q->before), &q->before) == 0 && CPU_COUNT(&q->before) >= 2;
	if (!q->split)
		return;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &q->before))
			last = cpu; /* interrupts favour the first */
	CPU_SET(last, &q->client);
	q->server = q->before;
	CPU_CLR(last, &q->server);
	sched_setaffinity(0, sizeof(q->client), &q->client);
}

void quiet_end(const struct quiet *q)
{
	set_turn(getpriority(PRIO_PROCESS, 0), 0);
	set_nice(q->nice_before, q->autogroup_before);
	if (q->split)
		sched_setaffinity(0, sizeof(q->before), &q->before);
}

void quiet_server(const struct quiet *q)
{
	setsid();
	set_nice(NICENESS, NICENESS);
	set_turn(getpriority(PRIO_PROCESS, 0), TURN_NS);
	if (q->split)
		sched_setaffinity(0, sizeof(q->server), &q->server);
}
