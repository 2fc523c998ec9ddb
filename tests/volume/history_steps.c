/* history_steps.c - what may happen to a family of volumes. */
#include "history.h"
#include "../../src/loop/op.h"
#include "../../src/volume/volume_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- who ---- */

/* One that fits; N_OBJECTS: none does. */
static unsigned pick(struct family *f, bool there, int snapshot)
{
	const struct state *s = family_now(f);
	unsigned i = (unsigned)rnd(f->h, N_OBJECTS);

	for (unsigned k = 0; k < N_OBJECTS; k++, i = (i + 1) % N_OBJECTS)
		if (s->objects[i].there == there && (!there || snapshot < 0 || s->objects[i].snapshot == (snapshot != 0)))
			return i;
	return N_OBJECTS;
}

static struct quire_volume *open_object(struct family *f, unsigned i)
{
	struct quire_volume *v = NULL;
	char name[160];

	object_name(f, family_now(f), i, name);
	want(f->h, quire_volume_open(f->h->volumes, name, &v) == 0);
	return v;
}

/* ---- data ---- */

/* States of sectors [from, end) in steps as the library makes them: a part of a block, whole blocks, a part. */
static void set_sectors(struct family *f, unsigned i, unsigned from, unsigned end, uint32_t tag, unsigned most_blocks)
{
	while (from < end) {
		struct object *o = &family_next(f)->objects[i];
		unsigned stop, to_block = BLOCK_SECTORS - from % BLOCK_SECTORS;
		if (to_block != BLOCK_SECTORS || end - from < BLOCK_SECTORS)
			stop = end - from < to_block ? end : from + to_block;
		else
			stop = from + (end - from) / BLOCK_SECTORS * BLOCK_SECTORS;
		if (stop - from > most_blocks * BLOCK_SECTORS)
			stop = from + most_blocks * BLOCK_SECTORS;
		for (; from < stop; from++)
			o->sectors[from] = tag == 0 ? 0 : tag + from;
	}
}

static void choose_range(struct family *f, unsigned n_sectors, unsigned *ret_from, unsigned *ret_end)
{
	struct history *h = f->h;
	unsigned most = rnd(h, 6) == 0 ? n_sectors : rnd(h, 2) == 0 ? 4 * BLOCK_SECTORS : BLOCK_SECTORS;
	unsigned from = (unsigned)rnd(h, n_sectors), end = from + 1 + (unsigned)rnd(h, most);

	if (rnd(h, 3) != 0) { /* whole blocks */
		from -= from % BLOCK_SECTORS;
		end += -end % BLOCK_SECTORS;
	}
	*ret_from = from;
	*ret_end = end < n_sectors ? end : n_sectors;
}

static void write_some(struct family *f)
{
	struct history *h = f->h;
	unsigned i = pick(f, true, 0), from, end, n_before = f->n;
	unsigned flags = rnd(h, 4) == 0 ? QUIRE_VOLUME_FUA : 0;

	if (i == N_OBJECTS || family_now(f)->objects[i].n_blocks == 0)
		return;
	choose_range(f, family_now(f)->objects[i].n_blocks * BLOCK_SECTORS, &from, &end);
	struct quire_volume *v = open_object(f, i);
	uint32_t tag = h->next_tag;
	h->next_tag += N_SECTORS;
	uint8_t *buf = aligned_alloc(BLOCK, (size_t)N_SECTORS * SECTOR);
	for (unsigned k = from; k < end; k++)
		sector_fill(tag + k, buf + (k - from) * SECTOR);
	set_sectors(f, i, from, end, tag, WRITE_BLOCKS);
	size_t len = (size_t)(end - from) * SECTOR, cut = rnd(h, 2) == 0 ? 0 : rnd(h, len);
	struct iovec iov[2] = {{buf, cut}, {buf + cut, len - cut}};
	int rc = quire_volume_write(v, (uint64_t)from * SECTOR, iov, 2, flags, NULL);
	quire_volume_close(v);
	free(buf);
	want(h, rc != -ENOSPC || h->faulty || h->unkept || !family_now(f)->objects[i].reserved);
	if (family_returned(f, n_before, rc) && flags != 0)
		family_promise(f, f->n_done);
}

