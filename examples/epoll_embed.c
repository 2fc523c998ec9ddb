/* epoll_embed.c - a loop of Quire inside an event loop that is somebody else's.
 *
 * The program has an epoll loop of its own, as any server has: here it watches a pipe and a timer.
 * The loop of Quire is one more descriptor in it. Nothing of Quire blocks this thread, runs in
 * another, or is told to the program by a signal.
 *
 *   quire_loop_fd() is readable → quire_loop_poll() → callbacks and coroutines run, here.
 */
#include <quire/loop.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct program {
	struct quire_loop *loop;
	int epoll, timer, pipe[2];
	int n_ticks, n_lines, n_callbacks, n_coroutines;
};

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "epoll_embed: %s: error %d\n", what, -rc);
		exit(1);
	}
}

/* A coroutine: what looks like waiting lets everything else go on. */
static void greeter(void *arg)
{
	struct program *p = arg;
	for (int i = 0; i < 3; i++) {
		check(quire_sleep_ns(10 * 1000 * 1000, NULL), "sleep");
		dprintf(p->pipe[1], "coroutine says hello %d\n", i + 1);
	}
	p->n_coroutines++;
}

/* An operation that completes by callback; it runs inside quire_loop_poll. */
static void on_pipe_writable(struct quire_op *op, void *arg)
{
	struct program *p = arg;
	printf("callback: the pipe can be written, events %#x\n", (unsigned)op->result);
	p->n_callbacks++;
}

static void watch(struct program *p, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	check(epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event), "epoll");
}

static void set_up(struct program *p)
{
	struct quire_error err;
	if (quire_loop_create(NULL, &p->loop, &err) < 0) {
		fprintf(stderr, "epoll_embed: %s\n", err.text);
		exit(1);
	}
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	check(pipe(p->pipe), "pipe");
	struct itimerspec every_25_ms = {{0, 25000000}, {0, 25000000}};
	check(timerfd_settime(p->timer, 0, &every_25_ms, NULL), "timer");
	watch(p, p->timer);
	watch(p, p->pipe[0]);
	watch(p, quire_loop_fd(p->loop)); /* all it takes */
}

static void on_event(struct program *p, int fd)
{
	char text[256];
	uint64_t ticks;
	if (fd == quire_loop_fd(p->loop)) {
		check(quire_loop_poll(p->loop), "poll");
	} else if (fd == p->timer) {
		if (read(fd, &ticks, sizeof(ticks)) > 0)
			printf("own timer: tick %d\n", ++p->n_ticks);
	} else {
		ssize_t n = read(fd, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = 0;
		printf("own pipe: %s", text);
		for (ssize_t i = 0; i < n; i++)
			p->n_lines += text[i] == '\n';
	}
}

int main(void)
{
	struct program p = {0};
	struct quire_op op;
	set_up(&p);

	check(quire_co_spawn(p.loop, greeter, &p), "spawn");
	quire_op_init_callback(&op, p.loop, on_pipe_writable, &p);
	check((int)quire_poll_fd(p.pipe[1], POLLOUT, &op), "poll a descriptor");
	check(quire_loop_poll(p.loop), "poll"); /* once, after starting something from outside */

	while (p.n_ticks < 2 || p.n_lines < 3 || p.n_callbacks < 1 || p.n_coroutines < 1) {
		struct epoll_event events[8];
		int n = epoll_wait(p.epoll, events, 8, -1);
		for (int i = 0; i < n; i++)
			on_event(&p, events[i].data.fd);
	}
	check(quire_loop_destroy(p.loop), "destroy");
	close(p.pipe[0]);
	close(p.pipe[1]);
	close(p.timer);
	close(p.epoll);
	printf("done: %d ticks, %d lines, %d callback, %d coroutine\n", p.n_ticks, p.n_lines, p.n_callbacks,
	       p.n_coroutines);
	return 0;
}
