/* stress.h - what the parts of the random test share.
 *
 *   content.c  files whose every byte follows from (seed, file, version, offset)
 *   blobs.c    a store, whose blobs come and go
 *   world.c    the cache, slots of maps that come and go, what may be read through them
 *   steps.c    what any thread or coroutine does: read, want, pin, write, purge
 *   ops.c      operations in flight, by queue, eventfd, callback and await; each completes once
 *   loops.c    threads that run loops: coroutines, callbacks, embedded
 *   rulers.c   threads that change the world: budget, maps, advice, growth, blobs; and the vandal
 *   watch.c    memory as the kernel counts it; progress
 *   stuck.c    the inside of the cache and the threads' stacks, when there is no progress
 *
 * Who uses a map enters its slot for the time of the use; destroying waits for users, but not for
 * operations under way nor for pins, which the library has to deal with.
 */
#ifndef TESTS_STRESS_H
#define TESTS_STRESS_H

#include "../support/sanitized.h"

#include <quire/quire.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_ACTORS 64
#define N_FILES 14
#define N_GROWING 3     /* of them, the last ones */
#define N_SLOTS 5       /* of maps over files that nobody damages */
#define N_PREY 2        /* of maps over files and blobs that the vandal damages */
#define MAX_ITEMS 8
#define MAX_RANGES 6
#define MAX_RANGE_PAGES 48

/* ---- options ---- */
struct options {
	unsigned seconds, n_threads;
	int stuck_seconds; /* after which somebody who does not get on is an error */
	uint64_t seed, budget_bytes;
	enum quire_fault fault; /* AUTO stands for a mix */
	bool mix;
	enum quire_engine engine;
};
extern struct options options;
extern struct quire_capabilities caps;
extern size_t page_bytes;
extern atomic_bool stopping;