/* A state more, as the one before it but for sectors of one object, which are as `from` says. */
static void set_part(struct family *f, unsigned i, unsigned first, unsigned n, const uint32_t *from)
{
	memcpy(family_next(f)->objects[i].sectors + first, from + first, n * sizeof(from[0]));
}

/* Two parts of one block at once: neither may undo the other, whichever comes first. */
static void write_both_parts(struct family *f)
{
	struct history *h = f->h;
	unsigned i = pick(f, true, 0), n_before = f->n;
	uint32_t old[N_SECTORS], new[N_SECTORS];
	uint8_t buf[BLOCK];

	if (i == N_OBJECTS || family_now(f)->objects[i].n_blocks == 0)
		return;
	unsigned first = (unsigned)rnd(h, family_now(f)->objects[i].n_blocks) * BLOCK_SECTORS, n = 1 + (unsigned)rnd(h, BLOCK_SECTORS - 1);
	memcpy(old, family_now(f)->objects[i].sectors, sizeof(old));
	for (unsigned k = 0; k < BLOCK_SECTORS; k++) {
		new[first + k] = h->next_tag + first + k;
		sector_fill(new[first + k], buf + k * SECTOR);
	}
	h->next_tag += N_SECTORS;
	struct quire_volume *v = open_object(f, i);
	set_part(f, i, first, n, new);
	set_part(f, i, first, n, old);
	set_part(f, i, first + n, BLOCK_SECTORS - n, new);
	set_part(f, i, first, n, new);
	struct iovec parts[2] = {{buf, n * SECTOR}, {buf + n * SECTOR, (BLOCK_SECTORS - n) * SECTOR}};
	struct quire_op ops[2];
	int64_t rc[2];
	for (unsigned k = 0; k < 2; k++) {
		quire_op_init(&ops[k]);
		rc[k] = quire_volume_write(v, (uint64_t)(first + k * n) * SECTOR, &parts[k], 1, 0, &ops[k]);
	}
	for (unsigned k = 0; k < 2; k++)
		if (rc[k] == 0)
			rc[k] = quire_await(&ops[k]);
	quire_volume_close(v);
	want(h, (rc[0] != -ENOSPC && rc[1] != -ENOSPC) || h->faulty || h->unkept || !family_now(f)->objects[i].reserved);
	if (family_returned(f, n_before, (int)(rc[0] < 0 && rc[0] != -ENOSPC ? rc[0] : rc[1] < 0 ? rc[1] : rc[0])))
		family_verify(f, i);
}

static void zero_some(struct family *f)
{
	struct history *h = f->h;
	unsigned i = pick(f, true, 0), from, end, n_before = f->n, flags = (unsigned)rnd(h, 4);

	if (i == N_OBJECTS || family_now(f)->objects[i].n_blocks == 0)
		return;
	choose_range(f, family_now(f)->objects[i].n_blocks * BLOCK_SECTORS, &from, &end);
	struct quire_volume *v = open_object(f, i);
	uint64_t offset = (uint64_t)from * SECTOR, len = (uint64_t)(end - from) * SECTOR;
	bool discard = rnd(h, 2) == 0;
	if (discard) {
		from += -from % BLOCK_SECTORS;
		end -= end % BLOCK_SECTORS;
	}
	if (from < end)
		set_sectors(f, i, from, end, 0, MAX_BLOCKS);
	int rc = discard ? quire_volume_discard(v, offset, len, flags, NULL) : quire_volume_zero(v, offset, len, flags, NULL);
	quire_volume_close(v);
	if (family_returned(f, n_before, rc) && (flags & QUIRE_VOLUME_FUA) != 0 && from < end)
		family_promise(f, f->n_done);
}

