/* wild.c - a client that follows no rule. Each act is a byte, and what it takes of those that follow. */
#include "wild.h"

#include "../../src/serve/address.h"
#include "../../src/serve/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <quire/tmem.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define N_SLOTS 4u
#define SLOT_BYTES 16384u
#define NUMBERS 4u
#define DIALS_MOST 1000u
#define PATIENCE_NS 500000

struct wild {
	const char *path;
	const uint8_t *bytes, *end;
	int socket, fd;             /* or -1 */
	struct ring ring;
	uint32_t tail;
	uint32_t numbers[NUMBERS];  /* of pools that it made */
	unsigned n_made;
};

static uint8_t next(struct wild *w)
{
	return w->bytes < w->end ? *w->bytes++ : 0;
}

static uint32_t next_word(struct wild *w)
{
	uint32_t word = 0;

	for (unsigned i = 0; i < 4; i++)
		word = word << 8 | next(w);
	return word;
}

/* ---- connecting ---- */

static void hang_up(struct wild *w)
{
	if (w->ring.memory != NULL)
		munmap(w->ring.memory, w->ring.map_bytes);
	if (w->fd >= 0)
		close(w->fd);
	if (w->socket >= 0)
		close(w->socket);
	w->ring.memory = NULL;
	w->fd = w->socket = -1;
}

