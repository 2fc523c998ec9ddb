/* demo_server.c - what the lookup servers share: messages in, messages out, threads. */
#include "demo_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void demo_server_ready(struct demo_server *server)
{
	static const char ready = 'R';

	if (write(server->ready_fd, &ready, 1) != 1)
		_exit(1);
	close(server->ready_fd);
	server->ready_fd = -1;
}

int demo_server_fail(struct demo_server *server, int rc, const char *what)
{
	snprintf(server->why, DEMO_WHY_BYTES, "%s: %s", what, strerror(-rc));
	return rc;
}

bool demo_request_valid(const struct demo_corpus *c, const struct demo_wire_request *r)
{
	return r->file < c->n_files && r->len_bytes <= DEMO_ANSWER_MAX_BYTES &&
	       r->offset <= c->files[r->file].len_bytes &&
	       r->len_bytes <= c->files[r->file].len_bytes - r->offset;
}

const unsigned char **demo_server_mmap(struct demo_server *server)
{
	const struct demo_corpus *c = server->corpus;
	const unsigned char **maps = calloc(c->n_files, sizeof(*maps));

	for (size_t i = 0; maps != NULL && i < c->n_files; i++) {
		void *map = mmap(NULL, c->files[i].len_bytes, PROT_READ, MAP_SHARED, c->files[i].fd, 0);
		if (map == MAP_FAILED || madvise(map, c->files[i].len_bytes, MADV_RANDOM) != 0) {
			free(maps);
			return NULL;
		}
		maps[i] = map;
	}
	return maps;
}

/* ---- batches ---- */

void demo_inbox_init(struct demo_inbox *in)
{
	memset(in, 0, sizeof(*in));
	for (unsigned i = 0; i < DEMO_BATCH; i++) {
		in->parts[i].iov_base = &in->requests[i];
		in->parts[i].iov_len = sizeof(in->requests[i]);
		in->headers[i].msg_hdr.msg_iov = &in->parts[i];
		in->headers[i].msg_hdr.msg_iovlen = 1;
	}
}

int demo_inbox_receive(struct demo_inbox *in, int socket, int flags)
{
	int n;

	do
		n = recvmmsg(socket, in->headers, DEMO_BATCH, flags, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	for (int i = 0; i < n; i++)
		if (in->headers[i].msg_len != sizeof(in->requests[i]))
			return i;
	return n;
}

void demo_outbox_init(struct demo_outbox *out, int socket)
{
	memset(out, 0, sizeof(*out));
	out->socket = socket;
	for (unsigned i = 0; i < DEMO_BATCH; i++) {
		out->parts[i].iov_base = &out->answers[i];
		out->headers[i].msg_hdr.msg_iov = &out->parts[i];
		out->headers[i].msg_hdr.msg_iovlen = 1;
	}
}

void *demo_outbox_add(struct demo_outbox *out, uint32_t id, uint32_t len_bytes, int error)
{
	if (out->n == DEMO_BATCH)
		demo_outbox_send(out);
	struct demo_wire_answer *answer = &out->answers[out->n];
	answer->id = id;
	answer->error = error;
	out->parts[out->n].iov_len = DEMO_ANSWER_HEAD_BYTES + (error == 0 ? len_bytes : 0);
	out->n++;
	return answer->bytes;
}

/* The client reads all the time, so a full socket is a matter of microseconds: block. */
void demo_outbox_send(struct demo_outbox *out)
{
	unsigned sent = 0;

	while (sent < out->n) {
		int n = sendmmsg(out->socket, out->headers + sent, out->n - sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			break; /* the client has hung up: there is nobody to tell */
		sent += n > 0 ? (unsigned)n : 0;
	}
	out->n = 0;
}

/* ---- a pool of threads ---- */

struct pool {
	struct demo_server *server;
	demo_answer_fn answer;
	void *arg;
};

/* All threads receive from one queue, so a hit never waits while a thread is free. */
static void *pool_thread(void *arg)
{
	const struct pool *pool = arg;
	const int socket = pool->server->socket;
	struct demo_wire_request request;
	struct demo_wire_answer answer;

	for (;;) {
		ssize_t n = recv(socket, &request, sizeof(request), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof(request))
			return NULL;
		answer.id = request.id;
		answer.error = demo_request_valid(pool->server->corpus, &request) ?
		                       pool->answer(pool->arg, &request, answer.bytes) :
		                       -EINVAL;
		size_t len = DEMO_ANSWER_HEAD_BYTES + (answer.error == 0 ? request.len_bytes : 0);
		if (send(socket, &answer, len, MSG_NOSIGNAL) < 0)
			return NULL;
	}
}

int demo_server_run_threads(struct demo_server *server, demo_answer_fn answer, void *arg)
{
	struct pool pool = { .server = server, .answer = answer, .arg = arg };
	pthread_t threads[DEMO_THREADS];

	for (unsigned i = 1; i < server->n_threads; i++) {
		int rc = pthread_create(&threads[i], NULL, pool_thread, &pool);
		if (rc != 0)
			return demo_server_fail(server, -rc, "starting threads");
	}
	demo_server_ready(server);
	pool_thread(&pool);
	for (unsigned i = 1; i < server->n_threads; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
