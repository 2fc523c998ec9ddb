/* writes_order.c - see writes_order.h.
 *
 * A write of the kernel's is the first of QEMU's in the same place, with the same bytes, that is not taken. (Whole, not sector by sector: a durable write often has zeros
 * in it where zeros were written ahead, and must not be taken for these.) Of two that are the same altogether the kernel has the first one first: both were
 * flushed, or both durable by themselves.
 */
#include "writes_order.h"

#include <stdio.h>
#include <stdlib.h>

#define SECTOR 512u
#define NONE UINT32_MAX

struct done {
	uint64_t len_bytes, hash;
	uint32_t next; /* that begins in the same sector */
	bool taken;
};

struct sector {
	uint32_t first, last; /* of those that begin here */
	uint32_t newest;      /* of those that the image has: its place, counted from 1; 0: none */
};

struct writes_order {
	struct sector *sectors; /* owned */
	struct done *done;      /* owned; by place in QEMU's log */
};

static void die(const char *what)
{
	fprintf(stderr, "the order of writes: %s\n", what);
	exit(1);
}

static uint64_t hash_of(const unsigned char *bytes, uint64_t n)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (uint64_t i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

static bool writes(const struct writes_entry *e)
{
	return e->len_bytes > 0 && (e->flags & (WRITES_MARK | WRITES_DISCARD)) == 0;
}

static void add(struct writes_order *o, uint32_t place, const struct writes_log *log, const struct writes_entry *e)
{
	struct sector *s = &o->sectors[e->offset / SECTOR];
	unsigned char *bytes = writes_log_bytes(log, e);

	o->done[place] = (struct done){e->len_bytes, hash_of(bytes, e->len_bytes), NONE, false};
	free(bytes);
	if (s->first == NONE)
		s->first = place;
	else
		o->done[s->last].next = place;
	s->last = place;
}

struct writes_order *writes_order_create(const struct writes_log *in_order, uint64_t device_bytes)
{
	struct writes_order *o = calloc(1, sizeof(*o));
	uint64_t n_sectors = device_bytes / SECTOR;

	if (o == NULL || (o->sectors = calloc(n_sectors, sizeof(o->sectors[0]))) == NULL ||
	    (o->done = calloc(in_order->n + 1, sizeof(o->done[0]))) == NULL)
		die("no memory");
	for (uint64_t i = 0; i < n_sectors; i++)
		o->sectors[i].first = NONE;
	for (uint32_t i = 0; i < in_order->n; i++)
		if (writes(&in_order->entries[i]))
			add(o, i, in_order, &in_order->entries[i]);
	return o;
}

void writes_order_destroy(struct writes_order *o)
{
	free(o->sectors);
	free(o->done);
	free(o);
}

/* Its place in QEMU's log. */
static uint32_t take(struct writes_order *o, const struct writes_entry *e, const unsigned char *bytes)
{
	uint64_t hash = hash_of(bytes, e->len_bytes);
	uint32_t i = o->sectors[e->offset / SECTOR].first;

	while (i != NONE && (o->done[i].taken || o->done[i].len_bytes != e->len_bytes || o->done[i].hash != hash))
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
	uint32_t place = take(o, e, bytes) + 1;
	for (uint64_t at = 0; at < e->len_bytes; at += SECTOR) {
		struct sector *s = &o->sectors[(e->offset + at) / SECTOR];
		if (place < s->newest)
			continue;
		s->newest = place;
		writes_log_put(image, bytes + at, SECTOR, e->offset + at);
	}
	free(bytes);
}
