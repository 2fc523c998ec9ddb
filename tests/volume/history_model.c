/* history_model.c - what volumes should hold. */
#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void volume_history_fail(const struct history *h, const char *file, int line, const char *what)
{
	(void)fprintf(stderr, "%s:%d: seed %llu, life %llu, step %llu: %s\n", file, line, (unsigned long long)h->seed,
	              (unsigned long long)h->n_lives, (unsigned long long)h->n_steps, what);
	abort();
}

void sector_fill(uint32_t tag, uint8_t *to)
{
	uint64_t state = tag;

	for (unsigned i = 0; i < SECTOR; i += 8) {
		uint64_t word = tag == 0 ? 0 : i == 0 ? tag : random_next(&state);
		memcpy(to + i, &word, 8);
	}
}

/* What a sector holds: UINT32_MAX: nothing that was ever written as a whole. */
static uint32_t sector_tag(const uint8_t *from)
{
	uint8_t whole[SECTOR];
	uint64_t tag;

	memcpy(&tag, from, 8);
	if (tag >= UINT32_MAX)
		return UINT32_MAX;
	sector_fill((uint32_t)tag, whole);
	return memcmp(whole, from, SECTOR) == 0 ? (uint32_t)tag : UINT32_MAX;
}

void object_name(const struct family *f, const struct state *s, unsigned object, char ret[160])
{
	const struct object *o = &s->objects[object];

	if (o->snapshot)
		(void)snprintf(ret, 160, "f%u-%u@%u", f->no, o->origin, object);
	else
		(void)snprintf(ret, 160, "f%u-%u", f->no, object);
}

/* ---- states ---- */

void family_init(struct family *f, struct history *h, unsigned no)
{
	*f = (struct family){.h = h, .no = no, .states = calloc(MAX_STATES, sizeof(struct state)), .n = 1};
}

struct state *family_now(struct family *f)
{
	return &f->states[f->n - 1];
}

static void forget(struct family *f, unsigned n)
{
	memmove(f->states, f->states + n, (f->n - n) * sizeof(f->states[0]));
	f->n -= n;
	f->n_durable -= n;
	f->n_done -= n;
	f->n_forgotten += n;
}

struct state *family_next(struct family *f)
{
	want(f->h, f->n < MAX_STATES);
	f->states[f->n] = f->states[f->n - 1];
	return &f->states[f->n++];
}

void family_promise(struct family *f, unsigned n)
{
	if (n > f->n_durable)
		f->n_durable = n;
}

/* ---- what there is ---- */

/* A volume is reserved, and comes from what it should. */
static bool is_like(struct family *f, const struct state *s, const struct object *o, const struct quire_volume_info *info)
{
	struct quire_volumes *volumes = f->h->volumes;
	struct quire_volume_info from = {.id = 0};
	char name[160];

	if (info->reserve != o->reserved)
		return false;
	if (o->from == N_OBJECTS)
		return info->origin == 0 || quire_volume_ls(volumes, info->origin - 1, &from) == 0 || from.id != info->origin;
	object_name(f, s, o->from, name);
	return quire_volume_find(volumes, name, &from) == 0 && from.id == info->origin;
}

/* An object of a state is there, and holds that. -EIO and the like: it can't be read. 1: so it is; 0: not. */
static int object_is(struct family *f, const struct state *s, unsigned i)
{
	struct quire_volumes *volumes = f->h->volumes;
	const struct object *o = &s->objects[i];
	struct quire_volume *v;
	char name[160];

	object_name(f, s, i, name);
	if (!o->there)
		return 1;
	struct quire_volume_info info;
	if (quire_volume_find(volumes, name, &info) < 0 || (!o->snapshot && !is_like(f, s, o, &info)) ||
	    quire_volume_open(volumes, name, &v) < 0)
		return 0;
	uint64_t bytes = quire_volume_bytes(v);
	int rc = bytes == (uint64_t)o->n_blocks * BLOCK;
	uint8_t *buf = malloc(bytes + 1);
	struct iovec iov = {buf, bytes};
	if (rc == 1 && bytes > 0) {
		rc = quire_volume_read(v, 0, &iov, 1, NULL);
		rc = rc == 0 ? 1 : rc;
	}
	for (uint64_t k = 0; rc == 1 && k < bytes / SECTOR; k++)
		rc = sector_tag(buf + k * SECTOR) == o->sectors[k];
	free(buf);
	quire_volume_close(v);
	return rc;
}

static unsigned count_there(struct family *f)
{
	struct quire_volume_info info = {0};
	char prefix[16];
	unsigned n = 0;

	(void)snprintf(prefix, sizeof(prefix), "f%u-", f->no);
	while (quire_volume_ls(f->h->volumes, info.id, &info) == 1)
		n += strncmp(info.name, prefix, strlen(prefix)) == 0;
	return n;
}

