/* face_nbd.c - a volume by NBD, over a socket pair: the server's coroutines and the client's are of one loop, and the client hangs up when
 * it likes, in the middle of a request too.
 *
 * The model of a block is what it holds durably, and what was written to it since: after a crash it is one of these. A client names
 * a block once in what it sends together, and nobody connects before the last connection has ended, so what is answered is what there is. */
#include "world.h"

#include "../../src/serve/nbd_internal.h"

#include <errno.h>
#include <poll.h>
#include <quire/nbd.h>
#include <quire/volume.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VOLUME "served"
#define N_BLOCKS 16u
#define BLOCK QUIRE_VOLUME_BLOCK_BYTES
#define MOST_SINCE 64u
#define MOST_REQUESTS 6u
#define PATIENCE 4096u /* turns of the clock */

struct block {
	uint32_t durable, since[MOST_SINCE]; /* 0: zeros */
	unsigned n_since;
	bool is_known; /* the last of them is what there is */
};

struct nbd_state {
	struct quire_nbd *nbd;  /* owned; NULL: not open */
	struct quire_loop *own; /* the server's loop, which doesn't run: the world's does */
	struct block blocks[N_BLOCKS];
	bool there;             /* the volume has been made */
	uint32_t next_tag;
	uint64_t random;
	uint8_t buf[BLOCK];
};

struct request {
	enum nbd_command command;
	unsigned flags, block;
	uint32_t tag;
};

static struct nbd_state *state_of(struct world *w)
{
	return w->faces[FACE_NBD];
}

static uint64_t draw(struct nbd_state *s, uint64_t n)
{
	return random_below(&s->random, n);
}

static void begin(struct world *w)
{
	if (w->faces[FACE_NBD] == NULL)
		w->faces[FACE_NBD] = calloc(1, sizeof(struct nbd_state));
	must(w, w->faces[FACE_NBD] != NULL);
	*state_of(w) = (struct nbd_state){.next_tag = 1};
}

/* ---- blocks ---- */

static void fill(uint32_t tag, uint8_t *to)
{
	uint64_t state = tag;

	for (unsigned i = 0; i < BLOCK; i += 8) {
		uint64_t word = tag == 0 ? 0 : i == 0 ? tag : random_next(&state);
		memcpy(to + i, &word, 8);
	}
}

/* The tag of a block; it must have been filled by one. */
static uint32_t tag_of(struct world *w, const uint8_t *from)
{
	uint8_t whole[BLOCK];
	uint64_t tag;

	memcpy(&tag, from, 8);
	must(w, tag < state_of(w)->next_tag);
	fill((uint32_t)tag, whole);
	must(w, memcmp(whole, from, BLOCK) == 0);
	return (uint32_t)tag;
}

static uint32_t newest(const struct block *b)
{
	return b->n_since == 0 ? b->durable : b->since[b->n_since - 1];
}

static void must_be_possible(struct world *w, const struct block *b, uint32_t tag)
{
	bool is_possible = tag == newest(b);

	for (unsigned i = 0; i < b->n_since && !b->is_known; i++)
		is_possible |= tag == b->since[i];
	if (!is_possible && (b->is_known || tag != b->durable))
		world_fail(w, __FILE__, __LINE__, "block %td holds %u; %u is durable, %u written since, %u the last", b - state_of(w)->blocks, tag,
		           b->durable, b->n_since, newest(b));
}

static void written(struct block *b, uint32_t tag)
{
	if (b->n_since < MOST_SINCE)
		b->since[b->n_since++] = tag;
	b->is_known = false;
}

static void is_durable(struct block *b)
{
	b->durable = newest(b);
	b->n_since = 0;
	b->is_known = true;
}

/* ---- a client ---- */

static bool say(int fd, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t done = send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN)
			return false;
		if (done < 0 && quire_poll_fd(fd, POLLOUT, NULL) < 0)
			return false;
		bytes += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
	return true;
}

static bool hear(int fd, uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t done = recv(fd, bytes, n, MSG_DONTWAIT);
		if (done == 0 || (done < 0 && errno != EAGAIN))
			return false;
		if (done < 0 && quire_poll_fd(fd, POLLIN, NULL) < 0)
			return false;
		bytes += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
	return true;
}

