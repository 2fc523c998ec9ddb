/* idmap.c - see idmap.h: chains, twice as many when they get long, if there is memory for it. */
#include "idmap.h"

#include <errno.h>
#include <stdlib.h>

static struct idmap_node **bucket(const struct idmap *map, uint64_t id)
{
	uint64_t h = id * 0x9e3779b97f4a7c15u;

	return &map->buckets[(h >> 20) & (map->n_buckets - 1)];
}

void idmap_fini(struct idmap *map)
{
	free(map->buckets);
	*map = (struct idmap){0};
}

static void grow(struct idmap *map)
{
	struct idmap old = *map;
	size_t n_buckets = old.n_buckets == 0 ? 64 : old.n_buckets * 2;
	struct idmap_node **buckets = calloc(n_buckets, sizeof(*buckets));

	if (buckets == NULL)
		return;
	map->buckets = buckets;
	map->n_buckets = n_buckets;
	for (size_t i = 0; i < old.n_buckets; i++) {
		struct idmap_node *next;
		for (struct idmap_node *node = old.buckets[i]; node != NULL; node = next) {
			struct idmap_node **place = bucket(map, node->id);
			next = node->next;
			node->next = *place;
			*place = node;
		}
	}
	free(old.buckets);
}

int idmap_add(struct idmap *map, struct idmap_node *node, uint64_t id)
{
	if (map->n >= map->n_buckets)
		grow(map);
	if (map->n_buckets == 0)
		return -ENOMEM;
	struct idmap_node **place = bucket(map, id);
	node->id = id;
	node->next = *place;
	*place = node;
	map->n++;
	return 0;
}

struct idmap_node *idmap_find(const struct idmap *map, uint64_t id)
{
	if (map->n == 0)
		return NULL;
	struct idmap_node *node = *bucket(map, id);
	while (node != NULL && node->id != id)
		node = node->next;
	return node;
}

void idmap_remove(struct idmap *map, struct idmap_node *node)
{
	struct idmap_node **place = bucket(map, node->id);

	while (*place != node)
		place = &(*place)->next;
	*place = node->next;
	map->n--;
}

static struct idmap_node *first_from(const struct idmap *map, size_t i)
{
	for (; i < map->n_buckets; i++)
		if (map->buckets[i] != NULL)
			return map->buckets[i];
	return NULL;
}

struct idmap_node *idmap_any(const struct idmap *map)
{
	return first_from(map, 0);
}

struct idmap_node *idmap_after(const struct idmap *map, const struct idmap_node *at)
{
	if (at->next != NULL)
		return at->next;
	return first_from(map, (size_t)(bucket(map, at->id) - map->buckets) + 1);
}
