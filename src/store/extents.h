/* extents.h - an ordered list of extents: where an object's units are. */
#ifndef STORE_EXTENTS_H
#define STORE_EXTENTS_H

#include "format.h"

#include <stdbool.h>

struct extent {
	uint64_t start;   /* unit of the class */
	uint64_t n_units;
	uint64_t logical; /* unit of the object: the sum of those before */
};

struct extent_list {
	struct extent *extents; /* owned */
	unsigned n, capacity;
	uint64_t n_units;
};

void extents_fini(struct extent_list *list); /* and empties it */

/* Behind the last; grows that, if it ends where this one starts. -ENOSPC beyond FORMAT_MAX_EXTENTS, -ENOMEM. */
int extents_add(struct extent_list *list, uint64_t start, uint64_t n_units);

/* The one that holds a unit; it must be there. */
const struct extent *extents_find(const struct extent *extents, unsigned n, uint64_t logical);

/* Takes the last one off, or as much of it as is beyond n_units: what was taken is in ret. False: nothing is
 * beyond. */
bool extents_trim(struct extent_list *list, uint64_t n_units, struct extent *ret);

#endif