/* Prints what went wrong and the seed, and aborts. */
_Noreturn void fail_at(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...) ((condition) ? (void)0 : FAIL(#condition ": " __VA_ARGS__))

/* ---- chance ---- */
struct chance {
	uint64_t state;
};
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}
static inline uint64_t chance_next(struct chance *c)
{
	return mix64(c->state += UINT64_C(0x9e3779b97f4a7c15));
}
static inline unsigned chance_below(struct chance *c, unsigned n)
{
	return (unsigned)(chance_next(c) >> 33) % n;
}
static inline bool one_in(struct chance *c, unsigned n)
{
	return chance_below(c, n) == 0;
}

/* ---- content.c ---- */
struct file {
	char path[256];
	uint64_t key;
	_Atomic uint64_t size;
	uint64_t reserve; /* how far it may grow; 0: it does not */
	int fd;           /* for reading, handed to maps by descriptor */
	pthread_mutex_t grow_lock;
};
extern struct file files[N_FILES];
extern char directory[200];

uint64_t content_key(uint64_t file, uint64_t version);
void content_fill(uint64_t key, uint64_t offset, void *buf, size_t len);
/* Compares; by this function's own loads, so that no library call is interrupted by a fault. */
bool content_equal(uint64_t key, bool inverted, uint64_t offset, const void *at, size_t len);
void content_write(const char *path, int flags, uint64_t key, uint64_t from, uint64_t to);
void files_create(void);
void files_grow(struct file *f, uint64_t bytes);
void files_remove(void);
/* A fill hook: content appears inverted, after it was compared. arg: the key. */
int content_hook(void *arg, const void *raw, size_t len, uint64_t offset, void *page);

/* ---- blobs.c ---- */
struct blob {
	uint64_t id, key, size;
};
extern struct quire_store *store;

void blobs_create(void);
void blobs_destroy(void);
/* While locked, what is picked is not deleted. */
void blobs_lock(void);
void blobs_unlock(void);
struct blob blobs_pick_locked(struct chance *c);
void blobs_replace(struct chance *c); /* two of them, in one transaction */
void blob_read_some(struct chance *c);
struct blob prey_blob_make(uint64_t key, uint64_t size);
void prey_blob_delete(uint64_t id);
void prey_blobs_damage(struct chance *c);

/* ---- world.c ---- */
struct view_item {
	struct file *file; /* NULL: a blob, or the vandal's */
	uint64_t blob;     /* its id; 0: a file */
	uint64_t key, offset;
	_Atomic uint64_t len;
	bool inverted;
	const char *base;
};
struct view {
	struct quire_map *map;
	enum quire_fault fault;
	bool prey; /* errors are allowed, wrong bytes are not */
	unsigned n_items;
	struct view_item items[MAX_ITEMS];
};
struct slot {
	_Atomic long n_uses;
	atomic_bool closed;
	_Atomic unsigned n_destroys; /* attempts */
	struct view view;            /* changes only while closed and unused */
};
extern struct slot slots[N_SLOTS + N_PREY];
extern struct quire_cache *cache;

struct view *slot_enter(struct slot *s); /* NULL: none there now */
void slot_leave(struct slot *s);
void slot_close(struct slot *s);         /* waits for the users */
void slot_open(struct slot *s);
struct slot *slot_pick(struct chance *c);
bool slot_try_destroy(struct slot *s, struct chance *c); /* closed; false: pinned */
void slot_fill(struct slot *s, struct chance *c);        /* closed, and empty */
/* quire_map_create, tried for some seconds while it is -ENOMEM. */
int map_create_when_it_fits(const struct quire_item *items, size_t n, const struct quire_map_options *o, struct quire_map **ret_map,
                            struct quire_error *err);
void world_create(void);
void world_destroy(void);

/* A range of one item. */
struct piece {
	const struct view_item *item;
	uint64_t at; /* in the item */
	size_t len;
};
bool piece_pick(const struct view *v, struct chance *c, unsigned max_pages, struct piece *ret);
static inline const char *piece_address(const struct piece *p)
{
	return p->item->base + p->at;
}
void piece_check(const struct piece *p, const char *how);
bool raw_allowed(const struct view *v);

/* ---- pins: a set of ranges held by somebody ---- */
struct pins {
	struct slot *slot;
	struct view view; /* a copy: as long as the pins are, so is the map */
	unsigned n;
	struct iovec ranges[MAX_RANGES];
	struct piece pieces[MAX_RANGES];
};
/* Ranges of one view, to want. */
bool pins_pick(struct pins *p, struct slot *s, const struct view *v, struct chance *c, unsigned max_pages);
void pins_check(const struct pins *p);
void pins_put(struct pins *p);
/* May a want have ended like this? canceled: by the caller; n_destroys: of the slot, before it. */
void result_check(const struct pins *p, int64_t result, bool pinned, bool canceled, unsigned n_destroys);

/* ---- actors ---- */
struct actor {
	pthread_t thread;
	unsigned index;
	const char *role;
	void (*run)(struct actor *a);
	struct chance chance;
	_Atomic uint64_t progress;
	_Atomic(const char *) doing;
	_Atomic uint64_t n_started, n_completed;
};
extern struct actor actors[MAX_ACTORS];

static inline void doing(struct actor *a, const char *what)
{
	atomic_store_explicit(&a->doing, what, memory_order_relaxed);
	atomic_fetch_add_explicit(&a->progress, 1, memory_order_relaxed);
}

/* steps.c */
#define N_HELD 3
struct walker {
	struct actor *actor;
	struct chance chance;
	int scratch_fd;
	struct pins held[N_HELD];
};
void walker_step(struct walker *w); /* one thing at random; op == NULL */
void walker_end(struct walker *w);
int scratch_open(void);

void actor_plain(struct actor *a);
/* ops.c */
void actor_queue(struct actor *a);
void actor_eventfd(struct actor *a);
void actor_callbacks(struct actor *a);
void actor_embedded(struct actor *a);
/* loops.c */
void actor_coroutines(struct actor *a);
void actor_suspending(struct actor *a);
struct quire_loop *stress_loop(struct actor *a, bool suspend);
/* rulers.c */
void actor_maintainer(struct actor *a);
void actor_writer(struct actor *a);
void actor_vandal(struct actor *a);
void prey_fill(struct slot *s, struct chance *c);

/* watch.c */
extern _Atomic uint64_t budget_in_force; /* the larger one while it changes */
void watch_baseline(void);
void watch_start(uint64_t own_bytes);
void watch_stop(void);
unsigned count_descriptors(void);

#endif
