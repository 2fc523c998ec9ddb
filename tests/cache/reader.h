/* reader.h - readers of maps, and what was read ahead of them. */
#ifndef TESTS_CACHE_READER_H
#define TESTS_CACHE_READER_H

#include "../support/maps.h"

#define LEN (8 * MIB)
#define WINDOW (CACHE_BUDGET / 64) /* what may be ahead of a reader, of the budget of these tests */

/* Pages may be loaded raw. */
bool loads(void);

/* One byte of each page, by loads or by wants. */
void read_pages(struct quire_map *m, const char *p, uint64_t from, uint64_t to);

/* Until no fill is under way. */
void settle(struct quire_map *m);

/* So much was read ahead. Who reads what he misses by himself can be faster than the thread that reads ahead:
 * then it is some. */
void assert_ahead(struct quire_map *m, uint64_t n_pages);

#endif
