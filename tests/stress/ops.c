/* ops.c - operations in flight. Each that was accepted completes exactly once, in its own way. */
#include "stress.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define N_OPS 24
#define FLIGHT_PAGES 24

enum how { BY_QUEUE, BY_EVENTFD, BY_CALLBACK };

/* An operation's life: free, in flight, and then, if it pinned, held for a while. */
struct flight {
	struct quire_op op;
	struct pins pins;
	struct crew *crew;
	bool in_flight, pin, canceled;
	unsigned n_destroys;
};

struct crew {
	struct actor *actor;
	enum how how;
	struct quire_queue *queue;
	struct quire_loop *loop;
	int event_fd;
	unsigned n_in_flight;
	struct flight flights[N_OPS];
};

static void flight_called_back(struct quire_op *op, void *arg);

/* False: nothing to be had. */
static bool flight_start(struct flight *f)
{
	struct crew *crew = f->crew;
	struct chance *c = &crew->actor->chance;
	struct slot *s = slot_pick(c);
	struct view *v = slot_enter(s);
	bool started = false;

	if (v == NULL)
		return false;
	if (pins_pick(&f->pins, s, v, c, FLIGHT_PAGES)) {
		f->pin = one_in(c, 2);
		f->canceled = false;
		f->n_destroys = atomic_load(&s->n_destroys);
		f->in_flight = true;
		if (crew->how == BY_QUEUE)
			quire_op_init_queue(&f->op, crew->queue, (uint64_t)(f - crew->flights));
		else if (crew->how == BY_EVENTFD)
			quire_op_init_eventfd(&f->op, crew->event_fd);
		else
			quire_op_init_callback(&f->op, crew->loop, flight_called_back, f);
		crew->n_in_flight++;
		int rc = quire_map_want(v->map, f->pins.ranges, f->pins.n, f->pin ? QUIRE_WANT_PIN : 0, &f->op);
		started = rc == 0;
		if (started) {
			atomic_fetch_add(&crew->actor->n_started, 1);
		} else {
			crew->n_in_flight--;
			f->in_flight = false;
			result_check(&f->pins, rc, f->pin, false, f->n_destroys);
		}
	}
	slot_leave(s);
	return started;
}

static void flight_cancel(struct flight *f)
{
	f->canceled = true;
	int rc = quire_op_cancel(&f->op);
	CHECK(rc == 0 || rc == -EALREADY, "cancel: %d", rc);
}

static void flight_landed(struct flight *f, int64_t result)
{
	CHECK(f->in_flight, "an operation has completed twice");
	f->in_flight = false;
	f->crew->n_in_flight--;
	doing(f->crew->actor, "handling a completion");
	atomic_fetch_add(&f->crew->actor->n_completed, 1);
	result_check(&f->pins, result, f->pin, f->canceled, f->n_destroys);
	if (result == 0 && f->pin && f->pins.view.fault != QUIRE_FAULT_KERNEL) {
		pins_check(&f->pins);
		pins_put(&f->pins);
	}
}

/* A raw read on this very thread, which may be the one that has to end the page's fill. */
static void crew_touch(struct crew *crew)
{
	struct chance *c = &crew->actor->chance;
	struct slot *s = slot_pick(c);
	struct view *v = slot_enter(s);
	struct piece p;

	if (v == NULL)
		return;
	doing(crew->actor, "a raw read between operations");
	if (raw_allowed(v) && piece_pick(v, c, 4, &p))
		piece_check(&p, "raw, between operations");
	slot_leave(s);
}

static void crew_start_some(struct crew *crew)
{
	struct chance *c = &crew->actor->chance;

	doing(crew->actor, "starting operations");
	for (unsigned n = chance_below(c, 8); n > 0; n--) {
		struct flight *f = &crew->flights[chance_below(c, N_OPS)];

		if (!f->in_flight)
			(void)flight_start(f);
		else if (one_in(c, 6))
			flight_cancel(f);
	}
	if (one_in(c, 4))
		crew_touch(crew);
}

static struct crew *crew_create(struct actor *a, enum how how)
{
	struct crew *crew = calloc(1, sizeof(*crew));

	CHECK(crew != NULL, "memory");
	crew->actor = a;
	crew->how = how;
	for (unsigned i = 0; i < N_OPS; i++)
		crew->flights[i].crew = crew;
	return crew;
}

/* ---- queues ---- */

