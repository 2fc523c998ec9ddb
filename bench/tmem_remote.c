/* tmem_remote.c - bench-tmem-remote CORPUS SOCKET: pages that were evicted to a memcached server at that UNIX socket, got back, timed.
 *
 * CORPUS_MOST bytes are put into an ephemeral pool that holds a part of them, slowly enough for all that is evicted to be sent. Then they are got at
 * random, and stay where they are; beside it, in turns, a value as long as a page's is on average, asked of the same server by
 * hand. Each page that comes is compared. Prints JSON: ns at the median and p99 of pages that were in memory, that were remote, and of those values;
 * how many were neither.
 */
#include "latency.h"
#include "random.h"
#include "tmem_corpus.h"

#include <errno.h>
#include <quire/tmem_memcached.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CORPUS_MOST (16u << 20)
#define BUDGET_BYTES (8u << 20)
#define CAP_BYTES (4u << 20)
#define TURN 64u
#define GETS 16384u
#define PAUSE_NS 500000
#define VALUE_MOST 4096u

static struct corpus corpus;
static struct latency local, remote, bare;

static struct quire_tmem_stat stat_of(struct quire_tmem *t)
{
	struct quire_tmem_stat s;

	quire_tmem_stat(t, &s);
	return s;
}

/* ---- by hand ---- */

static int dial(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(a.sun_path))
		fail(path, ENAMETOOLONG);
	strcpy(a.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail(path, errno);
	return fd;
}

/* Sends, and waits until the answer ends so. */
static void exchange(int fd, const char *text, size_t n, const char *end)
{
	static char answer[2 * VALUE_MOST];
	size_t len = strlen(end), got = 0;

	if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
		fail("memcached", errno);
	while (got < len || memcmp(answer + got - len, end, len) != 0) {
		ssize_t k = recv(fd, answer + got, sizeof(answer) - got, 0);
		if (k <= 0 || (got += (size_t)k) == sizeof(answer))
			fail("memcached", EPROTO);
	}
}

static int bare_begin(const char *path, size_t value_bytes)
{
	static char text[2 * VALUE_MOST];
	int fd = dial(path), n = snprintf(text, sizeof(text), "set bare 0 0 %zu\r\n", value_bytes);

	memset(text + n, 'v', value_bytes);
	memcpy(text + n + value_bytes, "\r\n", 2);
	exchange(fd, text, (size_t)n + value_bytes + 2, "STORED\r\n");
	return fd;
}

/* ---- pages ---- */

static struct quire_tmem *make(const char *path, struct quire_tmem_pool **ret_pool)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = BUDGET_BYTES};
	struct quire_tmem_pool_options p = {.size = sizeof(p), .kind = QUIRE_TMEM_EPHEMERAL, .flags = QUIRE_TMEM_REMOTE, .cap_bytes = CAP_BYTES};
	struct quire_tmem_memcached_options m = {.size = sizeof(m), .timeout_ms = 1000};
	struct quire_error err = {0};
	struct quire_tmem *t = NULL;
	char servers[256];

	snprintf(servers, sizeof(servers), "unix:%s", path);
	if (quire_tmem_create(&o, &t, &err) < 0 || quire_tmem_set_memcached(t, servers, &m, &err) < 0 ||
	    quire_tmem_pool_create(t, &p, ret_pool, &err) < 0)
		fail(err.text, -err.code);
	return t;
}

static void put_all(struct quire_tmem_pool *pool)
{
	for (size_t i = 0; i < corpus.n; i++) {
		struct quire_tmem_key key = key_of(i);
		int rc = quire_tmem_put(pool, &key, corpus.pages + i * PAGE);
		if (rc < 0)
			fail("put", -rc);
		if (i % 32 == 31)
			nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
	}
}

static uint64_t get_some(struct quire_tmem *t, struct quire_tmem_pool *pool, int fd)
{
	static uint8_t page[PAGE];
	uint64_t r = 1, n_missed = 0;

	for (unsigned done = 0; done < GETS; done += TURN) {
		for (unsigned k = 0; k < TURN; k++) {
			size_t i = random_below(&r, corpus.n);
			struct quire_tmem_key key = key_of(i);
			uint64_t n_remote = stat_of(t).n_remote_hits, begin = now_ns();
			int rc = quire_tmem_get(pool, &key, page, QUIRE_TMEM_GET_KEEP);
			uint64_t ns = now_ns() - begin;
			n_missed += rc == -ENOENT;
			if (rc == -ENOENT)
				continue;
			if (rc < 0 || memcmp(page, corpus.pages + i * PAGE, PAGE) != 0)
				fail("get", rc < 0 ? -rc : EBADMSG);
			latency_add(stat_of(t).n_remote_hits > n_remote ? &remote : &local, ns);
		}
		for (unsigned k = 0; k < TURN; k++) {
			uint64_t begin = now_ns();
			exchange(fd, "get bare\r\n", 10, "\r\nEND\r\n");
			latency_add(&bare, now_ns() - begin);
		}
	}
	return n_missed;
}

static void print_latency(const char *name, const struct latency *l)
{
	printf("\"%s_p50_ns\": %llu, \"%s_p99_ns\": %llu, ", name, (unsigned long long)latency_quantile(l, .5), name,
	       (unsigned long long)latency_quantile(l, .99));
}

int main(int argc, char **argv)
{
	struct quire_tmem_pool *pool = NULL;

	if (argc != 3) {
		fprintf(stderr, "usage: bench-tmem-remote CORPUS SOCKET\n");
		return 2;
	}
	corpus = corpus_map(argv[1], CORPUS_MOST);
	struct quire_tmem *t = make(argv[2], &pool);
	put_all(pool);
	struct quire_tmem_stat s = stat_of(t);
	if (s.n_remote == 0)
		fail("nothing is remote", ENOENT);
	size_t value_bytes = (size_t)(s.remote_bytes / s.n_remote);
	int fd = bare_begin(argv[2], value_bytes < VALUE_MOST ? value_bytes : VALUE_MOST);
	uint64_t n_missed = get_some(t, pool, fd);
	printf("{\"pages\": %zu, \"value_bytes\": %zu, \"n_local\": %llu, \"n_remote\": %llu, \"n_missed\": %llu, ", corpus.n, value_bytes,
	       (unsigned long long)local.n, (unsigned long long)remote.n, (unsigned long long)n_missed);
	print_latency("local_get", &local);
	print_latency("remote_get", &remote);
	print_latency("bare_get", &bare);
	printf("\"end\": 0}\n");
	close(fd);
	quire_tmem_destroy(t);
	return 0;
}
