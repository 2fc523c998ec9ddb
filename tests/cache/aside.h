/* aside.h - a small cache with room for copies of pages that leave (cache/probation.h), and a file of few pages to be found there. */
#ifndef TESTS_CACHE_ASIDE_H
#define TESTS_CACHE_ASIDE_H

#include "../../src/cache/probation.h"
#include "../../src/map/map_internal.h"
#include "../support/maps.h"

#define BUDGET (16 * MIB)
#define BIG (3 * BUDGET)
#define FEW 16 /* pages of the file that is looked at */
#define SEED 7

extern struct quire_map *big; /* whose pages push out the others' */
extern uint64_t big_at;

/* A raw load, after which everything is counted: the loading thread may be woken a moment before that. */
void load(const struct quire_map *m, const char *p);
void load_and_compare(const struct quire_map *m, const char *p, uint64_t offset, uint64_t len);

/* Maps of one item, nothing of which comes unasked. */
struct quire_map *map_random(struct quire_item item);
struct quire_map *map_sparse(const char *name, uint64_t len_bytes);
struct quire_map *map_few(struct quire_item item);

/* A cache that is full of another map's pages, some of which raw loads have asked for, so that there is room for copies. */
void begin_with(struct quire_cache_options opts);
void begin(void);
void end(struct quire_map *m);

/* Pages of the other map come until this one has left. */
void push_out(struct quire_map *m, const char *p);
/* Reads the item's pages by raw loads, and has them leave. */
void read_and_push_out(struct quire_map *m);

uint64_t page_of(const struct quire_map *m, const char *p);
uint64_t offset_of(struct quire_map *m, const char *p);
bool is_aside(const struct quire_map *m, const char *p);
const char *find_aside(struct quire_map *m); /* one that is, now */

#endif
