/* copies.h - files that get smaller when compressed, and pages of them that leave and stay as copies (cache/chance.h). */
#ifndef TESTS_CACHE_COPIES_H
#define TESTS_CACHE_COPIES_H

#include "../../src/cache/chance.h"
#include "../../src/map/map_internal.h"
#include "../support/maps.h"

/* Every byte is a function of seed and offset, as those of files.h; equal for some hundred bytes, so it takes a tenth. */
void soft_write(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes);
bool soft_is(const void *p, unsigned seed, uint64_t offset, uint64_t len_bytes);

struct quire_map *map_soft(const char *name, unsigned seed, uint64_t n_pages);

uint64_t page_no(const struct quire_map *m, const void *p);
bool has_copy(const struct quire_map *m, const void *p);

/* The page leaves as if it had been chosen, of a range that earns copies; it is tried once. False: it is not there, or in use. */
bool leave_if_there(struct quire_map *m, const void *p);
void leave(struct quire_map *m, const void *p);
/* The same, again and again until there is a copy. */
void leave_copy(struct quire_map *m, const void *p);

/* A raw load where the kind of map allows it, else pinned; compared. */
void soft_read(struct quire_map *m, const char *p, unsigned seed, uint64_t offset, uint64_t len_bytes);

#endif