static void flush(struct family *f)
{
	struct history *h = f->h;
	unsigned i = pick(f, true, -1), n_done[MAX_FAMILIES];
	uint64_t lives = h->n_lives;

	if (i == N_OBJECTS)
		return;
	struct quire_volume *v = open_object(f, i);
	/* States are forgotten meanwhile: counted from the newest. */
	for (unsigned k = 0; k < h->n_families; k++)
		n_done[k] = h->families[k].n_done + (unsigned)h->families[k].n_forgotten;
	int rc = quire_volume_flush(v, NULL);
	quire_volume_close(v);
	if (!family_returned(f, f->n, rc) || lives != h->n_lives)
		return;
	for (unsigned k = 0; k < h->n_families; k++) {
		struct family *other = &h->families[k];
		if (n_done[k] > other->n_forgotten)
			family_promise(other, n_done[k] - (unsigned)other->n_forgotten);
	}
}

static void verify(struct family *f)
{
	unsigned i = pick(f, true, -1);

	if (i != N_OBJECTS)
		family_verify(f, i);
}

/* ---- differences ---- */

/* A block of one object, as it is in another. 1: it was written in one of them since they had the same content; 0: it was not; -1: not to be
 * told by what it holds, since zeros may be written over zeros. */
static int block_differs(const uint32_t *was, const uint32_t *is)
{
	bool has_zeros = false;

	for (unsigned k = 0; k < BLOCK_SECTORS; k++) {
		if (was[k] != is[k])
			return 1;
		has_zeros |= is[k] == 0;
	}
	return has_zeros ? -1 : 0;
}

/* Blocks of objects are told, or not, as they differ; what is told as other than data holds zeros. */
static void compare_told(struct family *f, unsigned from, unsigned to, const struct quire_volume_extent *told, unsigned n)
{
	const struct object *was = &family_now(f)->objects[from], *is = &family_now(f)->objects[to];
	unsigned i = 0;

	for (unsigned block = 0; block < is->n_blocks; block++) {
		uint64_t at = (uint64_t)block * BLOCK;
		while (i < n && told[i].offset + told[i].len_bytes <= at)
			i++;
		bool is_told = i < n && told[i].offset <= at;
		const uint32_t *now = is->sectors + (size_t)block * BLOCK_SECTORS;
		int differs = block_differs(was->sectors + (size_t)block * BLOCK_SECTORS, now);
		want(f->h, differs < 0 || is_told == (differs == 1));
		for (unsigned k = 0; k < BLOCK_SECTORS && is_told && told[i].kind != QUIRE_VOLUME_DATA; k++)
			want(f->h, now[k] == 0);
	}
}

/* Of any two. */
static void diff(struct family *f)
{
	unsigned from = pick(f, true, -1), to = pick(f, true, -1), n_told = 0;
	struct quire_volume_extent told[MAX_BLOCKS + 1]; /* of a block each at least */
	struct history *h = f->h;
	struct quire_volume_diff *d;
	int64_t n;

	if (from == N_OBJECTS)
		return;
	struct quire_volume *was = open_object(f, from), *is = open_object(f, to);
	want_done(h, quire_volume_diff_begin(was, is, 0, &d));
	while ((n = quire_volume_diff_next(d, told + n_told, MAX_BLOCKS + 1 - n_told)) > 0) {
		n_told += (unsigned)n;
		want(h, n_told <= MAX_BLOCKS);
	}
	quire_volume_diff_end(d);
	quire_volume_close(was);
	quire_volume_close(is);
	if (n < 0 && power_is_gone(h))
		h->dead = true;
	else if (n < 0)
		want(h, h->faulty);
	else
		compare_told(f, from, to, told, n_told);
}

/* ---- volumes ---- */

/* What these calls do is durable. */
static void changed(struct family *f, unsigned n_before, int rc)
{
	if (family_returned(f, n_before, rc))
		family_promise(f, f->n_done);
}

static void create(struct family *f)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = (1 + rnd(f->h, MAX_BLOCKS)) * BLOCK,
	                                 .reserve = rnd(f->h, 4) == 0};
	unsigned i = pick(f, false, -1), n_before = f->n;
	char name[160];

	if (i == N_OBJECTS)
		return;
	struct state *s = family_next(f);
	s->objects[i] = (struct object){.there = true, .n_blocks = (uint8_t)(o.size_bytes / BLOCK), .reserved = o.reserve,
	                                .from = N_OBJECTS};
	object_name(f, s, i, name);
	changed(f, n_before, quire_volume_create(f->h->volumes, name, &o));
}