static int state_is(struct family *f, const struct state *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < N_OBJECTS; i++)
		n += s->objects[i].there;
	if (n != count_there(f))
		return 0;
	for (unsigned i = 0; i < N_OBJECTS; i++) {
		int rc = object_is(f, s, i);
		if (rc != 1)
			return rc;
	}
	return 1;
}

void family_settle(struct family *f)
{
	unsigned i = f->n;
	int rc = 0;

	while (i > f->n_durable && rc == 0)
		rc = state_is(f, &f->states[--i]);
	if (rc < 0 && (power_is_gone(f->h) || f->h->faulty)) {
		f->h->dead = true;
		return;
	}
	want(f->h, rc == 1);
	f->n = i + 1;
	f->n_durable = f->n_done = i;
	forget(f, i);
}

/* Sectors of one that were written there once, or never; a block that can't be read is an error. */
static unsigned look_at(struct history *h, const char *name)
{
	uint8_t buf[BLOCK];
	struct iovec iov = {buf, BLOCK};
	struct quire_volume *v;
	unsigned n_errors = 0;

	if (quire_volume_open(h->volumes, name, &v) < 0)
		return 1;
	for (uint64_t k = 0; k < quire_volume_bytes(v) / SECTOR; k++) {
		if (k % BLOCK_SECTORS == 0 && quire_volume_read(v, k * SECTOR, &iov, 1, NULL) < 0) {
			n_errors++;
			k += BLOCK_SECTORS - 1;
			continue;
		}
		uint32_t tag = sector_tag(buf + k % BLOCK_SECTORS * SECTOR);
		want(h, tag == 0 || (tag != UINT32_MAX && tag < h->next_tag && (tag - 1) % N_SECTORS == k));
	}
	struct quire_volume_scrub scrub = {.size = sizeof(scrub)};
	want(h, n_errors == 0 || quire_volume_scrub(v, &scrub) != 0);
	quire_volume_close(v);
	return n_errors;
}

unsigned volume_history_look(struct history *h)
{
	struct quire_volume_info info = {0};
	unsigned n_errors = 0;

	while (quire_volume_ls(h->volumes, info.id, &info) == 1)
		n_errors += info.name[0] == 'f' ? look_at(h, info.name) : 0; /* a family's */
	return n_errors;
}

static uint64_t count_data(struct history *h, const char *name)
{
	struct quire_volume_extent extents[MAX_BLOCKS];
	struct quire_volume *v;
	uint64_t bytes = 0;

	want_done(h, quire_volume_open(h->volumes, name, &v));
	int64_t n = quire_volume_status(v, 0, quire_volume_bytes(v), 0, extents, MAX_BLOCKS, NULL);
	want_done(h, n);
	for (int64_t i = 0; i < n; i++)
		bytes += extents[i].kind == QUIRE_VOLUME_DATA ? extents[i].len_bytes : 0;
	quire_volume_close(v);
	return bytes;
}

void family_count(struct family *f)
{
	struct history *h = f->h;
	const struct state *s = family_now(f);
	struct quire_volume_stat stat;
	char name[160];

	for (unsigned i = 0; i < N_OBJECTS; i++) {
		if (!s->objects[i].there)
			continue;
		object_name(f, s, i, name);
		want_done(h, quire_volume_stat(h->volumes, name, &stat));
		want(h, stat.unique_bytes + stat.shared_bytes == count_data(h, name));
		want(h, !s->objects[i].reserved || stat.reserved_bytes + stat.unique_bytes == stat.size_bytes);
	}
}

void family_verify(struct family *f, unsigned object)
{
	int rc = object_is(f, family_now(f), object);

	if (rc < 0 && power_is_gone(f->h))
		f->h->dead = true;
	else
		want(f->h, rc == 1 || (rc < 0 && f->h->faulty));
}

bool family_returned(struct family *f, unsigned n_before, int rc)
{
	struct history *h = f->h;

	if (rc < 0 && (power_is_gone(h) || h->dead || (h->faulty && rc != -ENOSPC))) {
		h->dead = true;
		return false;
	}
	want(h, rc == 0 || rc == -ENOSPC);
	if (rc == 0) {
		f->n_done = f->n - 1;
		if (f->n_durable > MAX_STATES / 2)
			forget(f, f->n_durable);
		return true;
	}
	/* It is done in part, or not at all. */
	h->n_full++;
	unsigned i = f->n;
	int is = 0;

	while (i >= n_before && is == 0)
		is = state_is(f, &f->states[--i]);
	want(h, is == 1 || power_is_gone(h) || h->faulty);
	h->dead |= is < 0;
	if (is == 1) { /* else any of them, as far as is known */
		f->n = i + 1;
		f->n_done = i;
	}
	return false;
}
