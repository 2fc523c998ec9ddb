/* server_want.c - a lookup server: one thread, a coroutine a connection, and no request that waits for
 * another's page.
 *
 *   server_want SOCKET BUDGET_MIB FILE…     until SIGTERM; then it ends when its clients have hung up
 *
 * All files are one map under a hard budget. A record is *wanted* before it is read: if its pages are
 * there, that is a matter of nanoseconds; if not, quire_map_want suspends this connection's coroutine until
 * they have been read, and the loop serves the others meanwhile. Errors of the disk are codes.
 * server_suspend.c is the same server without asking.
 */
#include "lookup.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_A_ROW 64 /* requests that a client may have answered before others have their turn */

struct server {
	struct quire_cache *cache;
	struct quire_map *map;
	struct quire_loop *loop;
	int listener, stop_fd;
	unsigned long n_connections, n_answers, n_refused;
};

struct connection {
	struct server *server;
	int socket;
};

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "server_want: %s: %s\n", what, strerror(-rc));
	exit(1);
}

/* The record is sent from where it lies, without a copy; the pin keeps it there until it was sent. */
static bool answer(struct server *s, int socket, const struct lookup_request *request)
{
	const void *record = NULL;
	int rc = lookup_find(s->map, request, &record);
	struct iovec range = {(void *)(uintptr_t)record, request->len_bytes};
	if (rc == 0)
		rc = quire_map_want(s->map, &range, 1, QUIRE_WANT_PIN, NULL);

	bool sent = lookup_send(socket, rc, record, request->len_bytes);
	if (rc == 0)
		quire_map_unwant(s->map, &range, 1);
	s->n_answers++;
	s->n_refused += rc < 0;
	return sent;
}

static void serve(void *arg)
{
	struct connection *c = arg;
	struct lookup_request request;
	for (unsigned n = 1; lookup_receive(c->socket, &request) && answer(c->server, c->socket, &request); n++)
		if (n % IN_A_ROW == 0)
			quire_co_yield();
	close(c->socket);
	free(c);
}

static void accept_all(void *arg)
{
	struct server *s = arg;
	int socket;
	while ((socket = lookup_accept(s->listener)) >= 0) {
		struct connection *c = malloc(sizeof(*c));
		s->n_connections++;
		if (c != NULL)
			*c = (struct connection){s, socket};
		if (c == NULL || quire_co_spawn(s->loop, serve, c) < 0) {
			close(socket); /* no memory for another client: it is told so, the others are served */
			free(c);
		}
	}
}

static void stop(void *arg)
{
	struct server *s = arg;
	quire_poll_fd(s->stop_fd, POLLIN, NULL);
	shutdown(s->listener, SHUT_RDWR); /* which ends accept_all */
}

int main(int argc, char **argv)
{
	struct server s = {0};
	struct quire_error err;
	struct quire_map_stat stat;
	if (argc < 4)
		return fprintf(stderr, "usage: server_want SOCKET BUDGET_MIB FILE...\n"), 2;
	struct quire_cache_options cache = {.size = sizeof(cache), .budget_bytes = strtoull(argv[2], NULL, 10) << 20};

	check(s.stop_fd = lookup_stop_fd(), "signals");
	if (quire_cache_open(&cache, &s.cache, &err) < 0 ||
	    lookup_map(s.cache, argv + 3, (size_t)argc - 3, QUIRE_FAULT_AUTO, &s.map, &err) < 0 ||
	    quire_loop_create(NULL, &s.loop, &err) < 0)
		return fprintf(stderr, "server_want: %s\n", err.text), 1;
	check(s.listener = lookup_listen(argv[1]), argv[1]);

	check(quire_co_spawn(s.loop, accept_all, &s), "coroutine");
	check(quire_co_spawn(s.loop, stop, &s), "coroutine");
	printf("server_want: listening on %s\n", argv[1]);
	fflush(stdout);
	check(quire_loop_run(s.loop), "loop"); /* until no coroutine is left */

	check(quire_map_stat(s.map, &stat), "statistics");
	printf("server_want: %lu connections, %lu answers, %lu of them errors; pages: %lu hits, %lu read\n", s.n_connections,
	       s.n_answers, s.n_refused, (unsigned long)stat.n_hits, (unsigned long)stat.n_fills);
	check(quire_loop_destroy(s.loop), "loop");
	check(quire_map_destroy(s.map, NULL), "map");
	check(quire_cache_close(s.cache), "cache");
	close(s.listener);
	close(s.stop_fd);
	unlink(argv[1]);
	return 0;
}
