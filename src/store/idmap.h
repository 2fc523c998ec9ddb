/* idmap.h - things found by their id; the links are in the things. Not thread-safe. */
#ifndef STORE_IDMAP_H
#define STORE_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct idmap_node {
	struct idmap_node *next;
	uint64_t id;
};

struct idmap {
	struct idmap_node **buckets; /* owned */
	size_t n_buckets, n;
};

void idmap_fini(struct idmap *map);
int idmap_add(struct idmap *map, struct idmap_node *node, uint64_t id); /* -ENOMEM, only for the first */
struct idmap_node *idmap_find(const struct idmap *map, uint64_t id);
void idmap_remove(struct idmap *map, struct idmap_node *node);
struct idmap_node *idmap_any(const struct idmap *map);                                /* NULL: empty */
struct idmap_node *idmap_after(const struct idmap *map, const struct idmap_node *at); /* in no order */

#endif
