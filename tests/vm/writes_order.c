/* writes_order.c - see writes_order.h.
 *
 * Each sector has a chain of its writes, in order, by hashes of their bytes. A write of the kernel's is the first of these with the same bytes that is not taken; of two with
 * the same bytes it does not matter which is which.
 */
#include "writes_order.h"

#include <stdio.h>
#include <stdlib.h>

#define SECTOR 512u
#define NONE UINT32_MAX

struct done {
	uint64_t hash;
	uint32_t next; /* of that sector */
	bool taken;
};

struct sector {
	uint32_t first, last; /* of `done` */
	uint32_t newest;      /* place in `done`, counted from 1, of what the image has; 0: nothing */
};

struct writes_order {
	struct sector *sectors; /* owned */
	struct done *done;      /* owned */
	uint32_t n_done;
};

static void die(const char *what)
{
	fprintf(stderr, "the order of writes: %s\n", what);
	exit(1);
}

static uint64_t hash_of(const unsigned char *sector)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (unsigned i = 0; i < SECTOR; i++)
		hash = (hash ^ sector[i]) * 0x100000001b3ull;
	return hash;
}

static bool writes(const struct writes_entry *e)
{
	return e->len_bytes > 0 && (e->flags & (WRITES_MARK | WRITES_DISCARD)) == 0;
}

static void add(struct writes_order *o, uint64_t at, const unsigned char *bytes)
{
	struct sector *s = &o->sectors[at];
	uint32_t i = o->n_done++;

	o->done[i] = (struct done){.hash = hash_of(bytes), .next = NONE};
	if (s->first == NONE)
		s->first = i;
	else
		o->done[s->last].next = i;
	s->last = i;
}

struct writes_order *writes_order_create(const struct writes_log *in_order, uint64_t device_bytes)
{
	struct writes_order *o = calloc(1, sizeof(*o));
	uint64_t n_done = 0, n_sectors = device_bytes / SECTOR;

	for (size_t i = 0; i < in_order->n; i++)
		n_done += in_order->entries[i].len_bytes / SECTOR;
	if (o == NULL || (o->sectors = calloc(n_sectors, sizeof(o->sectors[0]))) == NULL || (o->done = calloc(n_done + 1, sizeof(o->done[0]))) == NULL)
		die("no memory");
	for (uint64_t i = 0; i < n_sectors; i++)
		o->sectors[i].first = NONE;
	for (size_t i = 0; i < in_order->n; i++) {
		const struct writes_entry *e = &in_order->entries[i];
		if (!writes(e))
			continue;
		unsigned char *bytes = writes_log_bytes(in_order, e);
		for (uint64_t at = 0; at < e->len_bytes; at += SECTOR)
			add(o, (e->offset + at) / SECTOR, bytes + at);
		free(bytes);
	}
	return o;
}

void writes_order_destroy(struct writes_order *o)
{
	free(o->sectors);
	free(o->done);
	free(o);
}

/* Its place in `done`. */
static uint32_t take(struct writes_order *o, uint64_t at, const unsigned char *bytes)
{
	uint64_t hash = hash_of(bytes);
	uint32_t i = o->sectors[at].first;

	while (i != NONE && (o->done[i].taken || o->done[i].hash != hash))
		i = o->done[i].next;
	if (i == NONE)
		die("the kernel has a write that QEMU has not");
	o->done[i].taken = true;
	return i;
}

void writes_order_apply(struct writes_order *o, const struct writes_log *log, const struct writes_entry *e, int image)
{
	if (!writes(e))
		return;
	unsigned char *bytes = writes_log_bytes(log, e);
	for (uint64_t at = 0; at < e->len_bytes; at += SECTOR) {
		uint64_t sector = (e->offset + at) / SECTOR;
		uint32_t place = take(o, sector, bytes + at) + 1;
		if (place < o->sectors[sector].newest)
			continue;
		o->sectors[sector].newest = place;
		writes_log_put(image, bytes + at, SECTOR, e->offset + at);
	}
	free(bytes);
}
