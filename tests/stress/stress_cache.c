/* stress_cache.c - many threads do everything at random with a small cache, every byte compared.
 *
 *   stress_cache [--seconds N] [--seed S] [--threads N] [--budget BYTES]
 *                [--fault service|signal|kernel|pinned|mix] [--engine uring|threads] [--stuck SECONDS]
 *
 * See stress.h for the parts. What it does follows from the seed, but for the threads' interleaving.
 */
#include "stress.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SKIPPED 77
/* Of the test's own: stacks of a thread, and of coroutines with signal frames on them. */
#define OWN_BYTES_A_THREAD (256u << 10)

struct options options = {
	.seconds = 10, .n_threads = 16, .budget_bytes = 24u << 20, .fault = QUIRE_FAULT_AUTO, .mix = true,
	.stuck_seconds = SANITIZED ? 150 : 60,
};
struct quire_capabilities caps;
size_t page_bytes;
atomic_bool stopping;
struct actor actors[MAX_ACTORS];

void fail_at(const char *file, int line, const char *format, ...)
{
	va_list args;

	flockfile(stderr);
	fprintf(stderr, "%s:%d: ", file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (--seed %llu)\n", (unsigned long long)options.seed);
	funlockfile(stderr);
	abort();
}

/* ---- the cast ---- */

static const struct {
	const char *role;
	void (*run)(struct actor *a);
} cast[] = {
	{"maintainer", actor_maintainer}, {"vandal", actor_vandal},         {"plain", actor_plain},
	{"queue", actor_queue},           {"coroutines", actor_coroutines}, {"callbacks", actor_callbacks},
	{"suspending", actor_suspending}, {"writer", actor_writer},         {"eventfd", actor_eventfd},
	{"suspending", actor_suspending}, {"plain", actor_plain},           {"queue", actor_queue},
	{"coroutines", actor_coroutines}, {"embedded", actor_embedded},     {"plain", actor_plain},
	{"callbacks", actor_callbacks},
};

static void *actor_main(void *arg)
{
	struct actor *a = arg;

	a->run(a);
	doing(a, "done");
	atomic_store(&a->doing, NULL);
	return NULL;
}

static void actors_start(void)
{
	for (unsigned i = 0; i < options.n_threads; i++) {
		struct actor *a = &actors[i];
		unsigned part = i % (sizeof(cast) / sizeof(cast[0]));

		a->index = i;
		a->role = cast[part].role;
		a->run = cast[part].run;
		/* There is nothing to damage where the kernel maps, nor a second vandal. */
		if (a->run == actor_vandal && (options.fault == QUIRE_FAULT_KERNEL || i >= sizeof(cast) / sizeof(cast[0])))
			a->run = actor_plain;
		a->chance.state = mix64(options.seed + i);
		atomic_store(&a->doing, "starting");
		CHECK(pthread_create(&a->thread, NULL, actor_main, a) == 0, "thread");
	}
}

static void actors_end(void)
{
	struct timespec until, now;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += options.seconds;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < options.n_threads; i++)
		pthread_join(actors[i].thread, NULL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	for (unsigned i = 0; i < options.n_threads; i++)
		CHECK(actors[i].n_started == actors[i].n_completed, "actor %u, %s: an operation was lost", i,
		      actors[i].role);
}

/* ---- options ---- */

static bool parse_fault(const char *text)
{
	static const char *const names[] = {"mix", "service", "signal", "kernel", "pinned"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i]) == 0) {
			options.fault = (enum quire_fault)i;
			options.mix = i == 0;
			return true;
		}
	return false;
}

