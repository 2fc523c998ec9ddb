/* demo_server_quire.c - one event loop over a map of Quire.
 *
 * A coroutine receives. With `want`, a hit is answered on the spot and a miss gets a coroutine
 * that waits for its page, while the receiver goes on. With suspending loads nothing is asked
 * for at all: coroutines copy from the map, and one that meets a cold page is suspended
 * by the load itself; the next one takes over. Restricted (no userfaultfd, no io_uring) the pages
 * are pinned while they are read, and that is all the difference.
 *
 * Settings: the budget is what the cgroup allows less what the cache does not count (this
 * program, and the kernel's odds and ends), so that the kernel never has to reclaim.
 */
#include "demo_server.h"

#include <quire/quire.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASIDE_BYTES (8u << 20)
#define WARMERS 128

struct lookup {
	struct quire_server *server;
	struct lookup *next_free;
	struct demo_wire_request request;
};

struct quire_server {
	struct demo_server *demo;
	struct quire_cache *cache;
	struct quire_loop *loop;
	struct quire_map *map;
	const unsigned char **items; /* owned */
	unsigned want_flags;
	bool suspending;
	bool gathering; /* the receiver will send the outbox soon */
	struct demo_inbox in;
	unsigned n_in, next_in; /* requests of the inbox that nobody has taken yet */
	struct demo_outbox out;
	struct lookup *free; /* owned, never given back */
	size_t n_warmed, n_warmers;
	int error;
};

static void flush_unless_gathering(struct quire_server *s)
{
	if (!s->gathering)
		demo_outbox_send(&s->out);
}

static void answer_error(struct quire_server *s, const struct demo_wire_request *r, int rc)
{
	demo_outbox_add(&s->out, r->id, 0, rc);
}

/* ---- with want ---- */

/* In a coroutine: it alone waits if the page is not there. */
static void answer_by_want(struct quire_server *s, const struct demo_wire_request *r)
{
	const unsigned char *at = s->items[r->file] + r->offset;
	struct iovec range = { .iov_base = (void *)(uintptr_t)at, .iov_len = r->len_bytes };
	int rc = quire_map_want(s->map, &range, 1, s->want_flags, NULL);

	if (rc < 0) {
		answer_error(s, r, rc);
		return;
	}
	memcpy(demo_outbox_add(&s->out, r->id, r->len_bytes, 0), at, r->len_bytes);
	if (s->want_flags & QUIRE_WANT_PIN)
		quire_map_unwant(s->map, &range, 1);
}

static void miss(void *arg)
{
	struct lookup *lookup = arg;
	struct quire_server *s = lookup->server;

	answer_by_want(s, &lookup->request);
	lookup->next_free = s->free;
	s->free = lookup;
	flush_unless_gathering(s);
}

static struct lookup *lookup_get(struct quire_server *s, const struct demo_wire_request *r)
{
	struct lookup *lookup = s->free;

	if (lookup != NULL)
		s->free = lookup->next_free;
	else
		lookup = malloc(sizeof(*lookup));
	if (lookup != NULL)
		*lookup = (struct lookup){ .server = s, .request = *r };
	return lookup;
}

static void begin_by_want(struct quire_server *s, const struct demo_wire_request *r)
{
	if (quire_map_resident(s->map, s->items[r->file] + r->offset, r->len_bytes)) {
		answer_by_want(s, r);
		return;
	}
	struct lookup *lookup = lookup_get(s, r);
	int rc = lookup != NULL ? quire_co_spawn(s->loop, miss, lookup) : -ENOMEM;
	if (rc < 0)
		answer_error(s, r, rc);
}

/* ---- with suspending loads ---- */

/* Takes requests as long as there are some. The copy goes to the coroutine's own stack first:
 * while it is suspended, others send and reuse the outbox. */
static void reader(void *arg)
{
	struct quire_server *s = arg;
	unsigned char bytes[DEMO_ANSWER_MAX_BYTES];

	while (s->next_in < s->n_in) {
		const struct demo_wire_request r = s->in.requests[s->next_in++];
		if (!demo_request_valid(s->demo->corpus, &r)) {
			answer_error(s, &r, -EINVAL);
			continue;
		}
		memcpy(bytes, s->items[r.file] + r.offset, r.len_bytes);
		memcpy(demo_outbox_add(&s->out, r.id, r.len_bytes, 0), bytes, r.len_bytes);
	}
	flush_unless_gathering(s);
}

/* A reader that does not come back in this turn was suspended by a load: start another. */
static void read_batch(struct quire_server *s)
{
	while (s->next_in < s->n_in) {
		if (quire_co_spawn(s->loop, reader, s) < 0)
			answer_error(s, &s->in.requests[s->next_in++], -ENOMEM);
		quire_co_yield();
	}
}

/* ---- the receiver ---- */

static void take_batch(struct quire_server *s, unsigned n)
{
	s->gathering = true;
	s->n_in = n;
	s->next_in = 0;
	if (s->suspending) {
		read_batch(s);
	} else {
		for (unsigned i = 0; i < n; i++) {
			const struct demo_wire_request *r = &s->in.requests[i];
			if (demo_request_valid(s->demo->corpus, r))
				begin_by_want(s, r);
			else
				answer_error(s, r, -EINVAL);
		}
	}
	s->gathering = false;
	demo_outbox_send(&s->out);
}

