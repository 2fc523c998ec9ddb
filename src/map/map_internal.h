/* map_internal.h - the inside of struct quire_map, for the files of this layer alone. */
#ifndef MAP_MAP_INTERNAL_H
#define MAP_MAP_INTERNAL_H

#include "../cache/core.h"
#include "../cache/evict.h"
#include "../cache/fault.h"
#include "../cache/unit.h"
#include "../cache/want.h"

#include <quire/map.h>

/* One file or blob, or a range of one, at its place. What readers look at without a lock is atomic. */
struct item {
	struct media_file *file;   /* owned; NULL: a blob */
	struct object *object;     /* owned; NULL: a file */
	uint64_t first_page;       /* counted from the map's start */
	uint64_t offset;           /* in it, bytes */
	_Atomic uint64_t len_bytes;
	uint64_t reserve_bytes;    /* address space; at least len_bytes */
	quire_fill_fn fill;
	void *fill_arg;            /* borrowed: until the map is destroyed */
	_Atomic bool failed;       /* the medium failed at least once */
	_Atomic uint64_t error;    /* the last: offset of its page, and the errno in the low 12 bits; 0: none */
	_Atomic bool hot;
	_Atomic uint8_t stream;    /* enum quire_stream */
	bool append;
	uint8_t unit;              /* enum unit_size */
	bool advice_pinning;       /* some thread is at it; under map->lock */
	uint64_t advice_pinned_bytes; /* what advice keeps pinned, from the start; under map->lock */
};

struct warm;

struct quire_map {
	struct quire_cache *cache; /* borrowed: a cache can't be closed while it has maps */
	enum quire_fault fault;
	struct range *range;       /* owned; NULL for KERNEL, and for a map of no pages */
	struct gate gate;          /* wants under way are inside; KERNEL only, else the range's */
	char *base;                /* of the range, or, for KERNEL, owned */
	uint64_t n_pages;
	uint64_t charged_bytes;    /* of the budget, for this struct and its items */
	struct item *items;        /* owned, sorted by first_page */
	size_t n_items;
	bool moves;                /* some item has pages of 2 MiB */
	pthread_mutex_t lock;      /* extend, advise */
	struct warm *warm;         /* owned; NULL without a warm_path */
	struct loop_task idle;     /* of destroy */
	struct quire_op *destroy_op;
	uint64_t destroy_page;     /* how far destroy has come */
};

static inline uint64_t map_pages(const struct quire_map *m, uint64_t bytes)
{
	return (bytes >> m->cache->page_shift) + ((bytes & (cache_page_bytes(m->cache) - 1)) != 0);
}

/* The item that a page of the map belongs to, by its place; NULL for a map without items. */
struct item *map_item_at(const struct quire_map *m, uint64_t page);

extern const struct range_ops map_range_ops;

/* items.c: opens, checks and places all items; on error none stays open. */
int map_items_open(struct quire_map *m, const struct quire_item *items, size_t n,
                   struct quire_error *err);
void map_items_close(struct quire_map *m);

/* 0, or -EFAULT if one of the ranges is not inside the map. */
int map_check_ranges(const struct quire_map *m, const struct iovec *ranges, unsigned n);

/* ---- kernel_map.c: the same calls where the kernel maps ---- */
int kernel_map_create(struct quire_map *m, const struct quire_item *items, struct quire_error *err);
void kernel_map_stream(struct quire_map *m, const struct item *it, enum quire_stream mode);
void kernel_map_destroy(struct quire_map *m);
int kernel_map_want(struct quire_map *m, const struct iovec *ranges, unsigned n, struct quire_op *op);
uint64_t kernel_map_resident(const struct quire_map *m, const void *addr, size_t len_bytes); /* pages */
int kernel_map_purge(struct quire_map *m, const void *addr, size_t len_bytes);

#endif