static void copy_one(struct family *f, bool snapshot)
{
	unsigned from = pick(f, true, snapshot ? 0 : -1), to = pick(f, false, -1), n_before = f->n;
	char name[160], other[160];

	if (from == N_OBJECTS || to == N_OBJECTS)
		return;
	struct state *s = family_next(f);
	s->objects[to] = s->objects[from];
	s->objects[to].snapshot = snapshot;
	s->objects[to].reserved = false;
	if (snapshot) {
		s->objects[to].origin = (uint8_t)from;
		s->objects[to].past |= (uint8_t)(1u << to);
		s->objects[from].past = s->objects[to].past;
	} else {
		s->objects[to].from = (uint8_t)from;
	}
	object_name(f, s, from, name);
	object_name(f, s, to, other);
	struct quire_volumes *volumes = f->h->volumes;
	changed(f, n_before, snapshot ? quire_volume_snapshot(volumes, name, other) : quire_volume_clone(volumes, name, other));
}

static void snapshot_one(struct family *f)
{
	copy_one(f, true);
}

static void clone_one(struct family *f)
{
	copy_one(f, false);
}

static bool has_snapshots(const struct state *s, unsigned i)
{
	for (unsigned k = 0; k < N_OBJECTS; k++)
		if (s->objects[k].there && s->objects[k].snapshot && s->objects[k].origin == i)
			return true;
	return false;
}

static void remove_one(struct family *f)
{
	unsigned i = pick(f, true, -1), n_before = f->n;
	char name[160];

	if (i == N_OBJECTS || has_snapshots(family_now(f), i))
		return;
	object_name(f, family_now(f), i, name);
	struct state *s = family_next(f);
	s->objects[i] = (struct object){.there = false};
	for (unsigned k = 0; k < N_OBJECTS; k++) {
		s->objects[k].past &= (uint8_t)~(1u << i);
		s->objects[k].from = s->objects[k].from == i ? N_OBJECTS : s->objects[k].from;
	}
	changed(f, n_before, quire_volume_rm(f->h->volumes, name));
}

static void rollback_one(struct family *f)
{
	unsigned i = pick(f, true, 1), n_before = f->n;
	char name[160], other[160];

	if (i == N_OBJECTS)
		return;
	struct state *s = family_next(f);
	unsigned to = s->objects[i].origin;
	object_name(f, s, to, name);
	object_name(f, s, i, other);
	bool reserved = s->objects[to].reserved;
	uint8_t from = s->objects[to].from;
	s->objects[to] = s->objects[i];
	s->objects[to].reserved = reserved;
	s->objects[to].from = from;
	s->objects[to].snapshot = false;
	changed(f, n_before, quire_volume_rollback(f->h->volumes, name, other));
}

static void resize_one(struct family *f)
{
	unsigned i = pick(f, true, 0), n_before = f->n;
	uint8_t n_blocks = (uint8_t)rnd(f->h, MAX_BLOCKS + 1);
	char name[160];

	if (i == N_OBJECTS)
		return;
	object_name(f, family_now(f), i, name);
	for (unsigned step = 0; step < 2; step++) { /* what is cut off is zeros before it is cut off */
		struct object *o = &family_next(f)->objects[i];
		for (unsigned k = n_blocks * BLOCK_SECTORS; k < N_SECTORS; k++)
			o->sectors[k] = 0;
		if (step == 1)
			o->n_blocks = n_blocks;
	}
	changed(f, n_before, quire_volume_resize(f->h->volumes, name, (uint64_t)n_blocks * BLOCK));
}