static void receiver(void *arg)
{
	struct quire_server *s = arg;

	for (;;) {
		int n = demo_inbox_receive(&s->in, s->demo->socket, MSG_DONTWAIT);
		if (n > 0)
			take_batch(s, (unsigned)n);
		else if (n != -EAGAIN)
			return;
		if (n < DEMO_BATCH && quire_poll_fd(s->demo->socket, POLLIN, NULL) < 0)
			return;
	}
}

/* ---- setting up ---- */

static void warmer(void *arg)
{
	struct quire_server *s = arg;
	const struct demo_corpus *c = s->demo->corpus;

	while (s->error == 0 && s->n_warmed < c->n_pages) {
		const struct demo_page *page = &c->pages[s->n_warmed++];
		struct iovec range = {
			.iov_base = (void *)(uintptr_t)(s->items[page->file] + (size_t)page->page * c->page_bytes),
			.iov_len = 1,
		};
		int rc = quire_map_want(s->map, &range, 1, s->want_flags, NULL);
		if (rc < 0)
			s->error = rc;
		else if (s->want_flags & QUIRE_WANT_PIN)
			quire_map_unwant(s->map, &range, 1);
	}
	if (--s->n_warmers == 0 && s->error == 0) {
		demo_server_ready(s->demo);
		s->error = quire_co_spawn(s->loop, receiver, s);
	}
}

static int map_files(struct quire_server *s, enum quire_fault fault, struct quire_error *err)
{
	const struct demo_corpus *c = s->demo->corpus;
	struct quire_item *items = calloc(c->n_files, sizeof(*items));
	int rc = -ENOMEM;

	s->items = calloc(c->n_files, sizeof(*s->items));
	if (items != NULL && s->items != NULL) {
		for (size_t i = 0; i < c->n_files; i++) {
			items[i].path = c->files[i].path;
			items[i].len_bytes = c->files[i].len_bytes;
		}
		const struct quire_map_options opts = { .size = sizeof(opts), .fault = fault };
		rc = quire_map_create(s->cache, items, c->n_files, &opts, &s->map, err);
	}
	for (size_t i = 0; rc == 0 && i < c->n_files; i++) {
		const void *at;
		size_t len;

		rc = quire_map_item(s->map, i, &at, &len);
		s->items[i] = at;
	}
	free(items);
	return rc;
}

static int open_all(struct quire_server *s, enum quire_fault fault, struct quire_error *err)
{
	const struct quire_cache_options cache_opts = {
		.size = sizeof(cache_opts),
		.budget_bytes = s->demo->corpus->memory_bytes - ASIDE_BYTES,
		.signal_faults = s->suspending,
	};
	const struct quire_loop_options loop_opts = {
		.size = sizeof(loop_opts),
		.suspend_faults = s->suspending,
	};
	int rc = quire_cache_open(&cache_opts, &s->cache, err);

	if (rc == 0)
		rc = map_files(s, fault, err);
	if (rc == 0)
		rc = quire_loop_create(&loop_opts, &s->loop, err);
	return rc;
}

static void close_all(struct quire_server *s)
{
	if (s->loop != NULL)
		quire_loop_destroy(s->loop);
	if (s->map != NULL)
		quire_map_destroy(s->map, NULL);
	quire_cache_close(s->cache);
	while (s->free != NULL) {
		struct lookup *lookup = s->free;
		s->free = lookup->next_free;
		free(lookup);
	}
	free(s->items);
	free(s);
}

static int serve(struct demo_server *demo, enum quire_fault fault, unsigned want_flags)
{
	struct quire_server *s = calloc(1, sizeof(*s));
	struct quire_error err = { 0 };

	if (s == NULL)
		return demo_server_fail(demo, -ENOMEM, "starting");
	s->demo = demo;
	s->want_flags = want_flags;
	s->suspending = fault == QUIRE_FAULT_SIGNAL;
	demo_inbox_init(&s->in);
	demo_outbox_init(&s->out, demo->socket);
	int rc = open_all(s, fault, &err);
	if (rc < 0)
		snprintf(demo->why, DEMO_WHY_BYTES, "%s", err.text[0] != '\0' ? err.text : strerror(-rc));
	for (unsigned i = 0; rc == 0 && i < WARMERS; i++) {
		rc = quire_co_spawn(s->loop, warmer, s);
		s->n_warmers += rc == 0;
	}
	if (rc == 0)
		rc = quire_loop_run(s->loop);
	if (rc == 0)
		rc = s->error;
	if (rc < 0 && demo->why[0] == '\0')
		demo_server_fail(demo, rc, "serving");
	close_all(s);
	return rc;
}

int demo_serve_quire_want(struct demo_server *server)
{
	struct quire_capabilities caps;

	/* Where userfaultfd is refused from outside, as containers do, pinned maps do the same. */
	if (quire_capabilities(&caps) == 0 && caps.grade == QUIRE_GRADE_NONE)
		return serve(server, QUIRE_FAULT_PINNED, QUIRE_WANT_PIN);
	return serve(server, QUIRE_FAULT_SERVICE, 0);
}

int demo_serve_quire_suspend(struct demo_server *server)
{
	return serve(server, QUIRE_FAULT_SIGNAL, 0);
}

int demo_serve_quire_restricted(struct demo_server *server)
{
	int rc = quire_mask("userfaultfd,io_uring");

	if (rc < 0)
		return demo_server_fail(server, rc, "forbidding userfaultfd and io_uring");
	return serve(server, QUIRE_FAULT_PINNED, QUIRE_WANT_PIN);
}
