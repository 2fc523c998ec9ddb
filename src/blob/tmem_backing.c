/* tmem_backing.c - contents that leave memory go to scratch space of a store. */
#include "face.h"
#include "tmem_store.h"

#include "../base/fail.h"
#include "../tmem/backing.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_SEGMENT_BYTES (4u << 20)
#define LEAST_SEGMENT_BYTES (256u << 10)
#define LEAST_PAGE_BYTES 4096u
#define MOST_PAGE_BYTES (2u << 20)

static int begin(void *arg)
{
	return call_would_block_loop() ? -EDEADLK : store_scratch_begin(arg);
}

static void end(void *arg)
{
	store_scratch_end(arg);
}

static int take(void *arg, uint64_t *ret_at)
{
	return store_scratch_take(arg, ret_at);
}

static void give(void *arg, uint64_t at)
{
	store_scratch_give(arg, at);
}

static int write_bytes(void *arg, uint64_t at, const void *buf, uint64_t n_bytes)
{
	return store_scratch_write(arg, at, buf, n_bytes);
}

static int read_bytes(void *arg, uint64_t at, void *buf, uint64_t n_bytes)
{
	return store_scratch_read(arg, at, buf, n_bytes);
}

static void close_scratch(void *arg)
{
	store_scratch_close(arg);
}

static const struct tmem_backing_ops ops = {
	.begin = begin,
	.end = end,
	.take = take,
	.give = give,
	.write = write_bytes,
	.read = read_bytes,
	.close = close_scratch,
};

int tmem_store_set_backing(struct quire_tmem *tmem, struct store *s, unsigned cls,
                           const struct quire_tmem_backing_options *opts, struct quire_error *err)
{
	struct quire_tmem_backing_options o = {0};
	struct store_scratch *scratch;

	if (opts != NULL && (opts->size == 0 || opts->size > sizeof(o)))
		return quire_fail(err, -EINVAL, "tmem backing options");
	if (opts != NULL)
		memcpy(&o, opts, opts->size);
	if (o.segment_bytes == 0)
		o.segment_bytes = DEFAULT_SEGMENT_BYTES;
	if (o.page_most_bytes == 0)
		o.page_most_bytes = LEAST_PAGE_BYTES;
	if (o.segment_bytes < LEAST_SEGMENT_BYTES || o.page_most_bytes < LEAST_PAGE_BYTES || o.page_most_bytes > MOST_PAGE_BYTES)
		return quire_fail(err, -EINVAL, "tmem backing with segments of %u bytes, for pages of %u", o.segment_bytes, o.page_most_bytes);
	int rc = store_scratch_open(s, cls, o.segment_bytes, o.most_bytes, &scratch);
	if (rc < 0)
		return quire_fail(err, rc, "tmem backing in class %u", cls);
	struct tmem_backing b = {
		.ops = &ops,
		.arg = scratch,
		.segment_bytes = o.segment_bytes,
		.align_bytes = DEVICE_BLOCK_BYTES,
		.page_most_bytes = o.page_most_bytes,
	};
	rc = tmem_backing_set(tmem, &b, err);
	if (rc < 0)
		store_scratch_close(scratch);
	return rc;
}

int quire_tmem_set_backing(struct quire_tmem *tmem, struct quire_store *store, enum quire_class cls,
                           const struct quire_tmem_backing_options *opts, struct quire_error *err)
{
	struct store *s = store_inside(store);

	if (tmem == NULL || store == NULL)
		return quire_fail(err, -EINVAL, "tmem backing");
	if (face_is_of_parent(face_of(s)))
		return quire_fail(err, -ECHILD, "tmem backing");
	return tmem_store_set_backing(tmem, s, (unsigned)cls, opts, err);
}

int quire_tmem_clear_backing(struct quire_tmem *tmem)
{
	return tmem_backing_clear(tmem);
}
