/* space.h - first-fit allocation of address space, in units; freed neighbours merge.
 * Not thread-safe: the arena locks. Memory: 16 bytes a free extent. */
#ifndef CACHE_SPACE_H
#define CACHE_SPACE_H

#include <stddef.h>
#include <stdint.h>

struct space_extent {
	uint64_t first, n;
};
struct space {
	struct space_extent *free; /* owned; sorted, never adjacent */
	size_t n_free, n_taken, capacity; /* capacity > n_taken + 1: put never grows */
};

int space_init(struct space *s, uint64_t n_units); /* -ENOMEM */
void space_fini(struct space *s);

/* n > 0 units; -ENOMEM if no extent is long enough. */
int space_get(struct space *s, uint64_t n, uint64_t *ret_first);

/* Gives back exactly what space_get gave. Never fails: the room for the extent was kept. */
void space_put(struct space *s, uint64_t first, uint64_t n);

#endif