static void receive_memory(struct wild *w)
{
	struct ring_welcome welcome;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {&welcome, sizeof(welcome)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.space)};

	if (recvmsg(w->socket, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(welcome) || CMSG_FIRSTHDR(&msg) == NULL)
		return;
	memcpy(&w->fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(w->fd));
	w->ring = (struct ring){.n_slots = N_SLOTS, .slot_bytes = SLOT_BYTES, .map_bytes = ring_bytes(N_SLOTS, SLOT_BYTES)};
	w->ring.memory = mmap(NULL, w->ring.map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	if (w->ring.memory == MAP_FAILED)
		w->ring.memory = NULL;
}

static void try_to_dial(struct wild *w)
{
	struct ring_hello hello = {RING_MAGIC, RING_VERSION, N_SLOTS, SLOT_BYTES};
	struct sockaddr_un address;
	int at = address_of(w->path, &address);

	w->tail = 0;
	w->n_made = 0;
	w->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(w->socket, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    send(w->socket, &hello, sizeof(hello), MSG_NOSIGNAL) > 0)
		receive_memory(w);
	close(at);
}

/* Those before may not have been buried yet, and keep their places until then. */
static void dial(struct wild *w)
{
	try_to_dial(w);
	for (unsigned i = 0; i < DIALS_MOST && w->ring.memory == NULL; i++) {
		hang_up(w);
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
		try_to_dial(w);
	}
}

/* ---- messages ---- */

static void ring_bell(struct wild *w)
{
	(void)send(w->socket, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void submit(struct wild *w, uint32_t slot)
{
	struct ring_head *head = ring_head(&w->ring);

	atomic_store(&ring_message(&w->ring, slot)->state, RING_SUBMITTED);
	head->order[w->tail % N_SLOTS] = (uint8_t)slot;
	atomic_store(&head->tail, ++w->tail);
	if (atomic_exchange(&head->asleep, 0) != 0)
		ring_bell(w);
}

/* For a while; a wild one's message may never be done. */
static void await(struct wild *w, uint32_t slot)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		(void)sched_yield();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (atomic_load(&ring_message(&w->ring, slot)->state) != RING_DONE &&
	         (now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < PATIENCE_NS);
}

static uint32_t some_pool(struct wild *w)
{
	uint8_t which = next(w);

	return which < 240 ? w->numbers[which % NUMBERS] : next_word(w);
}

/* Mostly as a good client would. */
static void send_batch(struct wild *w)
{
	uint32_t slot = next(w) % N_SLOTS, n = next(w);
	struct ring_message *m = ring_message(&w->ring, slot);

	m->verb = RING_BATCH;
	m->n = n < 250 ? n % 40 : next_word(w);
	for (uint32_t i = 0; i < n % 40; i++) {
		uint8_t place = next(w), what = next(w);
		m->requests[i] = (struct ring_request){
			.pool = some_pool(w),
			.verb = what < 250 ? 1 + what % 4 : what,
			.how = what < 250 ? what / 4 % 3 : what,
			.object = {place % 3},
			.index = place % 16,
			.at = place < 250 ? place % 4 * 4096u : next_word(w),
		};
		memset(ring_data(&w->ring, slot) + place % 4 * 4096u, place, 2048);
	}
	submit(w, slot);
}

static void make_pool(struct wild *w, enum ring_verb verb)
{
	uint32_t slot = next(w) % N_SLOTS;
	struct ring_message *m = ring_message(&w->ring, slot);
	uint8_t what = next(w);
	struct ring_pool_options o = {
		.kind = 1 + what % 2,
		.page_bytes = what < 200 ? 4096u << what / 2 % 3 : next_word(w),
		.flags = what / 8 % 8,
		.weight = what < 240 ? 0 : next_word(w),
		.domain = what / 64,
		.cap_bytes = what % 5 != 0 ? 0 : (uint64_t)next_word(w) << next(w) % 32,
		.uuid = {verb == RING_POOL_OPEN || what / 8 % 2 == 1 ? 1 + next(w) % 2 : 0},
	};

	memcpy(ring_data(&w->ring, slot), verb == RING_POOL_OPEN ? (const void *)o.uuid : &o, verb == RING_POOL_OPEN ? 16 : sizeof(o));
	m->verb = verb;
	submit(w, slot);
	await(w, slot);
	if (m->result == 0)
		w->numbers[w->n_made++ % NUMBERS] = m->number;
}

static void ask_of_pool(struct wild *w)
{
	uint32_t slot = next(w) % N_SLOTS;
	struct ring_message *m = ring_message(&w->ring, slot);

	m->verb = RING_POOL_DESTROY + next(w) % (RING_POOL_FORGET - RING_POOL_DESTROY + 2);
	m->pool = some_pool(w);
	m->argument = next(w);
	submit(w, slot);
}

/* ---- against the rules ---- */

static void scribble(struct wild *w)
{
	uint32_t at = next_word(w), n = 1 + next(w) % 16;
	uint8_t *memory = w->ring.memory;

	for (uint32_t i = 0; i < n; i++)
		((volatile uint8_t *)memory)[(at + i) % w->ring.map_bytes] = next(w);
}

/* While the service reads: descriptors, lengths, pages. */
static void scribble_meanwhile(struct wild *w)
{
	uint32_t slot = next(w) % N_SLOTS, times = next(w) * 8u, state = next_word(w) | 1;
	volatile uint8_t *message = (volatile uint8_t *)ring_message(&w->ring, slot);
	volatile uint8_t *data = ring_data(&w->ring, slot);

	submit(w, slot);
	for (uint32_t i = 0; i < times; i++) {
		state = state * 1664525u + 1013904223u;
		message[4 + (state >> 8) % 2000] = (uint8_t)(state >> 24);
		data[(state >> 4) % SLOT_BYTES] = (uint8_t)(state >> 16);
	}
}

static void send_nonsense(struct wild *w)
{
	static const char noise[3000];
	uint8_t what = next(w);

	for (unsigned i = 0; i < what % 32; i++)
		(void)send(w->socket, noise, what * 10u, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (what > 250)
		(void)shutdown(w->socket, what % 3);
}

static void send_descriptors(struct wild *w)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 3)];
	} control = {0};
	struct iovec iov = {"", 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.space)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	const int fds[3] = {w->socket, w->fd, w->fd};

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	(void)sendmsg(w->socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The memory's size is sealed: it can't be made too short for the service to read. */
static void take_memory_away(struct wild *w)
{
	if (ftruncate(w->fd, 0) == 0 || errno != EPERM)
		abort();
	(void)fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, next(w) * 512, next(w) * 512 + 1);
}

static void act(struct wild *w)
{
	switch (next(w) % 16) {
	case 0: case 1: case 2:
		send_batch(w);
		break;
	case 3:
		make_pool(w, RING_POOL_CREATE);
		break;
	case 4:
		make_pool(w, RING_POOL_OPEN);
		break;
	case 5:
		ask_of_pool(w);
		break;
	case 6: case 7:
		scribble(w);
		break;
	case 8: case 9:
		scribble_meanwhile(w);
		break;
	case 10:
		atomic_store(&ring_head(&w->ring)->tail, w->tail += next(w) % 8);
		break;
	case 11:
		send_nonsense(w);
		break;
	case 12:
		send_descriptors(w);
		break;
	case 13:
		take_memory_away(w);
		break;
	case 14:
		await(w, next(w) % N_SLOTS);
		break;
	default:
		hang_up(w);
		dial(w);
	}
}

void wild_run(const char *path, const uint8_t *bytes, size_t n)
{
	struct wild w = {.path = path, .bytes = bytes, .end = bytes + n, .socket = -1, .fd = -1};

	dial(&w);
	while (w.bytes < w.end && w.ring.memory != NULL)
		act(&w);
	hang_up(&w);
}
