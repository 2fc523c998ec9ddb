/* read.c - verified reads: the data and the checksums of its pages are read at the same time, on the
 * caller's loop; when both are there each page is held against its sum, and only then done(0) is called.
 *
 * A read touches one or two groups (1 MiB is 256 pages). Its data is read piece by piece, a piece being what is
 * contiguous on the medium: nearly always there is one.
 *
 * A page whose sum is wrong is not read again: what the medium says twice is no truer. The first such page is
 * told; nothing of the buffer may be used then.
 */
#include "store_internal.h"

#include "checksum.h"
#include "../base/assert.h"
#include "../base/canary.h"

#include <errno.h>
#include <string.h>

struct state {
	struct device_io io;
	struct table_wait wait;
	struct object_read *read;
	struct quire_loop *loop;
	struct table *tables[2];  /* held */
	uint64_t group;           /* of tables[0] */
	unsigned n_tables, n_ready;
	uint32_t n_pages, n_done; /* of data */
	bool data_over;
	int data_result, table_result;
	uint64_t bad_page;        /* with table_result */
};
static_assert(sizeof(struct state) <= sizeof(((struct object_read *)0)->driver), "fits");

/* ---- pieces ---- */

/* What is contiguous from a page on: its place, and how many pages, at most n. */
static uint64_t piece(const struct object *o, uint64_t page, uint64_t n, uint64_t *ret_n)
{
	uint64_t unit = object_page_unit(o, page);
	const struct extent *e = extents_find(o->extents, o->n_extents, unit);
	uint64_t in_extent = e->n_units - (unit - e->logical);
	uint64_t in_group = FORMAT_SUMS_PER_PAGE - page % FORMAT_SUMS_PER_PAGE;

	n = n < in_extent ? n : in_extent;
	*ret_n = n < in_group ? n : in_group;
	return (e->start + (unit - e->logical)) * FORMAT_UNIT_BYTES;
}

/* True if the object has all of it. */
static bool range_fits(const struct object *o, uint64_t offset, uint32_t len_bytes)
{
	return offset % FORMAT_UNIT_BYTES == 0 && len_bytes <= OBJECT_READ_MAX_BYTES && offset <= o->len_bytes &&
	       (len_bytes + (uint64_t)FORMAT_UNIT_BYTES - 1) / FORMAT_UNIT_BYTES <=
	               format_n_pages(o->len_bytes) - offset / FORMAT_UNIT_BYTES;
}

/* ---- verifying ---- */

static uint32_t expected(const struct state *st, const struct object *o, uint64_t page)
{
	if (o->n_pages == 1)
		return o->sum;
	const struct table *t = st->tables[page / FORMAT_SUMS_PER_PAGE - st->group];
	return t->sums[page % FORMAT_SUMS_PER_PAGE];
}

static int wrong(struct store *s, uint64_t page, uint64_t *ret_bad_offset)
{
	atomic_fetch_add_explicit(&s->n_checksum_errors, 1, memory_order_relaxed);
	*ret_bad_offset = page * FORMAT_UNIT_BYTES;
	return -EBADMSG;
}

static int verify(struct state *st)
{
	struct object_read *read = st->read;
	struct object *o = read->object;
	uint64_t first = read->offset / FORMAT_UNIT_BYTES;

	for (uint32_t i = 0; i < st->n_pages; i++) {
		const char *page = (const char *)read->buf + (size_t)i * FORMAT_UNIT_BYTES;
		const char *ahead = i + 1 < st->n_pages ? page + FORMAT_UNIT_BYTES : NULL;
		if (checksum_page_then(o->node.id, first + i, page, ahead) != expected(st, o, first + i) && !CANARY(page_checksum_ignored))
			return wrong(o->store, first + i, &read->bad_offset);
	}
	return 0;
}