static void queue_harvest(struct crew *crew, int timeout_ms)
{
	struct quire_completion got[8];
	struct pollfd p = {.fd = quire_queue_fd(crew->queue), .events = POLLIN};
	int n;

	if (timeout_ms != 0) {
		doing(crew->actor, "waiting for a completion queue");
		CHECK(poll(&p, 1, timeout_ms) >= 0 || errno == EINTR, "%s", strerror(errno));
	}
	while ((n = quire_queue_harvest(crew->queue, got, 8)) > 0)
		for (int i = 0; i < n; i++) {
			CHECK(got[i].tag < N_OPS, "tag");
			flight_landed(&crew->flights[got[i].tag], got[i].result);
		}
}

void actor_queue(struct actor *a)
{
	struct crew *crew = crew_create(a, BY_QUEUE);

	CHECK(quire_queue_create(&crew->queue) == 0, "queue");
	while (!atomic_load(&stopping)) {
		crew_start_some(crew);
		queue_harvest(crew, crew->n_in_flight > N_OPS / 2 ? 60000 : 0);
	}
	while (crew->n_in_flight > 0)
		queue_harvest(crew, 60000);
	CHECK(quire_queue_destroy(crew->queue) == 0, "queue");
	free(crew);
}

/* ---- eventfd ---- */

static void eventfd_wait(struct crew *crew)
{
	uint64_t count;

	doing(crew->actor, "waiting for an eventfd");
	CHECK(read(crew->event_fd, &count, sizeof(count)) == sizeof(count), "%s", strerror(errno));
	CHECK(count <= crew->n_in_flight, "more completions than operations");
	/* An operation is seen to be done a moment before its write. */
	for (struct flight *f = crew->flights; f < crew->flights + N_OPS && count > 0; f++)
		if (f->in_flight && quire_op_done(&f->op)) {
			flight_landed(f, f->op.result);
			count--;
		}
	CHECK(count == 0, "an eventfd counts more than has completed");
}

void actor_eventfd(struct actor *a)
{
	struct crew *crew = crew_create(a, BY_EVENTFD);

	crew->event_fd = eventfd(0, EFD_CLOEXEC);
	CHECK(crew->event_fd >= 0, "%s", strerror(errno));
	while (!atomic_load(&stopping)) {
		crew_start_some(crew);
		if (crew->n_in_flight > N_OPS / 2)
			eventfd_wait(crew);
	}
	while (crew->n_in_flight > 0)
		eventfd_wait(crew);
	close(crew->event_fd);
	free(crew);
}

/* ---- callbacks, on a loop that runs or is embedded ---- */

static void flight_called_back(struct quire_op *op, void *arg)
{
	struct flight *f = arg;

	flight_landed(f, op->result);
	if (!atomic_load(&stopping))
		crew_start_some(f->crew);
}

void actor_callbacks(struct actor *a)
{
	while (!atomic_load(&stopping)) {
		struct crew *crew = crew_create(a, BY_CALLBACK);

		/* Started from outside of the loop, so these are driven by the service thread. */
		crew->loop = stress_loop(a, false);
		for (unsigned i = 0; i < 4; i++)
			(void)flight_start(&crew->flights[i]);
		doing(a, "running a loop of callbacks");
		CHECK(quire_loop_run(crew->loop) == 0, "run");
		CHECK(crew->n_in_flight == 0, "the loop has ended over its operations");
		CHECK(quire_loop_destroy(crew->loop) == 0, "destroy");
		free(crew);
	}
}

void actor_embedded(struct actor *a)
{
	struct crew *crew = crew_create(a, BY_CALLBACK);

	crew->loop = stress_loop(a, false);
	struct pollfd p = {.fd = quire_loop_fd(crew->loop), .events = POLLIN};
	while (!atomic_load(&stopping) || crew->n_in_flight > 0) {
		if (!atomic_load(&stopping) && crew->n_in_flight < 4)
			crew_start_some(crew);
		CHECK(quire_loop_poll(crew->loop) >= 0, "poll");
		doing(a, "polling an embedded loop");
		bool nothing_else = crew->n_in_flight >= 4 || (crew->n_in_flight > 0 && atomic_load(&stopping));
		CHECK(poll(&p, 1, nothing_else ? 60000 : 1) >= 0, "%s", strerror(errno));
	}
	int rc;
	while ((rc = quire_loop_destroy(crew->loop)) == -EBUSY)
		CHECK(quire_loop_poll(crew->loop) >= 0, "poll");
	CHECK(rc == 0, "destroy: %d", rc);
	free(crew);
}
