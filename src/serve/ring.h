/* ring.h - the memory that a client and the service have in common, and what they say at first; docs/tmem-service.md has it in words.
 *
 * One client's messages lie in slots: a head, descriptors of requests, and room for pages. A slot is free, then submitted, then
 * done; `state` says so. The ring is the order in which slots were submitted. All of it may change at any moment on
 * the service's side of view, so the service copies what it looks at by ring_copy_out, and looks at the copy.
 *
 * Numbers are the machine's own: both sides are on it.
 */
#ifndef SERVE_RING_H
#define SERVE_RING_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RING_MAGIC 0x676e6952u
#define RING_VERSION 1u
#define RING_SLOTS_MOST 32u
#define RING_REQUESTS_MOST 256u     /* of a message */
#define RING_SLOT_BYTES_LEAST 4096u
#define RING_SLOT_BYTES_MOST (64u << 20)
#define RING_HEAD_BYTES 4096u

/* From the client, the first thing. */
struct ring_hello {
	uint32_t magic, version;
	uint32_t n_slots, slot_bytes;
};
static_assert(sizeof(struct ring_hello) == 16, "what is sent");

/* The answer; with the memory's descriptor if the result is 0. */
struct ring_welcome {
	uint32_t magic, version;
	int32_t result; /* 0, or a negative errno */
	uint32_t zero;
};
static_assert(sizeof(struct ring_welcome) == 16, "what is sent");

/* Where the memory begins. */
struct ring_head {
	_Atomic uint32_t tail;            /* the client's: so many were submitted, modulo 2³² */
	uint8_t order[RING_SLOTS_MOST];   /* the client's: at tail modulo n_slots, the slot */
	uint8_t zero[92];
	_Atomic uint32_t asleep;          /* 1, the service's: it wants to be woken; 0, by whoever wakes it */
	uint8_t zero_too[124];
};
static_assert(offsetof(struct ring_head, order) == 4 && offsetof(struct ring_head, asleep) == 128, "what is shared");
static_assert(sizeof(struct ring_head) == 256, "what is shared");

enum ring_state {
	RING_FREE = 0,
	RING_SUBMITTED = 1,
	RING_SLEEPING = 2, /* submitted, and the client wants to be woken */
	RING_DONE = 3,
};

enum ring_verb {
	RING_BATCH = 1,        /* n requests */
	RING_POOL_CREATE = 2,  /* struct ring_pool_options in the data: the pool's number */
	RING_POOL_OPEN = 3,    /* 16 bytes in the data, the uuid: the pool's number */
	RING_POOL_DESTROY = 4,
	RING_POOL_FREEZE = 5,  /* argument: 0 or 1 */
	RING_POOL_STAT = 6,    /* struct ring_pool_stat into the data */
	RING_CLIENT_STAT = 7,  /* struct ring_client_stat into the data */
	RING_SERVICE_STAT = 8, /* struct ring_service_stat into the data */
	RING_POOL_SAVE = 9,
	RING_POOL_FORGET = 10,
};

struct ring_request {
	uint32_t pool;   /* number */
	uint8_t verb;    /* enum quire_tmem_verb */
	uint8_t how;     /* enum quire_tmem_get */
	uint16_t zero;
	uint64_t object[3];
	uint32_t index;
	uint32_t at;     /* of the page in the slot's data */
	int64_t result;  /* the service's */
};
static_assert(sizeof(struct ring_request) == 48 && offsetof(struct ring_request, result) == 40, "what is shared");

struct ring_message {
	_Atomic uint32_t state;
	uint32_t verb;     /* enum ring_verb; this and the next three are copied in one go */
	uint32_t n;        /* requests of a RING_BATCH */
	uint32_t pool;     /* number; of RING_POOL_… */
	uint32_t argument;
	uint32_t zero;
	_Atomic int64_t result; /* the service's: 0 or a negative errno */
	uint32_t number;   /* the service's: of a pool that was made or opened */
	uint32_t page_bytes; /* the service's: its pages' */
	uint8_t zero_too[24];
	struct ring_request requests[RING_REQUESTS_MOST];
};
static_assert(offsetof(struct ring_message, verb) == 4 && offsetof(struct ring_message, argument) == 16 &&
              offsetof(struct ring_message, result) == 24 && offsetof(struct ring_message, requests) == 64, "what is shared");
