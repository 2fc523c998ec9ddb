/* mlock_eventfd_epoll.c - an epoll server's way to touch an mmap without ever waiting for the disk.
 *
 *   mlock_eventfd_epoll [FILE]     (without FILE: this program itself)
 *
 * The file is mapped as any program does it. Before a page is touched it is asked for; an eventfd in
 * the program's own epoll loop says when it is there. What would have been a SIGBUS is an error code.
 * Here eight "clients" each read a page, sum it up, and go on to the next; a timer shows that
 * nothing waits; one more client reads beyond the end of the file.
 */
#include <quire/async_map.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define N_CLIENTS 8

struct client {
	const unsigned char *at; /* the page that it waits for; NULL: it is done */
	int32_t status;
};

struct server {
	const unsigned char *map;
	size_t len, page, next; /* next: offset of the page that nobody has taken */
	int efd, timer, epoll;
	struct client clients[N_CLIENTS];
	unsigned long sum;
	int n_done, n_ticks;
};

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "mlock_eventfd_epoll: %s failed\n", what);
		exit(1);
	}
}

static void ask_for_next(struct server *s, struct client *c)
{
	if (s->next >= s->len) {
		c->at = NULL;
		s->n_done++;
		return;
	}
	c->at = s->map + s->next;
	s->next += s->page;
	check(quire_mlock_eventfd_status(c->at, s->page, 0, s->efd, &c->status), "mlock_eventfd");
}

/* The eventfd counts completions; the status words say whose. */
static void on_pages(struct server *s)
{
	uint64_t n;
	check((int)read(s->efd, &n, sizeof(n)), "eventfd");
	for (int i = 0; i < N_CLIENTS; i++) {
		struct client *c = &s->clients[i];
		if (c->at == NULL || __atomic_load_n(&c->status, __ATOMIC_ACQUIRE) == QUIRE_STATUS_PENDING)
			continue;
		check(c->status, "a page");
		for (const unsigned char *p = c->at; p < c->at + s->page && p < s->map + s->len; p++)
			s->sum += *p;
		ask_for_next(s, c);
	}
}

static void watch(struct server *s, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	check(epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event), "epoll");
}

static void set_up(struct server *s, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd, path);
	check(fstat(fd, &st), path);
	s->len = (size_t)st.st_size;
	s->page = (size_t)sysconf(_SC_PAGESIZE);
	/* Some pages more than the file has. */
	void *map = mmap(NULL, s->len + 2 * s->page, PROT_READ, MAP_SHARED, fd, 0);
	check(map == MAP_FAILED ? -1 : 0, "mmap");
	close(fd);
	s->map = map;
	s->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	struct itimerspec every_ms = {{0, 1000000}, {0, 1000000}};
	check(timerfd_settime(s->timer, 0, &every_ms, NULL), "timer");
	watch(s, s->efd);
	watch(s, s->timer);
}

/* The descriptor of the next event. epoll_wait may be interrupted in any program, with io_uring also without a signal. */
static int next_event(const struct server *s)
{
	struct epoll_event event;
	int n;
	do
		n = epoll_wait(s->epoll, &event, 1, -1);
	while (n < 0 && errno == EINTR);
	check(n, "epoll");
	return event.data.fd;
}

/* With no status word, what failed is asked of the eventfd. */
static void read_beyond_the_end(struct server *s)
{
	struct quire_eventfd_failure failure;
	int own = eventfd(0, EFD_CLOEXEC);
	watch(s, own);
	check(quire_mlock_eventfd(s->map + s->len + s->page, 1, own), "mlock_eventfd");
	while (next_event(s) != own)
		;
	if (quire_eventfd_failures(own, &failure, 1) != 1)
		check(-1, "expecting a failure");
	printf("beyond the end: %s, where a load gets SIGBUS\n", strerror(-failure.error));
	close(own);
}

int main(int argc, char **argv)
{
	struct server s = {0};
	set_up(&s, argc > 1 ? argv[1] : "/proc/self/exe");
	for (int i = 0; i < N_CLIENTS; i++)
		ask_for_next(&s, &s.clients[i]);
	while (s.n_done < N_CLIENTS || s.n_ticks == 0) {
		uint64_t ticks;
		int fd = next_event(&s);
		if (fd == s.efd)
			on_pages(&s);
		else if (read(s.timer, &ticks, sizeof(ticks)) > 0)
			s.n_ticks++;
	}
	read_beyond_the_end(&s);
	printf("done: %zu bytes, sum %lu, %d ticks\n", s.len, s.sum, s.n_ticks);
	munmap((void *)(uintptr_t)s.map, s.len + 2 * s.page);
	close(s.efd);
	close(s.timer);
	close(s.epoll);
	return 0;
}