static bool shake_hands(int fd)
{
	uint8_t said[64], heard[NBD_STRING_BYTES];
	uint8_t *at = nbd_put32(said, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);

	at = nbd_put32(nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_GO), 6);
	at = nbd_put16(nbd_put32(at, 0), 0);
	if (!hear(fd, heard, NBD_GREETING_BYTES) || !say(fd, said, (size_t)(at - said)))
		return false;
	for (;;) {
		if (!hear(fd, heard, NBD_OPTION_REPLY_BYTES))
			return false;
		uint32_t type = nbd_get32(heard + 12), len = nbd_get32(heard + 16);
		if (len > sizeof(heard) || !hear(fd, heard, len) || (type & NBD_REP_ERR(0)) != 0)
			return false;
		if (type == NBD_REP_ACK)
			return true;
	}
}

static struct request draw_request(struct world *w, unsigned block)
{
	struct nbd_state *s = state_of(w);
	uint64_t what = draw(s, 8);
	struct request r = {.command = what < 5 ? NBD_CMD_WRITE : what < 7 ? NBD_CMD_READ : NBD_CMD_WRITE_ZEROES, .block = block};

	if (r.command != NBD_CMD_READ && draw(s, 4) == 0)
		r.flags = NBD_FUA;
	if (r.command == NBD_CMD_WRITE)
		r.tag = s->next_tag++;
	return r;
}

static bool ask(struct world *w, int fd, const struct request *r, uint64_t cookie)
{
	struct nbd_state *s = state_of(w);
	uint8_t said[NBD_REQUEST_BYTES + BLOCK], *at = nbd_put32(said, NBD_REQUEST_MAGIC);
	bool is_flush = r->command == NBD_CMD_FLUSH;

	at = nbd_put64(nbd_put16(nbd_put16(at, (uint16_t)r->flags), (uint16_t)r->command), cookie);
	at = nbd_put32(nbd_put64(at, is_flush ? 0 : (uint64_t)r->block * BLOCK), is_flush ? 0 : BLOCK);
	if (r->command == NBD_CMD_WRITE) {
		fill(r->tag, at);
		at += BLOCK;
	}
	if (!is_flush && r->command != NBD_CMD_READ)
		written(&s->blocks[r->block], r->tag);
	/* Half of a request, and then the line is dead. */
	bool breaks_off = draw(s, 24) == 0;
	return say(fd, said, breaks_off ? draw(s, (uint64_t)(at - said)) : (size_t)(at - said)) && !breaks_off;
}

static void answered(struct world *w, const struct request *r, uint32_t error)
{
	struct nbd_state *s = state_of(w);
	struct block *b = &s->blocks[r->block];

	if (error != 0) {
		must(w, error == NBD_ENOSPC || world_excuses(w, -(int64_t)error));
		return;
	}
	if (r->command == NBD_CMD_READ) {
		must_be_possible(w, b, tag_of(w, s->buf));
		return;
	}
	if (world_power_is_gone(w))
		return;
	if (r->command == NBD_CMD_FLUSH) {
		for (unsigned i = 0; i < N_BLOCKS; i++)
			if (s->blocks[i].is_known)
				is_durable(&s->blocks[i]);
		return;
	}
	b->is_known = true;
	if ((r->flags & NBD_FUA) != 0)
		is_durable(b);
}

static bool hear_answers(struct world *w, int fd, const struct request *requests, unsigned n)
{
	uint8_t head[NBD_SIMPLE_REPLY_BYTES];

	for (unsigned i = 0; i < n; i++) {
		if (!hear(fd, head, sizeof(head)))
			return false;
		must(w, nbd_get32(head) == NBD_SIMPLE_REPLY_MAGIC && nbd_get64(head + 8) < n);
		const struct request *r = &requests[nbd_get64(head + 8)];
		uint32_t error = nbd_get32(head + 4);
		if (r->command == NBD_CMD_READ && error == 0 && !hear(fd, state_of(w)->buf, BLOCK))
			return false;
		answered(w, r, error);
	}
	return true;
}

/* Requests at once, each of another block; then perhaps a flush. False: the line is dead. */
static bool talk(struct world *w, int fd)
{
	struct nbd_state *s = state_of(w);
	unsigned n = 1 + (unsigned)draw(s, MOST_REQUESTS), first = (unsigned)draw(s, N_BLOCKS);
	const struct request flush = {.command = NBD_CMD_FLUSH};
	struct request requests[MOST_REQUESTS];

	for (unsigned i = 0; i < n; i++) {
		requests[i] = draw_request(w, (first + i * 3) % N_BLOCKS);
		if (!ask(w, fd, &requests[i], i))
			return false;
	}
	if (draw(s, 6) == 0 || !hear_answers(w, fd, requests, n)) /* whoever hangs up hears no answer */
		return false;
	return draw(s, 3) != 0 || (ask(w, fd, &flush, 0) && hear_answers(w, fd, &flush, 1));
}