static void promote_one(struct family *f)
{
	unsigned i = pick(f, true, 0), n_before = f->n;
	const struct state *now = family_now(f);
	unsigned from = i == N_OBJECTS ? N_OBJECTS : now->objects[i].from;
	char name[160];

	if (from != N_OBJECTS && now->objects[from].snapshot)
		from = now->objects[from].origin;
	if (i == N_OBJECTS || from == i)
		return;
	object_name(f, now, i, name);
	if (from == N_OBJECTS) {
		int rc = quire_volume_promote(f->h->volumes, name);
		want(f->h, rc == -EINVAL || f->h->dead);
		return;
	}
	struct state *s = family_next(f);
	for (unsigned k = 0; k < N_OBJECTS; k++)
		if (s->objects[k].there && s->objects[k].snapshot && s->objects[k].origin == from && (s->objects[i].past >> k & 1) != 0)
			s->objects[k].origin = (uint8_t)i;
	s->objects[i].from = s->objects[from].from;
	s->objects[from].from = (uint8_t)i;
	changed(f, n_before, quire_volume_promote(f->h->volumes, name));
}

static void reserve_one(struct family *f)
{
	unsigned i = pick(f, true, 0), n_before = f->n;
	char name[160];

	if (i == N_OBJECTS)
		return;
	struct state *s = family_next(f);
	s->objects[i].reserved = !s->objects[i].reserved;
	object_name(f, s, i, name);
	changed(f, n_before, quire_volume_reserve(f->h->volumes, name, s->objects[i].reserved));
}

static void checkpoint(struct family *f)
{
	int rc = quire_volumes_checkpoint(f->h->volumes);

	if (rc < 0 && (power_is_gone(f->h) || f->h->faulty))
		f->h->dead |= power_is_gone(f->h);
	else
		want(f->h, rc == 0 || rc == -ENOSPC || f->h->dead);
}

/* Any page of the map, and any block that was read, may leave memory at any time. */
static void forget_read(struct family *f)
{
	map_cache_drop(f->h->volumes->cache);
	if (f->h->volumes->data != NULL)
		map_cache_drop(f->h->volumes->data);
}

struct beside {
	struct quire_op op; /* until it is made */
	struct family *f;
};

static void make_checkpoint(void *arg)
{
	struct beside *b = arg;

	forget_read(b->f); /* what it reads then is what writes come between */
	checkpoint(b->f);
	op_complete(&b->op, 0);
}

static void beside_start(struct quire_op *op)
{
	struct beside *b = (struct beside *)((char *)op - offsetof(struct beside, op));

	want(b->f->h, quire_co_spawn(quire_loop_self(), make_checkpoint, b) == 0);
}

/* Two before it begins: while the first goes to the medium, the other's record can still be made longer. Others until behind its end; none from who
 * has seen the log stop. */
static void write_beside_checkpoint(struct family *f)
{
	static const struct op_driver driver = {.start = beside_start};
	struct beside b = {.f = f};

	for (unsigned i = 0; i < 2 && !f->h->dead; i++)
		write_some(f);
	quire_op_init(&b.op);
	want(f->h, op_start(&b.op, &driver, quire_loop_self()) == 0);
	for (uint64_t n = 1 + rnd(f->h, 6); n > 0; n--) {
		(void)quire_co_yield();
		if (!f->h->dead)
			write_some(f);
	}
	(void)quire_await(&b.op);
}

static void pause(struct family *f)
{
	(void)f;
	(void)quire_co_yield();
}

void volume_step(struct family *f)
{
	static const struct {
		unsigned weight;
		void (*step)(struct family *f);
	} kinds[] = {
		{30, write_some}, {4, write_both_parts}, {8, zero_some}, {4, flush},        {8, verify},       {4, diff},       {3, create},     {4, snapshot_one},
		{3, clone_one},   {3, remove_one}, {1, rollback_one}, {2, resize_one}, {2, checkpoint}, {2, pause},
		{1, promote_one}, {1, reserve_one}, {1, forget_read}, {3, write_beside_checkpoint},
	};
	unsigned sum = 0;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		sum += kinds[i].weight;
	unsigned at = (unsigned)rnd(f->h, sum), i = 0;
	while (at >= kinds[i].weight)
		at -= kinds[i++].weight;
	kinds[i].step(f);
	f->h->n_steps++;
}