static void finish(struct state *st)
{
	struct object_read *read = st->read;
	struct store *s = read->object->store;
	int rc = st->data_result;

	if (rc == 0 && st->table_result == -EBADMSG)
		rc = wrong(s, st->bad_page, &read->bad_offset);
	else if (rc == 0)
		rc = st->table_result;
	if (rc == 0)
		rc = verify(st);
	for (unsigned i = 0; i < st->n_ready; i++)
		table_put(&s->tables, st->tables[i]);
	read->done(read, rc);
}

static void finish_if_over(struct state *st)
{
	if (st->data_over && st->n_ready == st->n_tables)
		finish(st);
}

/* ---- data ---- */

static void next_piece(struct state *st)
{
	struct object_read *read = st->read;
	uint64_t n, first = read->offset / FORMAT_UNIT_BYTES;

	st->io.offset = piece(read->object, first + st->n_done, st->n_pages - st->n_done, &n);
	st->io.len_bytes = n * FORMAT_UNIT_BYTES;
	st->io.buf = (char *)read->buf + (size_t)st->n_done * FORMAT_UNIT_BYTES;
	st->n_done += (uint32_t)n;
	device_submit(read->object->store->classes[read->object->class_no].device, st->loop, &st->io);
}

static void data_done(struct device_io *io, int result)
{
	struct state *st = (struct state *)io;

	if (result == 0 && st->n_done < st->n_pages) {
		next_piece(st);
		return;
	}
	st->data_result = result;
	st->data_over = true;
	finish_if_over(st);
}

/* ---- checksums ---- */

static void next_table(struct state *st);

static void table_over(struct state *st, struct table *t, int result)
{
	if (result < 0 && st->table_result == 0) {
		uint64_t first = st->read->offset / FORMAT_UNIT_BYTES;
		uint64_t of_group = (st->group + st->n_ready) * FORMAT_SUMS_PER_PAGE;
		st->table_result = result;
		st->bad_page = of_group > first ? of_group : first;
	}
	if (t != NULL)
		st->tables[st->n_ready++] = t;
	else
		st->n_tables = st->n_ready; /* no more of them */
}

static void table_ready(struct table_wait *w)
{
	struct state *st = (struct state *)((char *)w - offsetof(struct state, wait));

	table_over(st, w->table, w->table->error);
	next_table(st);
	finish_if_over(st);
}

static void next_table(struct state *st)
{
	const struct object *o = st->read->object;

	while (st->n_ready < st->n_tables) {
		int rc = table_get(&o->store->tables, st->loop, o, st->group + st->n_ready, st->read->independent,
		                   &st->wait);
		if (rc == 0)
			return;
		if (rc > 0)
			table_over(st, st->wait.table, st->wait.table->error);
		else
			table_over(st, NULL, rc);
	}
}

/* ---- starting ---- */

static void refused(struct loop_task *task)
{
	struct state *st = (struct state *)((char *)task - offsetof(struct state, wait.task));

	st->read->done(st->read, st->data_result);
}

void object_read_start(struct quire_loop *loop, struct object_read *read)
{
	struct state *st = (struct state *)read->driver;
	const struct object *o = read->object;

	memset(st, 0, sizeof(*st));
	st->read = read;
	st->loop = loop;
	if (!range_fits(o, read->offset, read->len_bytes) || read->len_bytes == 0) {
		st->data_result = read->len_bytes == 0 ? 0 : -EINVAL;
		loop_task_init(&st->wait.task, refused);
		loop_defer(loop, &st->wait.task);
		return;
	}
	uint64_t first = read->offset / FORMAT_UNIT_BYTES;
	st->n_pages = (uint32_t)format_n_pages(read->len_bytes);
	st->io.verb = DEVICE_READ;
	st->io.buffer_slot = read->buffer_slot;
	st->io.done = data_done;
	st->wait.ready = table_ready;
	if (o->n_pages > 1) {
		st->group = first / FORMAT_SUMS_PER_PAGE;
		st->n_tables = (unsigned)((first + st->n_pages - 1) / FORMAT_SUMS_PER_PAGE - st->group) + 1;
	}
	next_piece(st);
	next_table(st);
}

