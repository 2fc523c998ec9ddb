/* filler_buffers.c - a filler's I/O buffers: runs of a power of two of pages, aligned to their
 * length, each inside one word of the bitmap; and its staging for units of 2 MiB.
 *
 * Staging is not registered with the ring: the kernel moves no page that a fixed buffer holds. */
#include "filler.h"

#include "arena_kernel.h"
#include "evict.h"
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned run_pages(unsigned n)
{
	return n <= 1 ? 1 : 1u << (32 - __builtin_clz(n - 1));
}

static uint64_t run_mask(unsigned run, unsigned at)
{
	return (run == 64 ? UINT64_MAX : (UINT64_C(1) << run) - 1) << at;
}

/* Single pages are taken from below and longer runs from above, so that they mix little. */
char *filler_buffers_get(struct filler *f, unsigned n)
{
	unsigned run = run_pages(n), n_words = (f->n_buffers + 63) / 64;

	for (unsigned i = 0; i < n_words; i++) {
		unsigned word = run == 1 ? i : n_words - 1 - i;

		for (unsigned at = 0; at < 64 && ~f->buffers_used[word] != 0; at += run) {
			if (f->buffers_used[word] & run_mask(run, at))
				continue;
			if (word * 64 + at + run > f->n_buffers)
				break;
			f->buffers_used[word] |= run_mask(run, at);
			return f->buffers + ((size_t)(word * 64 + at) << f->cache->page_shift);
		}
	}
	return NULL;
}

void filler_buffers_put(struct filler *f, char *buf, unsigned n)
{
	size_t at = (size_t)(buf - f->buffers) >> f->cache->page_shift;

	f->buffers_used[at / 64] &= ~run_mask(run_pages(n), at % 64);
}

/* Of a run that was got for `from` pages, keeps what `to` need. */
void filler_buffers_trim(struct filler *f, char *buf, unsigned from, unsigned to)
{
	size_t at = (size_t)(buf - f->buffers) >> f->cache->page_shift;

	f->buffers_used[at / 64] &= ~run_mask(run_pages(from), at % 64);
	f->buffers_used[at / 64] |= run_mask(run_pages(to), at % 64);
}

/* All loops together have about a quarter of the budget, however many there are: each a sixteenth of what the others
 * have left of it, and never under 32 pages. */
static unsigned share_of_budget(const struct quire_cache *c)
{
	uint64_t all = budget_limit(&c->budget) / 4, taken = budget_kind_used(&c->budget, BUDGET_BUFFERS);
	uint64_t share = all > taken ? (all - taken) / 16 >> c->page_shift : 0;

	return share > FILLER_BUFFERS ? FILLER_BUFFERS : share < 32 ? 32 : (unsigned)share;
}

int filler_buffers_create(struct filler *f)
{
	struct quire_cache *c = f->cache;

	f->n_buffers = share_of_budget(c);

	size_t bytes = (size_t)(f->n_buffers + 1) << c->page_shift;
	f->buffers = arena_map_aligned(bytes, PROT_READ | PROT_WRITE);
	if (f->buffers == NULL)
		return -ENOMEM;
	/* What is in one piece is one segment for the device: reads of 256 KiB were half again to three times as fast. */
	madvise(f->buffers, (size_t)f->n_buffers << c->page_shift, MADV_HUGEPAGE);
	madvise(f->buffers, bytes, MADV_DONTFORK);
	madvise(f->buffers, bytes, MADV_DONTDUMP);
	memset(f->buffers_used, 0, sizeof(f->buffers_used));
	budget_charge(&c->budget, BUDGET_BUFFERS, bytes);
	evict_to_budget(c);
	f->buffer_slot = loop_buffers_register(f->loop, f->buffers, bytes);
	return 0;
}

void filler_buffers_destroy(struct filler *f)
{
	size_t bytes = (size_t)(f->n_buffers + 1) << f->cache->page_shift;

	if (f->buffer_slot >= 0)
		loop_buffers_unregister(f->loop, f->buffer_slot);
	munmap(f->buffers, bytes);
	budget_uncharge(&f->cache->budget, BUDGET_BUFFERS, bytes);
	f->buffers = NULL;
	if (f->staging != NULL)
		munmap(f->staging, (size_t)N_STAGING * UNIT_2M_BYTES);
	f->staging = NULL;
	f->staging_used = 0;
}

/* ---- staging ---- */

char *filler_staging_get(struct filler *f, const struct arena *a)
{
	const size_t bytes = (size_t)N_STAGING * UNIT_2M_BYTES;

	if (f->staging == NULL) {
		f->staging = arena_map_aligned(bytes, PROT_READ | PROT_WRITE);
		if (f->staging == NULL)
			return NULL;
		madvise(f->staging, bytes, MADV_HUGEPAGE);
		madvise(f->staging, bytes, MADV_DONTFORK);
		madvise(f->staging, bytes, MADV_DONTDUMP);
		if (a->locked) /* memory is moved between the locked only, or the unlocked */
			syscall(SYS_mlock2, f->staging, bytes, MLOCK_ONFAULT);
	}
	for (unsigned i = 0; i < N_STAGING; i++) {
		if (f->staging_used & (1u << i))
			continue;
		f->staging_used |= 1u << i;
		return f->staging + (size_t)i * UNIT_2M_BYTES;
	}
	return NULL;
}

void filler_staging_put(struct filler *f, char *buf)
{
	/* What was not moved away is given back: the frames that paid for it are elsewhere, or not at all. */
	if (madvise(buf, UNIT_2M_BYTES, MADV_DONTNEED_LOCKED) < 0)
		madvise(buf, UNIT_2M_BYTES, MADV_DONTNEED);
	f->staging_used &= ~(1u << (unsigned)((size_t)(buf - f->staging) / UNIT_2M_BYTES));
}
