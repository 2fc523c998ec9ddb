/* remote_tier.h - pages that are remote; the essay is in remote.c. For src/tmem alone; the lock held unless said otherwise. */
#ifndef TMEM_REMOTE_TIER_H
#define TMEM_REMOTE_TIER_H

#include "remote.h"
#include "tmem_internal.h"

#define REMOTE_SPARES 128u
#define REMOTE_DROPS 1024u

/* What follows the head of a page that is remote. hash and next of the head are its places before and after it, of those of its pool. */
struct stub {
	uint64_t version : 62, codec : 2; /* of its bytes */
};
static_assert(sizeof(struct stub) == 8, "with a head, the smallest slot");
#define STUB_MOST_VERSION ((UINT64_C(1) << 62) - 1) /* a million a second for 146,000 years */

/* A value on its way. */
struct remote_entry {
	uint64_t version;
	uint64_t at;    /* where it begins, of all bytes that ever were in the ring */
	bool dropped;   /* nobody wants it any more */
};

struct remote_counts {
	uint64_t n_stubs, stub_bytes, n_sent, n_hits, n_misses, n_errors;
};

struct remote {
	struct quire_tmem *tmem;  /* borrowed */
	struct tmem_remote tier;
	struct tmem_remote_key next; /* of the value that is sent next */
	uint32_t n_spares, spares[REMOTE_SPARES]; /* places of slots for stubs */
	uint8_t *ring;            /* owned; tier.queue_bytes */
	uint64_t end;             /* behind the newest value */
	struct remote_entry *entries; /* owned; a ring, too: the oldest first, by rising version */
	uint32_t n_entries, first, capacity;
	uint64_t drops[REMOTE_DROPS]; /* versions: likewise */
	uint32_t n_drops, first_drop;
	uint64_t charged_bytes;
	unsigned n_users;         /* gets that may be inside the tier */
	struct remote_counts counts;
	pthread_t sender;
	pthread_cond_t wake;      /* there is something to do */
	pthread_cond_t idle;      /* nobody is inside the tier */
	bool asleep, stop;
	bool sending;             /* the oldest entry */
};

static inline struct stub *stub_at(const struct quire_tmem *t, uint32_t place)
{
	return (struct stub *)((struct slot_head *)storage_at(&t->storage, place) + 1);
}

/* The pool's page of that key, if it is the stub of that version; else its value is VALUE_NONE. */
struct where tmem_stub_find(const struct quire_tmem_pool *pool, const struct quire_tmem_key *key, uint64_t version);
bool tmem_remote_check(const struct quire_tmem *t); /* true if the numbered invariants hold; for tests */

/* ---- remote_queue.c ---- */

/* Without the lock: memory, and the thread. 0; -ENOMEM, -EAGAIN. */
int remote_queue_init(struct remote *r);
void remote_queue_fini(struct remote *r); /* without the lock; waits for what is just being sent */
/* False: it is full. */
bool remote_queue_push(struct remote *r, const struct tmem_remote_head *head, const void *bytes);
/* The bytes of the value of that version. False: it is not there, any more. */
bool remote_queue_copy(const struct remote *r, uint64_t version, void *ret_bytes);
/* Nobody wants that version: it isn't sent, or deleted where it is. */
void remote_queue_drop(struct remote *r, uint64_t version);

#endif
