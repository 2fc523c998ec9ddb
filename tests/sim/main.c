/* main.c - the simulation of whole stores: all faces at once, on media that fail, one thread a process, from seeds.
 *
 * A seed is a history: some lives of one store, each ended by a close, a cut of the power or the process's death; plan.h has what
 * is drawn from it, world.c what a life is, face_*.c what is done and what must be there afterwards, damage.c what is asked when the media
 * hold what nobody wrote. Nothing in it is real but the CPU: media are src/media/sim*.c, time is idle.c's. So a seed
 * repeats a history to the byte (`--twice` sees to that), and one that fails can be made small:
 *
 *     sim                                    # the first histories; with QUIRE_TEST_LONG an hour of them, from a seed of the clock
 *     sim --from 1 --minutes 60 --processes 2
 *     sim --from 1 --crashes 1000000         # or until so many crashes
 *     sim --seed 4711                        # that one; --verbose: what happens in it
 *     sim --seed 4711 --shrink               # the least of it that fails, and how to repeat that
 *     sim --seed 4711 --without face:map,life:2,op:7-30 --verbose
 *
 * Each process takes every N-th seed. A process that dies is a violation: its seed is told, and another goes on behind it. The exit
 * status is 0 if there was none, 1 if there was one, 2 for usage. The last line says from which seed to go on.
 */
#include "shrink.h"
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_PROCESSES 64u
#define MOST_VIOLATIONS 20u
#define FIRST_HISTORIES 800u
#define FIRST_SANITIZED 100u
#define STUCK_SECONDS 120 /* of one history, on any machine */

struct options {
	uint64_t from, seed, n_crashes, n_histories;
	double seconds;
	unsigned n_processes;
	bool one, verbose, twice, shrink, stop;
	struct plan_less less;
};

/* Of one process; in memory that it shares with the first. */
struct progress {
	volatile uint64_t seed; /* under way, or next */
	volatile uint64_t n_histories;
	uint64_t sums[N_SUMS], before[N_SUMS]; /* of this process, and of those before it */
};

struct child {
	pid_t pid; /* 0: it has ended */
	uint64_t seed; /* when it was last looked at */
	double since;
};

/* The real one: the others are virtual. */
static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- in a process ---- */

static void add(struct progress *p, const struct world *w)
{
	p->n_histories++;
	memcpy(p->sums, w->sums, sizeof(p->sums));
}

static void run_seed(struct world *w, uint64_t seed, const struct options *o)
{
	static struct plan plan;

	plan_make(&plan, seed, &o->less);
	world_run(w, &plan);
	if (!o->twice)
		return;
	uint64_t history = w->history;
	world_run(w, &plan);
	if (w->history != history)
		world_fail(w, __FILE__, __LINE__, "another history, the second time");
}

static bool is_enough(const struct options *o, const struct progress *all)
{
	uint64_t n_crashes = 0, n_histories = 0;

	for (unsigned i = 0; i < o->n_processes; i++) {
		n_crashes += sums_crashes(all[i].before) + sums_crashes(all[i].sums);
		n_histories += all[i].n_histories;
	}
	return (o->n_crashes != 0 && n_crashes >= o->n_crashes) || (o->n_histories != 0 && n_histories >= o->n_histories);
}

static void run_process(const struct options *o, struct progress *all, unsigned no, double until)
{
	static struct world w;
	struct progress *mine = &all[no];

	world_init(&w, o->verbose);
	while ((o->seconds == 0 || now() < until) && !is_enough(o, all)) {
		run_seed(&w, mine->seed, o);
		add(mine, &w);
		mine->seed += o->n_processes;
		if (o->one)
			break;
	}
	world_fini(&w);
	exit(0);
}

/* ---- around them ---- */

static pid_t start(const struct options *o, struct progress *all, unsigned no, double until)
{
	(void)fflush(stdout);
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_process(o, all, no, until);
	}
	if (pid < 0) {
		perror("sim: fork");
		exit(1);
	}
	return pid;
}

