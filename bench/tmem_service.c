/* tmem_service.c - bench-tmem-service CORPUS BATCH: pages put and got through a service in another process, timed.
 *
 * The first CORPUS_MOST bytes are put one by one and got in random order, from a persistent pool; then BATCH a message; then
 * with pauses in which both sides fall asleep. Beside it the same gets from a pool in this process, in turns. Each page that
 * comes out is compared. The client has the first CPU to itself, the service the others, if there are two. Prints JSON: ns at the
 * median and p99 (of a batch: for each page), and the CPU time that an idle service takes in a second, with a client
 * connected.
 */
#include "latency.h"
#include "random.h"
#include "tmem_corpus.h"

#include <errno.h>
#include <quire/tmem_service.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CORPUS_MOST (32u << 20)
#define TURN 64u
#define BATCH_MOST 256u
#define GETS 200000u
#define SLOW_GETS 200u
#define PAUSE_NS 2000000

static struct corpus corpus;
static struct latency put, get, local_get, batch_put, batch_get, woken_get;

static void check(const uint8_t *page, size_t number, int64_t rc)
{
	if (rc < 0 || memcmp(page, corpus.pages + number * PAGE, PAGE) != 0)
		fail("get", rc < 0 ? (int)-rc : EBADMSG);
}

static struct quire_tmem *make_tmem(void)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 4 * (uint64_t)CORPUS_MOST};
	struct quire_tmem *t;
	int rc = quire_tmem_create(&o, &t, NULL);

	if (rc < 0)
		fail("tmem", -rc);
	return t;
}

/* The first CPU, or all but that; as it is if there is but one. */
static void keep_to(bool first)
{
	cpu_set_t all, some;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0 || CPU_COUNT(&all) < 2)
		return;
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&some);
	CPU_SET(cpu, &some);
	if (!first)
		CPU_XOR(&some, &some, &all);
	(void)sched_setaffinity(0, sizeof(some), &some);
}

/* ---- the service, in a process of its own ---- */

static _Noreturn void serve(const char *path, int ready)
{
	struct quire_tmem_service_options o = {.size = sizeof(o), .client_bytes = 3 * (uint64_t)CORPUS_MOST};
	struct quire_tmem_service *service;
	struct quire_error err;

	keep_to(false);
	if (quire_tmem_serve(make_tmem(), path, &o, &service, &err) < 0 || write(ready, "", 1) != 1)
		fail(path, -err.code);
	for (;;)
		pause();
}

static pid_t start(const char *path)
{
	int ready[2];
	char byte;

	if (pipe(ready) < 0)
		fail("pipe", errno);
	pid_t pid = fork();
	if (pid == 0)
		serve(path, ready[1]);
	close(ready[1]);
	if (pid < 0 || read(ready[0], &byte, 1) != 1)
		fail("service", ECHILD);
	close(ready[0]);
	return pid;
}

/* ---- one by one ---- */

static void put_all(struct quire_tmem_remote *remote, struct quire_tmem_pool *local)
{
	for (size_t i = 0; i < corpus.n; i++) {
		struct quire_tmem_key key = key_of(i);
		uint64_t begin = now_ns();
		int rc = quire_tmem_remote_put(remote, &key, corpus.pages + i * PAGE);
		latency_add(&put, now_ns() - begin);
		if (rc == 0)
			rc = quire_tmem_put(local, &key, corpus.pages + i * PAGE);
		if (rc < 0)
			fail("put", -rc);
	}
}

static void get_all(struct quire_tmem_remote *remote, struct quire_tmem_pool *local)
{
	static uint8_t page[PAGE];
	uint64_t r = 1;

	for (unsigned done = 0; done < GETS; done += 2 * TURN) {
		for (unsigned k = 0; k < 2 * TURN; k++) {
			size_t i = random_below(&r, corpus.n);
			struct quire_tmem_key key = key_of(i);
			uint64_t begin = now_ns();
			int rc = k < TURN ? quire_tmem_remote_get(remote, &key, page, QUIRE_TMEM_GET_USUAL)
			                  : quire_tmem_get(local, &key, page, QUIRE_TMEM_GET_USUAL);
			latency_add(k < TURN ? &get : &local_get, now_ns() - begin);
			check(page, i, rc);
		}
	}
}