static bool parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{"seconds", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 's'},
		{"threads", required_argument, NULL, 'n'}, {"fault", required_argument, NULL, 'f'},
		{"engine", required_argument, NULL, 'e'},  {"budget", required_argument, NULL, 'b'},
		{"stuck", required_argument, NULL, 'w'},   {0},
	};
	struct timespec now;
	int o;

	clock_gettime(CLOCK_REALTIME, &now);
	options.seed = mix64((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + (uint64_t)getpid()) >> 16;
	while ((o = getopt_long(argc, argv, "", known, NULL)) != -1) {
		bool uring = o == 'e' && strcmp(optarg, "uring") == 0;

		if (o == 't')
			options.seconds = (unsigned)strtoul(optarg, NULL, 0);
		else if (o == 's')
			options.seed = strtoull(optarg, NULL, 0);
		else if (o == 'n')
			options.n_threads = (unsigned)strtoul(optarg, NULL, 0);
		else if (o == 'w')
			options.stuck_seconds = atoi(optarg);
		else if (o == 'b')
			options.budget_bytes = strtoull(optarg, NULL, 0);
		else if (o == 'e' && (uring || strcmp(optarg, "threads") == 0))
			options.engine = uring ? QUIRE_ENGINE_URING : QUIRE_ENGINE_THREADS;
		else if (o != 'f' || !parse_fault(optarg))
			return false;
	}
	const char *seconds = getenv("QUIRE_TEST_SECONDS");
	if (getenv("QUIRE_TEST_LONG") != NULL)
		options.seconds = 30;
	else if (seconds != NULL)
		options.seconds = (unsigned)strtoul(seconds, NULL, 0);
	return optind == argc && options.n_threads > 0 && options.n_threads <= MAX_ACTORS &&
	       options.budget_bytes >= QUIRE_BUDGET_MIN_BYTES;
}

static const char *cannot_run(void)
{
	bool needs_uffd = !options.mix && (options.fault == QUIRE_FAULT_SERVICE || options.fault == QUIRE_FAULT_SIGNAL);

	if (needs_uffd && caps.grade == QUIRE_GRADE_NONE)
		return "no userfaultfd here";
	if (options.engine == QUIRE_ENGINE_URING && !caps.io_uring)
		return "no io_uring here";
	return NULL;
}

/* ---- the cache ---- */

static void cache_open(void)
{
	struct quire_cache_options o = {
		.size = sizeof(o),
		.budget_bytes = options.budget_bytes,
		.max_open_files = 8, /* fewer than there are files */
		.signal_faults = caps.grade != QUIRE_GRADE_NONE,
		.no_probation = options.seed % 8 == 0,
		.no_second_chance = options.seed % 8 == 1,
	};
	struct quire_error err;

	CHECK(quire_cache_open(&o, &cache, &err) == 0, "%s", err.text);
	atomic_store(&budget_in_force, options.budget_bytes);
}

static void cache_close(void)
{
	struct quire_cache_stat s;

	CHECK(quire_cache_stat(cache, &s) == 0, "stat");
	CHECK(s.frames == 0 && s.pinned == 0 && s.n_maps == 0 && s.n_open_files == 0,
	      "left behind: %llu of frames, %llu pinned, %llu maps, %llu descriptors", (unsigned long long)s.frames,
	      (unsigned long long)s.pinned, (unsigned long long)s.n_maps, (unsigned long long)s.n_open_files);
	CHECK(quire_cache_close(cache) == 0, "close");
	printf("%llu pages read, %llu came back from their copies, %llu from compressed ones\n",
	       (unsigned long long)s.n_fills, (unsigned long long)s.n_probation_hits,
	       (unsigned long long)s.n_second_chance_hits);
}

int main(int argc, char **argv)
{
	if (!parse_options(argc, argv)) {
		fprintf(stderr, "stress_cache: see the head of its source for its options\n");
		return 2;
	}
	quire_capabilities(&caps);
	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	const char *why = cannot_run();
	if (why != NULL) {
		printf("skipped: %s\n", why);
		return SKIPPED;
	}
	printf("seed %llu\n", (unsigned long long)options.seed);
	fflush(stdout);
	mallopt(M_ARENA_MAX, 1);
	for (unsigned i = N_SLOTS; i < N_SLOTS + N_PREY; i++)
		slots[i].closed = true;
	files_create();

	/* What the first cache of a process leaves open, it may keep. */
	cache_open();
	CHECK(quire_cache_close(cache) == 0, "close");
	unsigned n_descriptors = count_descriptors();
	watch_baseline();
	cache_open();
	blobs_create();
	world_create();
	watch_start((uint64_t)options.n_threads * OWN_BYTES_A_THREAD);
	actors_start();
	actors_end();
	watch_stop();
	world_destroy();
	blobs_destroy();
	cache_close();
	CHECK(count_descriptors() == n_descriptors, "%u descriptors, %u before", count_descriptors(), n_descriptors);
	files_remove();
	return 0;
}