static void tell_violation(uint64_t seed, int status, const char *program)
{
	(void)printf("VIOLATION: seed %llu: ", (unsigned long long)seed);
	if (WIFSIGNALED(status))
		(void)printf("%s\n", WTERMSIG(status) == SIGKILL ? "stuck" : strsignal(WTERMSIG(status)));
	else
		(void)printf("exit status %d\n", WEXITSTATUS(status));
	(void)printf("  %s --seed %llu --verbose\n  %s --seed %llu --shrink\n", program, (unsigned long long)seed, program,
	             (unsigned long long)seed);
	(void)fflush(stdout);
}

static void look_whether_stuck(struct child *c, const struct progress *p)
{
	if (c->seed != p->seed) {
		c->seed = p->seed;
		c->since = now();
	} else if (now() - c->since > STUCK_SECONDS) {
		(void)kill(c->pid, SIGKILL);
	}
}

/* How many violations there were. */
static unsigned run_all(const struct options *o, struct progress *all, const char *program)
{
	struct child children[MOST_PROCESSES];
	double until = now() + o->seconds;
	unsigned n_violations = 0, n_running = o->n_processes;

	for (unsigned i = 0; i < o->n_processes; i++) {
		all[i].seed = o->from + i;
		children[i] = (struct child){.pid = start(o, all, i, until), .since = now()};
	}
	while (n_running > 0) {
		for (unsigned i = 0; i < o->n_processes; i++) {
			int status;
			if (children[i].pid == 0)
				continue;
			look_whether_stuck(&children[i], &all[i]);
			if (waitpid(children[i].pid, &status, WNOHANG) != children[i].pid)
				continue;
			children[i].pid = 0;
			n_running--;
			if (status == 0)
				continue;
			n_violations++;
			tell_violation(all[i].seed, status, program);
			all[i].seed += o->n_processes;
			for (unsigned k = 0; k < N_SUMS; k++)
				all[i].before[k] += all[i].sums[k];
			memset(all[i].sums, 0, sizeof(all[i].sums));
			if (o->one || o->stop || n_violations >= MOST_VIOLATIONS)
				continue;
			children[i] = (struct child){.pid = start(o, all, i, until), .since = now()};
			n_running++;
		}
		(void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	return n_violations;
}

static void tell(const struct options *o, const struct progress *all, unsigned n_violations, double seconds)
{
	uint64_t next = UINT64_MAX, n_histories = 0, sums[N_SUMS] = {0};

	for (unsigned i = 0; i < o->n_processes; i++) {
		next = all[i].seed < next ? all[i].seed : next;
		n_histories += all[i].n_histories;
		for (unsigned k = 0; k < N_SUMS; k++)
			sums[k] += all[i].sums[k] + all[i].before[k];
	}
	for (unsigned k = 0; k < N_SUMS; k++)
		(void)printf("%s%llu %s", k == 0 ? "" : ", ", (unsigned long long)sums[k], sum_names[k]);
	(void)printf("\n%llu histories, %llu crashes, %.0f a minute; %u violations; %.1f s\nto go on: --from %llu\n",
	             (unsigned long long)n_histories, (unsigned long long)sums_crashes(sums),
	             (double)sums_crashes(sums) / seconds * 60, n_violations, seconds, (unsigned long long)next);
}

/* ---- options ---- */

static void usage(void)
{
	(void)puts("usage: sim [--from SEED] [--minutes M | --seconds S | --crashes N | --histories N] [--processes P] [--twice] [--stop]\n"
	           "       sim --seed SEED [--verbose] [--shrink] [--without WHAT,…]\n"
	           "WHAT: face:NAME, fault:NAME, life:N, op:N, op:N-M. Without a limit: the first ones, or with QUIRE_TEST_LONG an hour. --stop: at the first violation.\n"
	           "--twice: each history is run twice, and must be the same.");
}

static bool take_flag(const char *name, struct options *o)
{
	if (strcmp(name, "--verbose") == 0)
		return o->verbose = true;
	if (strcmp(name, "--twice") == 0)
		return o->twice = true;
	if (strcmp(name, "--shrink") == 0)
		return o->shrink = true;
	if (strcmp(name, "--stop") == 0)
		return o->stop = true;
	return false;
}

static bool take_value(const char *name, const char *value, struct options *o)
{
	char *end = NULL;

	if (strcmp(name, "--without") == 0)
		return less_parse(value, &o->less);
	double number = strtod(value, &end);
	if (*value == 0 || *end != 0 || number < 0)
		return false;
	if (strcmp(name, "--from") == 0)
		o->from = strtoull(value, NULL, 10);
	else if (strcmp(name, "--seed") == 0)
		o->seed = strtoull(value, NULL, 10);
	else if (strcmp(name, "--minutes") == 0)
		o->seconds = number * 60;
	else if (strcmp(name, "--seconds") == 0)
		o->seconds = number;
	else if (strcmp(name, "--crashes") == 0)
		o->n_crashes = (uint64_t)number;
	else if (strcmp(name, "--histories") == 0)
		o->n_histories = (uint64_t)number;
	else if (strcmp(name, "--processes") == 0)
		o->n_processes = (unsigned)number;
	else
		return false;
	o->one |= strcmp(name, "--seed") == 0;
	return true;
}

/* A test that runs each time runs the same, so that what it finds is new; what is found by chance is for long runs. */
static void take_usual(struct options *o)
{
	bool is_sanitized = getenv("QUIRE_SANITIZED") != NULL;

	if (getenv("QUIRE_TEST_LONG") != NULL) {
		o->seconds = is_sanitized ? 600 : 3600;
	} else {
		o->from = 1;
		o->n_histories = is_sanitized ? FIRST_SANITIZED : FIRST_HISTORIES;
	}
}

static bool parse(int argc, char **argv, struct options *o)
{
	uint64_t random = (uint64_t)time(NULL);

	*o = (struct options){.from = random_next(&random) % 1000000000u, .n_processes = 1};
	for (int i = 1; i < argc; i++) {
		if (take_flag(argv[i], o))
			continue;
		if (i + 1 == argc || !take_value(argv[i], argv[i + 1], o))
			return false;
		i++;
	}
	if (o->one)
		o->from = o->seed;
	else if (o->seconds == 0 && o->n_crashes == 0 && o->n_histories == 0)
		take_usual(o);
	return o->n_processes >= 1 && o->n_processes <= MOST_PROCESSES && (o->one || !o->shrink) && (!o->one || o->n_processes == 1);
}

static int shrink_one(const struct options *o, const char *program)
{
	struct plan_less less = o->less;
	struct failure failure = shrink_try(o->seed, &less, false);

	if (failure.status == 0) {
		(void)printf("seed %llu does not fail\n", (unsigned long long)o->seed);
		return 0;
	}
	shrink(o->seed, &less, &failure);
	(void)shrink_try(o->seed, &less, true);
	(void)printf("fails at %s:\n%s --seed %llu --verbose --without ", failure.where, program, (unsigned long long)o->seed);
	less_print(&less);
	(void)putchar('\n');
	return 1;
}

int main(int argc, char **argv)
{
	struct options o;
	struct progress *all = mmap(NULL, MOST_PROCESSES * sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (!parse(argc, argv, &o)) {
		usage();
		return 2;
	}
	if (all == MAP_FAILED || setenv("CMOCKA_TEST_ABORT", "1", 1) != 0) {
		perror("sim");
		return 1;
	}
	if (o.shrink)
		return shrink_one(&o, argv[0]);
	(void)printf("from seed %llu\n", (unsigned long long)o.from);
	double began = now();
	unsigned n_violations = run_all(&o, all, argv[0]);
	tell(&o, all, n_violations, now() - began);
	return n_violations > 0;
}
