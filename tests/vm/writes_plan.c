/* writes_plan.c - see writes_plan.h. */
#include "writes_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SNAPSHOT_STEPS 32u
#define N_SNAPSHOTS_KEPT 3u
#define WRITE_BLOCKS_MOST 5u

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

static uint64_t draw(uint64_t seed, uint64_t what, uint64_t no)
{
	return mix(seed ^ mix(what << 32 ^ mix(no + 1)));
}

enum { OF_STEP = 16, OF_RECORD = 32, OF_BLOB, OF_BYTES };

uint32_t plan_snapshot_step(uint32_t snapshot)
{
	return snapshot * SNAPSHOT_STEPS + SNAPSHOT_STEPS - 1;
}

static bool of_snapshots(unsigned region, uint32_t no, struct plan_step *ret)
{
	uint32_t n = no / SNAPSHOT_STEPS;

	if (region != 0)
		return false;
	if (no == plan_snapshot_step(n))
		*ret = (struct plan_step){.kind = PLAN_SNAPSHOT, .snapshot = n};
	else if (no % SNAPSHOT_STEPS == SNAPSHOT_STEPS / 2 && n >= N_SNAPSHOTS_KEPT)
		*ret = (struct plan_step){.kind = PLAN_REMOVE, .snapshot = n - N_SNAPSHOTS_KEPT};
	else
		return false;
	return true;
}

void plan_snapshots(uint32_t n_steps, uint32_t *ret_first, uint32_t *ret_end)
{
	uint32_t n_turns = (n_steps + SNAPSHOT_STEPS / 2 - 1) / SNAPSHOT_STEPS;

	*ret_end = n_steps / SNAPSHOT_STEPS;
	*ret_first = n_turns > N_SNAPSHOTS_KEPT ? n_turns - N_SNAPSHOTS_KEPT : 0;
}

struct plan_step plan_step(uint64_t seed, unsigned region, uint32_t no)
{
	uint64_t x = draw(seed, OF_STEP + region, no), y = mix(x);
	struct plan_step s = {.fua = x % 4 == 0};

	if (of_snapshots(region, no, &s))
		return s;
	uint32_t n_blocks = 1 + (uint32_t)(y % WRITE_BLOCKS_MOST), at = (uint32_t)((y >> 16) % (REGION_BLOCKS - n_blocks + 1));
	s.sector = at * BLOCK_SECTORS;
	s.n_sectors = n_blocks * BLOCK_SECTORS;
	switch ((x >> 8) % 16) {
	case 0:
		s.kind = PLAN_FLUSH;
		break;
	case 1:
		s.kind = PLAN_ZERO;
		break;
	case 2:
		s.kind = PLAN_DISCARD;
		break;
	case 3: /* parts of blocks */
	case 4:
		s.kind = PLAN_WRITE;
		s.sector += (uint32_t)(y >> 40) % BLOCK_SECTORS;
		s.n_sectors -= BLOCK_SECTORS - 1;
		break;
	default:
		s.kind = PLAN_WRITE;
	}
	return s;
}

void plan_apply(struct plan_region *r, const struct plan_step *step, uint32_t no)
{
	if (step->kind == PLAN_WRITE || step->kind == PLAN_ZERO || step->kind == PLAN_DISCARD)
		for (uint32_t i = 0; i < step->n_sectors; i++)
			r->versions[step->sector + i] = step->kind == PLAN_WRITE ? no + 1 : 0;
}

/* ---- bytes ---- */

struct stamp {
	uint32_t region, sector, version, zero;
};

void plan_fill(uint64_t seed, unsigned region, uint32_t sector, uint32_t version, void *to)
{
	struct stamp stamp = {region, sector, version, 0};

	if (version == 0) {
		memset(to, 0, SECTOR);
		return;
	}
	memcpy(to, &stamp, sizeof(stamp));
	plan_content(draw(seed, OF_BYTES + region, sector), version, (char *)to + sizeof(stamp), SECTOR - sizeof(stamp));
}

uint32_t plan_read(uint64_t seed, unsigned region, uint32_t sector, const void *bytes)
{
	char expected[SECTOR];
	struct stamp stamp;

	memcpy(&stamp, bytes, sizeof(stamp));
	plan_fill(seed, region, sector, stamp.version, expected);
	return memcmp(expected, bytes, SECTOR) == 0 ? stamp.version : UINT32_MAX;
}

size_t plan_record_bytes(uint64_t seed, uint32_t no)
{
	return 1 + draw(seed, OF_RECORD, no) % RECORD_MOST;
}

bool plan_record_durable(uint64_t seed, uint32_t no)
{
	return (draw(seed, OF_RECORD, no) >> 32) % 3 == 0;
}

size_t plan_blob_bytes(uint64_t seed, uint32_t no)
{
	return 1 + draw(seed, OF_BLOB, no) % BLOB_MOST;
}

void plan_content(uint64_t seed, uint32_t no, void *to, size_t len_bytes)
{
	uint64_t x = draw(seed, OF_BYTES, no);

	for (size_t i = 0; i < len_bytes; i += sizeof(x)) {
		x = x * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
		memcpy((char *)to + i, &x, len_bytes - i < sizeof(x) ? len_bytes - i : sizeof(x));
	}
}

/* ---- promises ---- */

/* One word: numbers, each behind a comma. */
void plan_promise_write(const struct plan_promise *p, char to[PLAN_PROMISE_TEXT])
{
	size_t n = (size_t)snprintf(to, PLAN_PROMISE_TEXT, "promise,%x,%x", p->n_records, p->n_blobs);

	for (unsigned i = 0; i < N_REGIONS; i++)
		n += (size_t)snprintf(to + n, PLAN_PROMISE_TEXT - n, ",%x", p->n_steps[i]);
	for (unsigned i = 0; i < N_BLOBS_PROMISED; i++)
		n += (size_t)snprintf(to + n, PLAN_PROMISE_TEXT - n, ",%llx", (unsigned long long)p->blobs[i]);
}

static uint64_t next_number(const char **at, bool *good)
{
	char *end = NULL;
	uint64_t value = 0;

	if (**at == ',')
		value = strtoull(*at + 1, &end, 16);
	*good = *good && end != NULL && end > *at + 1;
	if (*good)
		*at = end;
	return value;
}

bool plan_promise_read(const char *text, struct plan_promise *ret)
{
	static const char head[] = "promise";
	bool good = strncmp(text, head, sizeof(head) - 1) == 0;
	const char *at = text + (good ? sizeof(head) - 1 : 0);
	struct plan_promise p;

	p.n_records = (uint32_t)next_number(&at, &good);
	p.n_blobs = (uint32_t)next_number(&at, &good);
	for (unsigned i = 0; i < N_REGIONS; i++)
		p.n_steps[i] = (uint32_t)next_number(&at, &good);
	for (unsigned i = 0; i < N_BLOBS_PROMISED; i++)
		p.blobs[i] = next_number(&at, &good);
	if (!good || *at != 0)
		return false;
	*ret = p;
	return true;
}