/* True: the last connection has ended. */
static bool wait_for_end(const struct nbd_state *s)
{
	for (unsigned i = 0; i < PATIENCE && s->nbd->n_connections > 0; i++)
		(void)quire_sleep_ns(1000000, NULL);
	return s->nbd->n_connections == 0;
}

static bool step(struct world *w, unsigned worker, uint64_t random)
{
	struct nbd_state *s = state_of(w);
	int pair[2];

	(void)worker;
	s->random = random;
	must(w, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	struct nbd_connection *connection = nbd_connection_create(s->nbd, pair[1]);
	must(w, connection != NULL && nbd_connection_start(connection) == 0);
	bool goes_on = draw(s, 16) != 0 && shake_hands(pair[0]);
	for (unsigned n = 1 + (unsigned)draw(s, 3); n > 0 && goes_on; n--)
		goes_on = talk(w, pair[0]);
	(void)close(pair[0]);
	w->sums[SUM_HANG_UPS] += !goes_on;
	return wait_for_end(s) && !world_power_is_gone(w);
}

/* ---- a life ---- */

/* Each block is one that is possible, and that from now on. -EIO and the like: it can't be told. */
static int settle(struct world *w, struct quire_volumes *volumes)
{
	struct nbd_state *s = state_of(w);
	struct iovec iov = {s->buf, BLOCK};
	struct quire_volume *v;
	int rc = quire_volume_open(volumes, VOLUME, &v);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < N_BLOCKS && rc == 0; i++) {
		struct block *b = &s->blocks[i];
		rc = quire_volume_read(v, (uint64_t)i * BLOCK, &iov, 1, NULL);
		if (rc < 0)
			break;
		uint32_t tag = tag_of(w, s->buf);
		b->is_known = false;
		must_be_possible(w, b, tag);
		*b = (struct block){.durable = tag, .is_known = true};
	}
	quire_volume_close(v);
	return rc;
}

static int serve(struct world *w, struct quire_volumes *volumes)
{
	struct quire_nbd_options o = {.size = sizeof(o), .engine = QUIRE_ENGINE_THREADS};
	struct nbd_state *s = state_of(w);
	int rc = quire_nbd_create(&o, &s->nbd, NULL);

	must(w, rc == 0);
	s->own = s->nbd->loop;
	s->nbd->loop = w->e.loop;
	return quire_nbd_add_volume(s->nbd, "", volumes, VOLUME, 0, NULL);
}

static void close_face(struct world *w)
{
	struct nbd_state *s = state_of(w);

	s->nbd->loop = s->own;
	int rc = quire_nbd_destroy(s->nbd);
	s->nbd = NULL;
	if (rc < 0)
		(void)world_excuses(w, rc);
}

static bool open_face(struct world *w)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = N_BLOCKS * BLOCK};
	struct nbd_state *s = state_of(w);
	struct quire_volumes *volumes = w->is_open[FACE_VOLUME] ? volume_face_group(w) : NULL;
	struct quire_volume_info info;

	if (volumes == NULL)
		return false;
	int rc = quire_volume_find(volumes, VOLUME, &info);
	must(w, rc == 0 || !s->there);
	if (rc == -ENOENT)
		rc = quire_volume_create(volumes, VOLUME, &o);
	if (rc == -ENOSPC)
		return false;
	s->there |= rc == 0 && !world_power_is_gone(w);
	rc = rc < 0 ? rc : settle(w, volumes);
	if (rc < 0) {
		(void)world_excuses(w, rc);
		return false;
	}
	rc = serve(w, volumes);
	if (rc == 0 && !world_power_is_gone(w))
		return true;
	close_face(w);
	(void)world_excuses(w, rc);
	return false;
}

/* A block that can be read was written so once. */
static unsigned look(struct world *w)
{
	struct nbd_state *s = state_of(w);
	struct iovec iov = {s->buf, BLOCK};
	struct quire_volumes *volumes;
	struct quire_volume *v;

	if (quire_volumes_open(store_public(w->e.store), NULL, &volumes, NULL) < 0)
		return 0;
	if (quire_volume_open(volumes, VOLUME, &v) == 0) {
		for (unsigned i = 0; i < N_BLOCKS; i++) {
			if (quire_volume_read(v, (uint64_t)i * BLOCK, &iov, 1, NULL) == 0)
				(void)tag_of(w, s->buf);
			else
				w->sums[SUM_UNREADABLE]++;
		}
		quire_volume_close(v);
	}
	(void)quire_volumes_close(volumes);
	return 0;
}

static void end(struct world *w)
{
	(void)w;
}

const struct face_ops nbd_face = {.begin = begin, .open = open_face, .step = step, .close = close_face, .look = look, .end = end};
