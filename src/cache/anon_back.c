/* anon_back.c - pages of regions that are in the backing come back: read by the service loop, whoever wants them.
 *
 *   a want ──claims the page (FILLING)──▶ list ──a reader, a coroutine of the service loop──▶ read, installed, settled ──▶ the want goes on
 *
 * Other pages of regions come at once (anon.c), so that no thread that faults waits for what it would have to do itself. A read is I/O,
 * and who asks may be a loop's thread, or one that faults in the midst of anything. So such a fill is never a loop's: the service thread ends
 * it, which owes its progress to nobody. Who wants the page waits for the fill as for any other, and his thread, if it is a loop's,
 * does something else; nobody repeats it.
 *
 *   1. A fill is taken and claims its page on any thread; from then until it is settled it is the service thread's. It references its range.
 *   2. There are as many reads at once as there are readers, at most MOST_READERS; one ends when the list is empty.
 *   3. A reader that can't be started is no harm while there is another. Where there is none, the fill fails (-ENOMEM).
 *
 * What the backing can't read is its page's error alone, as for pages of files: told to who wants it, and SIGBUS under a raw load.
 */
#include "anon_back.h"

#include "filler.h"
#include "unit.h"
#include "want.h"

#include "../base/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define FIRST_FILL 128u /* of filler 0: the others are fault_signal.c's and promote.c's */
#define MOST_FILLS 64u
#define BUFFER_BYTES (256u << 10)
#define MOST_READERS 32u

static_assert(FIRST_FILL + MOST_FILLS <= FILLER_FILLS, "filler 0 has them");

struct back_read {
	struct loop_task task;
	struct anon_back *back;
	struct fill *fill;
	struct back_read *next;
};

struct anon_back {
	struct quire_cache *cache; /* borrowed */
	unsigned n_fills;
	size_t bytes;              /* of buffers */
	char *buffers;             /* owned mapping: a page a fill */
	_Atomic uint64_t used;     /* bit i: fill i */
	struct back_read reads[MOST_FILLS];
	/* The service thread's: */
	struct back_read *first, **last;
	unsigned n_readers;
};

int anon_back_create(struct quire_cache *c)
{
	struct anon_back *there = NULL, *b;

	if (atomic_load(&c->anon_back) != NULL)
		return 0;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	b->cache = c;
	b->n_fills = BUFFER_BYTES >> c->page_shift < MOST_FILLS ? BUFFER_BYTES >> c->page_shift : MOST_FILLS;
	if (b->n_fills == 0)
		b->n_fills = 1;
	b->bytes = (size_t)b->n_fills << c->page_shift;
	b->buffers = pages_map(b->bytes, PROT_READ | PROT_WRITE, 0);
	if (b->buffers == NULL) {
		free(b);
		return -ENOMEM;
	}
	b->last = &b->first;
	budget_charge(&c->budget, BUDGET_BUFFERS, b->bytes);
	if (!atomic_compare_exchange_strong(&c->anon_back, &there, b))
		anon_back_destroy(b);
	return 0;
}

void anon_back_destroy(struct anon_back *b)
{
	if (b == NULL)
		return;
	pages_unmap(b->buffers, b->bytes);
	budget_uncharge(&b->cache->budget, BUDGET_BUFFERS, b->bytes);
	free(b);
}

/* ---- on the service thread ---- */

static void fill_put(struct anon_back *b, const struct fill *fill)
{
	atomic_fetch_and(&b->used, ~(UINT64_C(1) << (fill->id - FIRST_FILL)));
}

static void settle(struct anon_back *b, struct fill *fill)
{
	struct range *r = fill->range;
	struct quire_cache *c = b->cache;

	for (struct want *w = fill_settle(fill), *next; w != NULL; w = next) {
		next = w->next;
		want_continue(w, NULL);
	}
	fill_put(b, fill);
	fillers_feed(c); /* there may be those who found no fill */
	range_put(r);
}

static struct back_read *list_pop(struct anon_back *b)
{
	struct back_read *read = b->first;

	if (read == NULL)
		return NULL;
	b->first = read->next;
	if (b->first == NULL)
		b->last = &b->first;
	return read;
}

static void reader(void *arg)
{
	struct anon_back *b = arg;
	struct back_read *read;

	while ((read = list_pop(b)) != NULL) {
		struct fill *fill = read->fill;

		anon_bring(fill, true);
		/* The cache may be gone after the last of these, but not before another turn of this loop. */
		settle(b, fill);
	}
	b->n_readers--;
}

static void read_begin(struct loop_task *task)
{
	struct back_read *read = (struct back_read *)task;
	struct anon_back *b = read->back;

	read->next = NULL;
	*b->last = read;
	b->last = &read->next;
	if (b->n_readers == MOST_READERS)
		return;
	if (quire_co_spawn(b->cache->service, reader, b) == 0) {
		b->n_readers++;
		return;
	}
	while (b->n_readers == 0 && (read = list_pop(b)) != NULL) {
		read->fill->result = -ENOMEM;
		settle(b, read->fill);
	}
}

/* ---- on any ---- */

static struct fill *fill_get(struct anon_back *b)
{
	uint64_t all = b->n_fills == 64 ? UINT64_MAX : (UINT64_C(1) << b->n_fills) - 1, used = atomic_load(&b->used);
	unsigned i;

	do {
		if (used == all)
			return NULL;
		i = (unsigned)__builtin_ctzll(~used);
	} while (!atomic_compare_exchange_weak(&b->used, &used, used | UINT64_C(1) << i));
	struct fill *fill = &atomic_load(&b->cache->fillers[0])->fills[FIRST_FILL + i];
	b->reads[i].fill = fill;
	b->reads[i].back = b;
	fill->buf = b->buffers + ((size_t)i << b->cache->page_shift);
	return fill;
}

int anon_back_start(struct range *r, uint64_t page, unsigned flags, const struct page_source *source)
{
	struct anon_back *b = atomic_load(&r->cache->anon_back);
	struct fill *fill = fill_get(b);

	if (fill == NULL)
		return -EAGAIN;
	/* Before a word names it: from then on others wait for it. */
	fill->n_pages = 1;
	anon_fill_init(fill, r, page, flags, source);
	int rc = range_get(r) ? 0 : -ECANCELED;
	if (rc == 0) {
		rc = fill_claim(r, page, UNIT_PAGE, fill->id, (flags & FILL_FORCE) != 0);
		if (rc < 0)
			range_put(r);
	}
	if (rc < 0) {
		fill_put(b, fill);
		fillers_feed(r->cache);
		return rc;
	}
	struct back_read *read = &b->reads[fill->id - FIRST_FILL];
	loop_task_init(&read->task, read_begin);
	loop_post(r->cache->service, &read->task);
	return 0;
}
