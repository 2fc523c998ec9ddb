/* ghost.c - fingerprints of pages that left. */
#include "ghost.h"

#include <string.h>
#include <sys/mman.h>

#define BUCKET_SLOTS 16u

/* splitmix64's finaliser: page numbers are anything but random. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* 0 means: an empty slot. */
static uint32_t fingerprint_of(uint64_t hash)
{
	uint32_t low = (uint32_t)hash;
	return low == 0 ? 1 : low;
}

static uint32_t *bucket_of(const struct ghost *ghost, uint64_t hash)
{
	size_t index = (size_t)((hash >> 32) * (uint64_t)ghost->n_buckets >> 32);
	return ghost->fingerprints + index * BUCKET_SLOTS;
}

static unsigned find(const uint32_t *bucket, uint32_t fingerprint)
{
	unsigned slot = 0;
	while (slot < BUCKET_SLOTS && bucket[slot] != fingerprint)
		slot++;
	return slot;
}

size_t ghost_bytes(const struct ghost *ghost)
{
	return ghost->n_buckets * BUCKET_SLOTS * sizeof(uint32_t);
}

void ghost_fini(struct ghost *ghost)
{
	if (ghost->fingerprints != NULL)
		munmap(ghost->fingerprints, ghost_bytes(ghost));
	ghost->fingerprints = NULL;
	ghost->n_buckets = 0;
}

void ghost_resize(struct ghost *ghost, size_t n_pages)
{
	size_t n = (n_pages + BUCKET_SLOTS - 1) / BUCKET_SLOTS;
	if (n > UINT32_MAX)
		n = UINT32_MAX;
	if (n <= ghost->n_buckets + ghost->n_buckets / 4 && n >= ghost->n_buckets / 2)
		return;

	ghost_fini(ghost);
	if (n == 0)
		return;
	void *map = mmap(NULL, n * BUCKET_SLOTS * sizeof(uint32_t), PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return;
	ghost->fingerprints = map;
	ghost->n_buckets = n;
}

/* Slot 0 is the newest; what stands at `slot` falls out. */
static void push_front(uint32_t *bucket, unsigned slot, uint32_t fingerprint)
{
	memmove(bucket + 1, bucket, slot * sizeof(*bucket));
	bucket[0] = fingerprint;
}

void ghost_add(struct ghost *ghost, uint64_t page)
{
	if (ghost->n_buckets == 0)
		return;
	uint64_t hash = mix(page);
	uint32_t *bucket = bucket_of(ghost, hash);
	unsigned slot = find(bucket, fingerprint_of(hash));
	push_front(bucket, slot < BUCKET_SLOTS ? slot : BUCKET_SLOTS - 1, fingerprint_of(hash));
}

bool ghost_take(struct ghost *ghost, uint64_t page)
{
	if (ghost->n_buckets == 0)
		return false;
	uint64_t hash = mix(page);
	uint32_t *bucket = bucket_of(ghost, hash);
	unsigned slot = find(bucket, fingerprint_of(hash));
	if (slot == BUCKET_SLOTS)
		return false;
	memmove(bucket + slot, bucket + slot + 1, (BUCKET_SLOTS - 1 - slot) * sizeof(*bucket));
	bucket[BUCKET_SLOTS - 1] = 0;
	return true;
}
