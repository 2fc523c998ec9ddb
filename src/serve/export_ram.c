/* export_ram.c - an export in memory: a scratch disk, and what tells how fast the server itself is.
 *
 * Which pages were ever written is a bitmap; the others read as zeros, are holes, and take no memory. Reads lend the memory
 * itself: whoever reads what another writes at the same time gets some of both, as from any disk.
 *
 * One loop's thread uses it; nothing suspends.
 */
#include "export.h"

#include "../base/fail.h"
#include "../base/pages.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u /* of the bitmap: the kernel's may be larger */
#define SIZE_MAX_BYTES (UINT64_C(1) << 48)

struct ram {
	struct export base;
	uint8_t *bytes;      /* owned: a mapping */
	uint64_t size_bytes;
	uint64_t map_bytes;
	uint64_t *written;   /* owned: a mapping, a bit a page */
	size_t written_bytes;
};

static struct ram *ram_of(struct export *e)
{
	return (struct ram *)(void *)e;
}

static bool is_written(const struct ram *r, uint64_t page)
{
	return r->written[page / 64] >> (page % 64) & 1;
}

static void describe(struct export *e, struct export_description *ret)
{
	*ret = (struct export_description){
		.size_bytes = ram_of(e)->size_bytes,
		.least_block = 1,
		.preferred_block = PAGE_BYTES,
		.flags = EXPORT_TRIM | EXPORT_ZERO | EXPORT_FAST_ZERO | EXPORT_CACHE,
	};
}

/* How many bytes from offset on, up to n_bytes, are alike: written, or not. */
static uint64_t run_of(const struct ram *r, uint64_t offset, uint64_t n_bytes, bool *ret_written)
{
	uint64_t end = offset + n_bytes;
	uint64_t page = offset / PAGE_BYTES;

	*ret_written = is_written(r, page);
	while (++page * PAGE_BYTES < end && is_written(r, page) == *ret_written)
		;
	return (page * PAGE_BYTES < end ? page * PAGE_BYTES : end) - offset;
}

static int read_bytes(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes)
{
	memcpy(buf, ram_of(e)->bytes + offset, n_bytes);
	return 0;
}

static int lend(struct export *e, uint64_t offset, uint32_t n_bytes, struct export_loan *ret)
{
	struct ram *r = ram_of(e);
	unsigned n = 0;

	for (uint64_t done = 0; done < n_bytes;) {
		bool written;
		uint64_t len = run_of(r, offset + done, n_bytes - done, &written);
		/* What does not fit as pieces of its own is lent as if it were written. */
		if (n == EXPORT_PIECES - 1) {
			written = true;
			len = n_bytes - done;
		}
		ret->pieces[n++] = (struct export_piece){written ? r->bytes + offset + done : NULL, (uint32_t)len};
		done += len;
	}
	ret->n_pieces = n;
	return 0;
}

static void give_back(struct export *e, struct export_loan *loan)
{
}

static int write_bytes(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct ram *r = ram_of(e);

	if (n_bytes == 0)
		return 0;
	memcpy(r->bytes + offset, buf, n_bytes);
	for (uint64_t page = offset / PAGE_BYTES; page <= (offset + n_bytes - 1) / PAGE_BYTES; page++)
		r->written[page / 64] |= UINT64_C(1) << (page % 64);
	return 0;
}

static int flush(struct export *e)
{
	return 0;
}

/* [from, end) are zeros. Whole pages of the kernel's go back to it; it would round an end up, and take what is behind it too. */
static void clear(struct ram *r, uint64_t from, uint64_t end)
{
	uint64_t mask = pages_bytes(1) - 1, first = (from + mask) & ~mask, last = end & ~mask;

	if (first >= last || madvise(r->bytes + first, last - first, MADV_DONTNEED) < 0) {
		memset(r->bytes + from, 0, end - from);
		return;
	}
	memset(r->bytes + from, 0, first - from);
	memset(r->bytes + last, 0, end - last);
}

static int zero(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	struct ram *r = ram_of(e);
	uint64_t end = offset + n_bytes;
	uint64_t first = (offset + PAGE_BYTES - 1) / PAGE_BYTES, last = end / PAGE_BYTES;

	if (how & EXPORT_NO_HOLE || first >= last) {
		for (uint64_t done = 0; done < n_bytes;) {
			bool written;
			uint64_t len = run_of(r, offset + done, n_bytes - done, &written);
			if (written)
				memset(r->bytes + offset + done, 0, len);
			done += len;
		}
		if (how & EXPORT_NO_HOLE)
			for (uint64_t page = offset / PAGE_BYTES; page * PAGE_BYTES < end; page++)
				r->written[page / 64] |= UINT64_C(1) << (page % 64);
		return 0;
	}
	clear(r, offset, end);
	for (uint64_t page = first; page < last; page++)
		r->written[page / 64] &= ~(UINT64_C(1) << (page % 64));
	return 0;
}

static int trim(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return zero(e, offset, n_bytes, how);
}

static int cache(struct export *e, uint64_t offset, uint32_t n_bytes)
{
	return 0;
}

static unsigned contexts(struct export *e)
{
	return 1u << EXPORT_ALLOCATION | 1u << EXPORT_DEPTH;
}

static int status(struct export *e, enum export_context context, uint64_t generation, uint64_t offset, uint32_t n_bytes,
                  struct export_extent *ret, unsigned most)
{
	unsigned n = 0;

	for (uint64_t done = 0; done < n_bytes && n < most; n++) {
		bool written;
		ret[n].n_bytes = run_of(ram_of(e), offset + done, n_bytes - done, &written);
		if (context == EXPORT_DEPTH)
			ret[n].flags = written ? 1 : 0;
		else
			ret[n].flags = written ? 0 : 3;
		done += ret[n].n_bytes;
	}
	return (int)n;
}

static int close_ram(struct export *e)
{
	struct ram *r = ram_of(e);

	pages_unmap(r->bytes, r->map_bytes);
	pages_unmap(r->written, r->written_bytes);
	free(r);
	return 0;
}

static const struct export_ops ram_ops = {
	.describe = describe,
	.read = read_bytes,
	.lend = lend,
	.give_back = give_back,
	.write = write_bytes,
	.flush = flush,
	.trim = trim,
	.zero = zero,
	.cache = cache,
	.status = status,
	.contexts = contexts,
	.close = close_ram,
};

int export_ram_create(uint64_t size_bytes, struct export **ret_export, struct quire_error *err)
{
	if (size_bytes == 0 || size_bytes > SIZE_MAX_BYTES)
		return quire_fail(err, -EINVAL, "memory of %llu bytes", (unsigned long long)size_bytes);
	struct ram *r = calloc(1, sizeof(*r));
	if (r == NULL)
		return quire_fail(err, -ENOMEM, "memory");
	r->base.ops = &ram_ops;
	r->size_bytes = size_bytes;
	r->map_bytes = (size_bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	r->written_bytes = r->map_bytes / PAGE_BYTES / 8 + sizeof(uint64_t);
	r->bytes = pages_map(r->map_bytes, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	r->written = pages_map(r->written_bytes, PROT_READ | PROT_WRITE, MAP_NORESERVE);
	if (r->bytes == NULL || r->written == NULL) {
		(void)close_ram(&r->base);
		return quire_fail(err, -ENOMEM, "memory of %llu bytes", (unsigned long long)size_bytes);
	}
	*ret_export = &r->base;
	return 0;
}
