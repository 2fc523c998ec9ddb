/* server_suspend.c - the lookup server of server_want.c, which asks for nothing: it just reads.
 *
 *   server_suspend SOCKET BUDGET_MIB FILE…     until SIGTERM; exit status 77: this process may not
 *
 * A load that finds its page cold suspends the coroutine it is in, from within the fault, while the
 * page is being read; the loop serves the others. So code that was written for memory, a search tree's or
 * a parser's, runs over files larger than memory as it is. Three things to know:
 *
 *   - System calls don't suspend, they get EFAULT: what is sent is copied first.
 *   - A page that can't be read is a SIGBUS, as with mmap. Where disks may fail, want pages first.
 *   - No lock may be held over such a load, and what coroutines share must not be kept in a register over
 *     it. Here they share counters alone, which are changed after a call.
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
	fprintf(stderr, "server_suspend: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static bool answer(struct server *s, int socket, const struct lookup_request *request)
{
	char copy[LOOKUP_MAX_BYTES];
	const void *record = NULL;
	int rc = lookup_find(s->map, request, &record);
	if (rc == 0)
		memcpy(copy, record, request->len_bytes); /* if a page is cold, this coroutine waits here */

	bool sent = lookup_send(socket, rc, copy, request->len_bytes);
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

/* What a process that may not have it gets to know, and everybody else who can't start. */
static int refused(const struct quire_error *err)
{
	if (err->code == -ENOTSUP)
		printf("skipped: ");
	printf("server_suspend: %s\n", err->text);
	return err->code == -ENOTSUP ? 77 : 1;
}

int main(int argc, char **argv)
{
	struct server s = {0};
	struct quire_error err;
	struct quire_map_stat stat;
	if (argc < 4)
		return fprintf(stderr, "usage: server_suspend SOCKET BUDGET_MIB FILE...\n"), 2;
	struct quire_cache_options cache = {
		.size = sizeof(cache), .budget_bytes = strtoull(argv[2], NULL, 10) << 20, .signal_faults = true};
	struct quire_loop_options loop = {.size = sizeof(loop), .suspend_faults = true};

	check(s.stop_fd = lookup_stop_fd(), "signals");
	if (quire_cache_open(&cache, &s.cache, &err) < 0 ||
	    lookup_map(s.cache, argv + 3, (size_t)argc - 3, QUIRE_FAULT_SIGNAL, &s.map, &err) < 0 ||
	    quire_loop_create(&loop, &s.loop, &err) < 0)
		return refused(&err);
	check(s.listener = lookup_listen(argv[1]), argv[1]);

	check(quire_co_spawn(s.loop, accept_all, &s), "coroutine");
	check(quire_co_spawn(s.loop, stop, &s), "coroutine");
	printf("server_suspend: listening on %s\n", argv[1]);
	fflush(stdout);
	check(quire_loop_run(s.loop), "loop"); /* until no coroutine is left */

	check(quire_map_stat(s.map, &stat), "statistics");
	printf("server_suspend: %lu connections, %lu answers, %lu of them errors; pages: %lu read\n", s.n_connections,
	       s.n_answers, s.n_refused, (unsigned long)stat.n_fills);
	check(quire_loop_destroy(s.loop), "loop");
	check(quire_map_destroy(s.map, NULL), "map");
	check(quire_cache_close(s.cache), "cache");
	close(s.listener);
	close(s.stop_fd);
	unlink(argv[1]);
	return 0;
}
