/* worker.c - a thread that serves some of the clients, in turns; see service.c.
 *
 * The thread looks at the rings of all its clients, one slice for each that wants something. When none did, it
 * looks again for a while (spin.h), then says so in each ring, looks a last time, and sleeps on all sockets: a client that
 * has submitted something and finds it asleep sends a byte. It looks at the sockets now and then while it is busy too, for
 * those that hung up, and sweeps these out.
 */
#include "service_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURNS_BY_THE_CLOCK 4u /* between two looks at it */
#define LOOK_NS 100000u       /* at the sockets, while it is busy */
#define EVENTS 32

static void set_asleep(struct worker *w, uint32_t asleep)
{
	for (struct client *c = w->clients; c != NULL; c = c->next)
		atomic_store(&ring_head(&c->ring)->asleep, asleep);
}

static bool anybody_waits(const struct worker *w)
{
	for (const struct client *c = w->clients; c != NULL; c = c->next)
		if (message_waits(c))
			return true;
	return false;
}

/* ---- who comes and goes ---- */

static bool watch(struct worker *w, struct client *c)
{
	/* Events name the client. */
	struct epoll_event bell = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
	struct epoll_event end = {.events = EPOLLIN, .data.ptr = (char *)c + 1};

	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, c->socket, &bell) < 0)
		return false;
	return c->process < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, c->process, &end) == 0;
}

static void unwatch(struct worker *w, struct client *c)
{
	(void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->socket, NULL);
	if (c->process >= 0)
		(void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, c->process, NULL);
	atomic_fetch_sub(&w->n_clients, 1);
}

static void let_go(struct worker *w, struct client *c)
{
	unwatch(w, c);
	/* Whoever waits on it is told now, whatever there is to clean up. */
	(void)shutdown(c->socket, SHUT_RDWR);
	keeper_leave(c);
	c->grave = (struct grave){.client = c};
	reaper_bury(w->service, &c->grave);
}

static void receive_arrivals(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	struct client *c = w->arrivals, *next;
	w->arrivals = NULL;
	pthread_mutex_unlock(&w->lock);
	for (; c != NULL; c = next) {
		next = c->next;
		if (!watch(w, c)) {
			let_go(w, c);
			continue;
		}
		c->next = w->clients;
		w->clients = c;
		atomic_store(&ring_head(&c->ring)->asleep, 0);
	}
}

/* Where others would wait with it. */
static bool is_elsewhere(const struct worker *w, const struct client *c)
{
	return c->patient && w != &w->service->patient;
}

static void sweep(struct worker *w)
{
	for (struct client **at = &w->clients; *at != NULL;) {
		struct client *c = *at;
		if (c->dead) {
			*at = c->next;
			let_go(w, c);
		} else if (is_elsewhere(w, c)) {
			*at = c->next;
			unwatch(w, c);
			worker_adopt(&w->service->patient, c);
		} else {
			at = &c->next;
		}
	}
}

/* ---- sockets ---- */

static void hear(struct client *c)
{
	char bells[64];
	ssize_t n = recv(c->socket, bells, sizeof(bells), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		c->dead = true;
}

static void look(struct worker *w, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(w->epoll, events, EVENTS, timeout_ms);
	bool arrivals = false;
	uint64_t count;

	for (int i = 0; i < n; i++) {
		uintptr_t at = (uintptr_t)events[i].data.ptr;
		if (at == 0) {
			(void)!read(w->wake, &count, sizeof(count));
			arrivals = true;
		} else if (at % 2 == 1) {
			((struct client *)(at - 1))->dead = true; /* its process has ended, whoever else has the socket */
		} else {
			hear((struct client *)at);
		}
	}
	sweep(w);
	if (arrivals)
		receive_arrivals(w);
}

/* ---- the loop ---- */

static void wait_for_work(struct worker *w)
{
	struct spin spin;

	spin_begin(&spin, &w->habit);
	while (w->clients != NULL && spin_again(&spin))
		if (anybody_waits(w)) {
			spin_end(&spin);
			return;
		}
	set_asleep(w, 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (!anybody_waits(w)) {
		atomic_fetch_add_explicit(&w->service->n_sleeps, 1, memory_order_relaxed);
		look(w, -1);
	}
	set_asleep(w, 0);
	spin_end(&spin);
}

/* While it is busy: now and then, whatever turns take. */
static void look_in_time(struct worker *w, unsigned turn)
{
	if (turn % TURNS_BY_THE_CLOCK != 0)
		return;
	uint64_t now_ns = spin_now_ns();
	if (now_ns - w->looked_ns < LOOK_NS)
		return;
	w->looked_ns = now_ns;
	look(w, 0);
}

static void *serve(void *arg)
{
	struct worker *w = arg;

	for (unsigned turn = 0; !atomic_load_explicit(&w->stopping, memory_order_relaxed); turn++) {
		bool any = false, goes = false;
		for (struct client *c = w->clients; c != NULL; c = c->next) {
			any |= message_serve(c, &w->bounce);
			goes |= c->dead || is_elsewhere(w, c);
		}
		if (goes)
			sweep(w);
		if (any)
			look_in_time(w, turn);
		else
			wait_for_work(w);
	}
	receive_arrivals(w);
	for (struct client *c = w->clients; c != NULL; c = c->next) {
		c->stays = !c->dead;
		c->dead = true;
	}
	sweep(w);
	free(w->bounce.bytes);
	return NULL;
}

static void worker_wake(struct worker *w)
{
	uint64_t one = 1;

	(void)!write(w->wake, &one, sizeof(one));
}

void worker_adopt(struct worker *w, struct client *c)
{
	atomic_fetch_add(&w->n_clients, 1);
	pthread_mutex_lock(&w->lock);
	c->next = w->arrivals;
	w->arrivals = c;
	pthread_mutex_unlock(&w->lock);
	worker_wake(w);
}

int worker_start(struct quire_tmem_service *s, struct worker *w)
{
	struct epoll_event wake = {.events = EPOLLIN};
	int rc;

	*w = (struct worker){.service = s};
	spin_habit_init(&w->habit);
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &wake) < 0) {
		rc = -errno;
	} else {
		pthread_mutex_init(&w->lock, NULL);
		rc = service_start_thread(&w->thread, serve, w, "quire-tmem");
		if (rc == 0)
			return 0;
		pthread_mutex_destroy(&w->lock);
	}
	if (w->epoll >= 0)
		close(w->epoll);
	if (w->wake >= 0)
		close(w->wake);
	return rc;
}

void worker_fini(struct worker *w)
{
	atomic_store(&w->stopping, true);
	worker_wake(w);
	pthread_join(w->thread, NULL);
	pthread_mutex_destroy(&w->lock);
	close(w->epoll);
	close(w->wake);
}