/* ---- at once ---- */

#define NOW_PAGES 64u

/* The sums of n pages of one group, by way of buf if need be. */
static int sums_now(struct object *o, uint64_t page, uint32_t n, void *buf, uint32_t *sums)
{
	uint64_t group = page / FORMAT_SUMS_PER_PAGE;
	uint32_t first = (uint32_t)(page % FORMAT_SUMS_PER_PAGE);

	if (o->n_pages == 1) {
		sums[0] = o->sum;
		return 0;
	}
	if (table_try_copy(&o->store->tables, o->node.id, group, first, n, sums))
		return 0;
	uint64_t unit = object_sums_unit(o, group);
	const struct extent *e = extents_find(o->extents, o->n_extents, unit);
	struct device *d = o->store->classes[o->class_no].device;
	int rc = device_read_now(d, (e->start + (unit - e->logical)) * FORMAT_UNIT_BYTES, buf, FORMAT_UNIT_BYTES);
	return rc < 0 ? rc : checksum_pick(o->node.id, group, buf, first, n, sums);
}

static int pages_now(struct object *o, uint64_t page, uint32_t n, char *buf)
{
	uint32_t sums[NOW_PAGES];
	uint64_t k, bad;
	int rc = sums_now(o, page, n, buf, sums);

	if (rc == -EBADMSG)
		return wrong(o->store, page, &bad);
	for (uint32_t i = 0; i < n && rc == 0; i += (uint32_t)k) {
		uint64_t at = piece(o, page + i, n - i, &k);
		rc = device_read_now(o->store->classes[o->class_no].device, at, buf + (size_t)i * FORMAT_UNIT_BYTES,
		                     k * FORMAT_UNIT_BYTES);
	}
	for (uint32_t i = 0; i < n && rc == 0; i++)
		if (checksum_page(o->node.id, page + i, buf + (size_t)i * FORMAT_UNIT_BYTES) != sums[i])
			rc = wrong(o->store, page + i, &bad);
	return rc;
}

int object_read_now(struct object *o, uint64_t offset, uint32_t len_bytes, void *buf)
{
	if (!range_fits(o, offset, len_bytes))
		return -EINVAL;
	uint64_t page = offset / FORMAT_UNIT_BYTES, n = format_n_pages(len_bytes);
	for (uint64_t i = 0; i < n;) {
		uint64_t k = FORMAT_SUMS_PER_PAGE - (page + i) % FORMAT_SUMS_PER_PAGE;
		k = k < NOW_PAGES ? k : NOW_PAGES;
		k = k < n - i ? k : n - i;
		int rc = pages_now(o, page + i, (uint32_t)k, (char *)buf + i * FORMAT_UNIT_BYTES);
		if (rc < 0)
			return rc;
		i += k;
	}
	return 0;
}

/* ---- for whoever can wait ---- */

struct waited {
	struct object_read read;
	struct quire_op op;
};

static void waited_done(struct object_read *read, int result)
{
	op_complete(&((struct waited *)read)->op, result);
}

static void waited_start(struct quire_op *op)
{
	struct waited *w = (struct waited *)((char *)op - offsetof(struct waited, op));

	object_read_start(op_home(op), &w->read);
}

static const struct op_driver waited_driver = {.start = waited_start};

int object_read_wait(struct object *o, uint64_t offset, uint32_t len_bytes, void *buf, uint64_t *ret_bad_offset)
{
	struct waited w = {
		.read = {
			.object = o,
			.offset = offset,
			.len_bytes = len_bytes,
			.buf = buf,
			.buffer_slot = -1,
			.done = waited_done,
		},
	};

	quire_op_init(&w.op);
	int rc = (int)op_run_and_wait(&w.op, &waited_driver, o->store->config.service);
	if (rc == -EBADMSG && ret_bad_offset != NULL)
		*ret_bad_offset = w.read.bad_offset;
	return rc;
}