static void get_after_pauses(struct quire_tmem_remote *remote)
{
	static uint8_t page[PAGE];

	for (size_t i = 0; i < SLOW_GETS; i++) {
		struct quire_tmem_key key = key_of(i);
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
		uint64_t begin = now_ns();
		int rc = quire_tmem_remote_get(remote, &key, page, QUIRE_TMEM_GET_USUAL);
		latency_add(&woken_get, now_ns() - begin);
		check(page, i, rc);
	}
}

/* ---- batches ---- */

static void run_batches(struct quire_tmem_client *client, struct quire_tmem_remote *remote, unsigned batch)
{
	static uint8_t buffer[BATCH_MOST][PAGE];
	struct quire_tmem_remote_request requests[BATCH_MOST];

	for (size_t from = 0; from + batch <= corpus.n; from += batch)
		for (unsigned turn = 0; turn < 2; turn++) {
			for (unsigned i = 0; i < batch; i++)
				requests[i] = (struct quire_tmem_remote_request){
					.pool = remote,
					.key = key_of(from + i),
					.verb = turn == 0 ? QUIRE_TMEM_PUT : QUIRE_TMEM_GET,
					.page = turn == 0 ? (void *)(uintptr_t)(corpus.pages + (from + i) * PAGE) : buffer[i],
				};
			uint64_t begin = now_ns();
			int rc = quire_tmem_remote_batch(client, requests, batch);
			latency_add(turn == 0 ? &batch_put : &batch_get, (now_ns() - begin) / batch);
			for (unsigned i = 0; i < batch; i++)
				check(turn == 0 ? corpus.pages + (from + i) * PAGE : buffer[i], from + i, rc < 0 ? rc : requests[i].result);
		}
}

/* ---- */

/* Seconds of CPU in a second. */
static double idle_cpu(pid_t service)
{
	clockid_t clock;

	if (clock_getcpuclockid(service, &clock) != 0)
		fail("the service's clock", EINVAL);
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	uint64_t begin = clock_ns(clock);
	nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
	return (double)(clock_ns(clock) - begin) / 1e9;
}

static void print_latency(const char *name, const struct latency *l)
{
	printf("\"%s_p50_ns\": %llu, \"%s_p99_ns\": %llu, ", name, (unsigned long long)latency_quantile(l, .5), name,
	       (unsigned long long)latency_quantile(l, .99));
}

static void run(const char *path, unsigned batch)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};
	struct quire_tmem_client_options co = {.size = sizeof(co), .slot_bytes = BATCH_MOST * PAGE / 2};
	struct quire_tmem_client *client;
	struct quire_tmem_remote *remote;
	struct quire_tmem_pool *local;
	struct quire_error err;
	pid_t service = start(path);
	struct quire_tmem *t = make_tmem();

	keep_to(true);
	if (quire_tmem_connect(path, &co, &client, &err) < 0 || quire_tmem_remote_create(client, &o, &remote, &err) < 0 ||
	    quire_tmem_pool_create(t, &o, &local, &err) < 0)
		fail(path, -err.code);
	put_all(remote, local);
	get_all(remote, local);
	get_after_pauses(remote);
	run_batches(client, remote, batch);
	printf("{\"pages\": %zu, ", corpus.n);
	print_latency("put", &put);
	print_latency("get", &get);
	print_latency("local_get", &local_get);
	print_latency("woken_get", &woken_get);
	print_latency("batch_put", &batch_put);
	print_latency("batch_get", &batch_get);
	printf("\"idle_cpu\": %.6f}\n", idle_cpu(service));
	quire_tmem_disconnect(client);
	quire_tmem_destroy(t);
	kill(service, SIGKILL);
	waitpid(service, NULL, 0);
	unlink(path);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	char path[256];
	unsigned long batch;

	if (argc != 3 || (batch = strtoul(argv[2], NULL, 10)) < 1 || batch > BATCH_MOST) {
		fprintf(stderr, "usage: bench-tmem-service CORPUS BATCH\n");
		return 2;
	}
	corpus = corpus_map(argv[1], CORPUS_MOST);
	if (corpus.n < BATCH_MOST)
		fail("corpus too small", EINVAL);
	snprintf(path, sizeof(path), "%s/quire-bench-tmem-%ld", tmp != NULL ? tmp : "/tmp", (long)getpid());
	run(path, (unsigned)batch);
	return 0;
}