static_assert(sizeof(struct ring_message) == 12352, "what is shared");

struct ring_pool_options {
	uint32_t kind, page_bytes, flags, weight, domain, zero;
	uint64_t cap_bytes;
	uint8_t uuid[16];
};
static_assert(sizeof(struct ring_pool_options) == 48, "what is shared");

struct ring_pool_stat {
	uint64_t n_pages, held_bytes, cap_bytes;
	uint64_t n_puts, n_put_refused, n_gets, n_get_hits, n_flushed, n_evicted, n_damaged;
	uint32_t page_bytes, weight, kind, frozen;
};
static_assert(sizeof(struct ring_pool_stat) == 96, "what is shared");

/* Of struct quire_tmem_pool_stat, which has the same names, and back. */
#define RING_POOL_STAT_AS(type, s)                                                                                     \
	((type){.n_pages = (s).n_pages,                                                                                \
	        .held_bytes = (s).held_bytes,                                                                          \
	        .cap_bytes = (s).cap_bytes,                                                                            \
	        .n_puts = (s).n_puts,                                                                                  \
	        .n_put_refused = (s).n_put_refused,                                                                    \
	        .n_gets = (s).n_gets,                                                                                  \
	        .n_get_hits = (s).n_get_hits,                                                                          \
	        .n_flushed = (s).n_flushed,                                                                            \
	        .n_evicted = (s).n_evicted,                                                                            \
	        .n_damaged = (s).n_damaged,                                                                            \
	        .page_bytes = (s).page_bytes,                                                                          \
	        .weight = (s).weight,                                                                                  \
	        .kind = (s).kind,                                                                                      \
	        .frozen = (s).frozen})

struct ring_client_stat {
	uint64_t held_bytes, cap_bytes;
	uint32_t n_pools, n_handles, most_pools, most_handles;
};
static_assert(sizeof(struct ring_client_stat) == 32, "what is shared");

/* Of the whole service: the fields of struct quire_tmem_stat, then those of struct quire_tmem_service_stat, in their order. Both only grow
 * at their ends, so either side may know more of them. */
#define RING_STAT_WORDS 127u
struct ring_service_stat {
	uint32_t n_tmem, n_service;
	uint64_t words[RING_STAT_WORDS];
};
static_assert(sizeof(struct ring_service_stat) == 1024, "what is shared");

/* One side's view of the memory. */
struct ring {
	void *memory;     /* owned: a mapping */
	size_t map_bytes;
	uint32_t n_slots; /* a power of two */
	uint32_t slot_bytes;
};

static inline size_t ring_bytes(uint32_t n_slots, uint32_t slot_bytes)
{
	size_t messages = ((size_t)n_slots * sizeof(struct ring_message) + 4095) / 4096 * 4096;

	return RING_HEAD_BYTES + messages + (size_t)n_slots * slot_bytes;
}

static inline int ring_is_possible(uint32_t n_slots, uint32_t slot_bytes)
{
	return n_slots >= 1 && n_slots <= RING_SLOTS_MOST && (n_slots & (n_slots - 1)) == 0 &&
	       slot_bytes >= RING_SLOT_BYTES_LEAST && slot_bytes <= RING_SLOT_BYTES_MOST && slot_bytes % 4096 == 0;
}

static inline struct ring_head *ring_head(const struct ring *r)
{
	return r->memory;
}

static inline struct ring_message *ring_message(const struct ring *r, uint32_t slot)
{
	return (struct ring_message *)(void *)((char *)r->memory + RING_HEAD_BYTES) + slot;
}

static inline uint8_t *ring_data(const struct ring *r, uint32_t slot)
{
	return (uint8_t *)r->memory + ring_bytes(r->n_slots, 0) + (size_t)slot * r->slot_bytes;
}

/* The compiler may take the copy only: what it was made of may be another thing at the next look. */
static inline void ring_copy_out(void *to, const void *shared, size_t n_bytes)
{
	memcpy(to, shared, n_bytes);
	__asm__ volatile("" ::: "memory");
}

#endif
