/* mlock_eventfd_libuv.c - pages of an mmap, and a durable file, awaited in a libuv loop.
 *
 *   mlock_eventfd_libuv [FILE]     (without FILE: this program itself)
 *
 * libuv knows nothing of Quire: each request has an eventfd, which a uv_poll_t watches. Compare
 * uv_queue_work, which would keep a thread of libuv's four waiting for each page.
 */
#include <quire/async_map.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

struct request {
	uv_poll_t poll;
	int efd;
	void (*then)(struct request *r, int error);
};

static const unsigned char *map;
static size_t map_len;
static int n_ended;

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "mlock_eventfd_libuv: %s failed\n", what);
		exit(1);
	}
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
	struct request *r = poll->data;
	struct quire_eventfd_failure failure;
	uint64_t n;
	(void)events;
	check(status, "poll");
	check((int)read(r->efd, &n, sizeof(n)), "eventfd");
	int failed = quire_eventfd_failures(r->efd, &failure, 1);
	uv_poll_stop(poll);
	r->then(r, failed > 0 ? failure.error : 0);
	uv_close((uv_handle_t *)poll, NULL);
	close(r->efd);
	n_ended++;
}

static void await(uv_loop_t *loop, struct request *r, void (*then)(struct request *r, int error))
{
	r->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->then = then;
	r->poll.data = r;
	check(uv_poll_init(loop, &r->poll, r->efd), "uv_poll_init");
	check(uv_poll_start(&r->poll, UV_READABLE, on_signal), "uv_poll_start");
}

static void pages_are_there(struct request *r, int error)
{
	unsigned long sum = 0;
	(void)r;
	check(error, "reading");
	for (size_t i = 0; i < map_len; i++)
		sum += map[i];
	printf("pages: %zu bytes, sum %lu\n", map_len, sum);
}

static void beyond_the_end(struct request *r, int error)
{
	(void)r;
	check(error < 0 ? 0 : -1, "expecting an error");
	printf("beyond the end: %s\n", strerror(-error));
}

static void file_is_durable(struct request *r, int error)
{
	(void)r;
	check(error, "fdatasync");
	printf("durable\n");
}

int main(int argc, char **argv)
{
	uv_loop_t *loop = uv_default_loop();
	struct request pages, beyond, sync;
	struct stat st;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = open(argc > 1 ? argv[1] : "/proc/self/exe", O_RDONLY | O_CLOEXEC);
	FILE *written = tmpfile();

	check(fd, "open");
	check(fstat(fd, &st), "stat");
	map_len = (size_t)st.st_size;
	map = mmap(NULL, map_len + 2 * page, PROT_READ, MAP_SHARED, fd, 0);
	check(map == MAP_FAILED || written == NULL ? -1 : 0, "mmap");
	check(fputs("to be kept\n", written), "write");
	check(fflush(written), "write");

	await(loop, &pages, pages_are_there);
	check(quire_mlock_eventfd(map, map_len, pages.efd), "mlock_eventfd");
	await(loop, &beyond, beyond_the_end);
	check(quire_mlock_eventfd(map + map_len + page, page, beyond.efd), "mlock_eventfd");
	await(loop, &sync, file_is_durable);
	check(quire_fdatasync_eventfd(fileno(written), sync.efd), "fdatasync_eventfd");

	check(uv_run(loop, UV_RUN_DEFAULT), "uv_run");
	check(uv_loop_close(loop), "uv_loop_close");
	fclose(written);
	close(fd);
	munmap((void *)(uintptr_t)map, map_len + 2 * page);
	return n_ended == 3 ? 0 : 1;
}
