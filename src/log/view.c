/* view.c - a sealed segment, read through the cache: a range of the arena for pages that are only touched while they are
 * pinned, so that cursors need no fault service. It is made when the segment is first read, and lives as long as the segment
 * is the log's, or a cursor is in it. Its pages come and leave as those of any map; each is verified before it appears. Whether a
 * cursor goes by it at all is for window.c to say. */
#include "log_internal.h"

#include "../base/assert.h"
#include "../cache/want.h"

#include <errno.h>

static int locate(void *owner, uint64_t page, struct page_source *ret)
{
	struct log_segment *seg = owner;
	uint64_t offset = page << seg->log->cache->page_shift, len = object_bytes(seg->object);

	if (offset >= len)
		return -EFAULT;
	*ret = (struct page_source){.object = seg->object, .offset = offset, .len_bytes = len - offset,
	                            .item_offset = offset};
	return 0;
}

/* Who reads is told by his want; here it is noted where. */
static void failed(void *owner, uint64_t item, uint64_t item_offset, int error)
{
	struct log_segment *seg = owner;

	(void)item;
	(void)error;
	atomic_store(&seg->bad_offset, item_offset);
}

static const struct range_ops range_ops = {.locate = locate, .failed = failed};

bool log_segment_has_range(struct log_segment *seg)
{
	log_lock(seg->log);
	bool there = seg->range != NULL;
	log_unlock(seg->log);
	return there;
}

int log_segment_open_range(struct log_segment *seg)
{
	struct quire_log *log = seg->log;
	struct object *object = NULL;
	struct range *range = NULL;

	if (log_segment_has_range(seg))
		return 0;
	if (log->cache == NULL)
		return -ENOTSUP;
	int rc = object_get(log->store, seg->id, &object);
	if (rc < 0)
		return rc;
	uint64_t page_bytes = UINT64_C(1) << log->cache->page_shift;
	rc = range_create(log->cache, ARENA_PINNED, (object_bytes(object) + page_bytes - 1) / page_bytes, &range_ops, seg,
	                  &range, NULL);
	log_lock(log);
	if (rc == 0 && seg->range == NULL) {
		seg->range = range;
		seg->object = object;
		seg->mapped = log->direct && object_is_mapped(object);
		range = NULL;
		object = NULL;
	}
	log_unlock(log);
	if (rc == 0 && range != NULL)
		range_free(range); /* another was there first */
	object_put(object);
	return rc;
}

/* ---- its end ---- */

struct closing {
	struct range *range;
	struct loop_task task;
	struct quire_op op;
};

static void closed(struct loop_task *task)
{
	struct closing *c = (struct closing *)((char *)task - offsetof(struct closing, task));

	range_free(c->range);
	op_complete(&c->op, 0);
}

static void close_start(struct quire_op *op)
{
	struct closing *c = (struct closing *)((char *)op - offsetof(struct closing, op));

	loop_task_init(&c->task, closed);
	gate_when_idle(&c->range->gate, op_home(op), &c->task);
}

void log_segment_close_range(struct log_segment *seg)
{
	static const struct op_driver driver = {.start = close_start};
	struct closing c = {.range = seg->range};

	if (seg->range == NULL)
		return;
	int rc = range_kill(seg->range);
	quire_assert(rc == 0);
	quire_op_init(&c.op);
	rc = (int)op_run_and_wait(&c.op, &driver, store_config_of(seg->log->store)->service);
	quire_assert(rc == 0);
	object_put(seg->object);
	seg->range = NULL;
	seg->object = NULL;
}

/* ---- pins ---- */

static struct iovec vector(const struct log_segment *seg, uint32_t offset, uint32_t len_bytes)
{
	char *base = arena_address(seg->range->arena, seg->range->first_page);

	return (struct iovec){base + offset, len_bytes};
}

int log_segment_pin(struct log_segment *seg, uint32_t offset, uint32_t len_bytes, const uint8_t **ret)
{
	int rc = log_segment_open_range(seg);

	if (rc < 0)
		return rc;
	struct iovec v = vector(seg, offset, len_bytes);
	rc = want_submit(seg->range, &v, 1, WANT_PIN, NULL);
	if (rc == 0)
		*ret = v.iov_base;
	return rc;
}

void log_segment_unpin(struct log_segment *seg, uint32_t offset, uint32_t len_bytes)
{
	struct iovec v = vector(seg, offset, len_bytes);
	bool had = want_unpin(seg->range, &v, 0, want_end_page(seg->range, &v));

	quire_assert(had);
}
