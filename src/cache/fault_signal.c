/* fault_signal.c - faults as SIGBUS, served in the faulting thread, or suspending its coroutine.
 *
 * A SIGNAL arena's userfaultfd turns each fault of user code into SIGBUS in the thread that made
 * it (system calls get EFAULT). The handler
 *   - suspends, where it interrupted a coroutine of a loop with suspend_faults: the load becomes a
 *     want of one page, waited for on the coroutine's own stack, signal frame included; the
 *     loop goes on with other coroutines, and when the page is there the handler returns
 *     and the load is done again;
 *   - else reads the page itself, and returns.
 *
 * It is a synchronous signal at a load of the program's own, so what the handler calls need not
 * be async-signal-safe at large; but the program may have been anywhere in its own code or in
 * libc. Hence: no malloc, no stdio, and no lock of ours but those that are never held while
 * arena memory is touched. SA_NODEFER: the handler may be left by a switch to the loop, and
 * the signal mask stays as it was.
 *
 * What can't be served (an I/O error, a stray address) is passed to the handler that was there
 * before, or to the default action, as if we were not here.
 * Source: UFFD_FEATURE_SIGBUS in userfaultfd(2); sigaction(2).
 */
#include "fault.h"

#include "../base/fail.h"
#include "../base/pages.h"
#include "../loop/coro.h"
#include "arena_kernel.h"
#include "chance.h"
#include "evict.h"
#include "filler.h"
#include "probation.h"
#include "unit.h"
#include "want.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_SIGNAL_CACHES 64
#define N_SYNC_FILLS 64

/* Buffers for handlers; their fills are those of filler 0. */
struct sync_fills {
	_Atomic uint64_t used; /* bit i: fill i */
	char *buffers;         /* owned mapping: two pages a fill, content and scratch */
};

/* The handler is the process's, and so is what it knows. */
static struct {
	pthread_mutex_t lock;
	bool installed;
	struct sigaction before;
	_Atomic(struct quire_cache *) caches[MAX_SIGNAL_CACHES];
	_Atomic unsigned n_inside; /* handlers that look at caches[] */
} signals = {.lock = PTHREAD_MUTEX_INITIALIZER};

int sync_fills_create(struct quire_cache *c)
{
	struct sync_fills *s = calloc(1, sizeof(*s));
	size_t bytes = (size_t)2 * N_SYNC_FILLS << c->page_shift;

	if (s == NULL)
		return -ENOMEM;
	s->buffers = pages_map(bytes, PROT_READ | PROT_WRITE, 0);
	if (s->buffers == NULL) {
		free(s);
		return -ENOMEM;
	}
	budget_charge(&c->budget, BUDGET_BUFFERS, bytes);
	c->sync_fills = s;
	return 0;
}

void sync_fills_destroy(struct quire_cache *c)
{
	size_t bytes = (size_t)2 * N_SYNC_FILLS << c->page_shift;

	if (c->sync_fills == NULL)
		return;
	pages_unmap(c->sync_fills->buffers, bytes);
	budget_uncharge(&c->budget, BUDGET_BUFFERS, bytes);
	free(c->sync_fills);
	c->sync_fills = NULL;
}

/* A fill with its buffer; waits where more threads fault at once than there are. */
static struct fill *sync_fill_get(struct quire_cache *c)
{
	struct sync_fills *s = c->sync_fills;
	uint64_t used = atomic_load(&s->used);
	unsigned i;

	for (;;) {
		if (used == UINT64_MAX) {
			sched_yield();
			used = atomic_load(&s->used);
			continue;
		}
		i = (unsigned)__builtin_ctzll(~used);
		if (atomic_compare_exchange_weak(&s->used, &used, used | UINT64_C(1) << i))
			break;
	}
	struct fill *fill = &atomic_load(&c->fillers[0])->fills[i];
	fill->n_pages = 1;
	fill->result = 0;
	fill->from_copy = fill->from_chance = fill->vague = false;
	fill->since_ns = 0;
	fill->staged = false;
	fill->error_at = 0;
	fill->waiters = NULL;
	fill->buf = s->buffers + ((size_t)(2 * i) << c->page_shift);
	return fill;
}

static void sync_fill_put(struct quire_cache *c, struct fill *fill)
{
	atomic_fetch_and(&c->sync_fills->used, ~(UINT64_C(1) << fill->id));
}

/* Reads the fill's pages into its buffer and puts them into the arena. */
static void sync_fill_read(struct quire_cache *c, struct fill *fill, char *scratch)
{
	uint64_t bytes = (uint64_t)fill->n_pages << c->page_shift, most = source_read_max_bytes(&fill->source), n;
	struct page_source from = fill->source;

	if (from.len_bytes < bytes)
		bytes = from.len_bytes;
	fill->n_good = 0;
	fill->result = 0;
	chance_read_begins(fill);
	for (uint64_t done = 0; done < bytes && fill->result == 0; done += n, from.offset += n) {
		n = bytes - done < most ? bytes - done : most;
		fill->result = source_read_now(&from, (uint32_t)n, fill->buf + done);
	}
	if (fill->result == 0)
		fill_install(fill, scratch);
}

/* What was claimed is read, and whoever waits for it is told. */
static int sync_fill_claimed(struct range *r, struct fill *fill, bool has_memory, char *scratch)
{
	if (has_memory)
		sync_fill_read(r->cache, fill, scratch);
	else
		fill->result = -ENOMEM;
	fill->vague = fill->result < 0 && fill->n_pages > 1;

	int result = fill->result;
	struct want *w = fill_settle(fill);
	while (w != NULL) {
		struct want *next = w->next;

		want_continue(w, NULL);
		w = next;
	}
	return result;
}

/* The page is nobody's: -EBUSY if it is somebody's now, else the fill's verdict. */
static int sync_fill(struct range *r, uint64_t page, struct fill *fill)
{
	unsigned unit = fill->source.unit;
	int rc = fill_claim(r, page, unit, fill->id, false);

	/* The memory may be in the hands of a loop whose thread this is. */
	if (rc == -EAGAIN)
		rc = fill_claim(r, page, unit, fill->id, true);
	if (rc < 0)
		return rc;
	return sync_fill_claimed(r, fill, true, fill->buf + cache_page_bytes(r->cache));
}

/* Claims the unit of a page: as a whole, if it comes so, or what is absent of it. */
static int sync_claim_unit(struct range *r, uint64_t page, struct fill *fill, struct page_run *ret_run)
{
	const struct page_source *s = &fill->source;
	unsigned shift = unit_shift(r->cache, UNIT_2M);

	if (fill_comes_whole(r, page, s)) {
		*ret_run = (struct page_run){unit_first(r->arena, page, shift), UINT64_C(1) << shift};
		if (fill_claim_unit(r, ret_run->first, 1u << shift, UNIT_2M, fill) == 0)
			return 0;
	}
	*ret_run = fill_parts(r, page, 1, s);
	return fill_claim_around(r, ret_run, page, s->unit, fill->id, false);
}

/* The same for a unit, with memory of its own while it lasts. -EAGAIN: the page alone, then. */
static int sync_fill_unit(struct range *r, uint64_t page, struct fill *fill)
{
	struct quire_cache *c = r->cache;
	struct fill page_fill = {.page = fill->page, .buf = fill->buf, .source = fill->source};
	struct page_run run;
	int rc = sync_claim_unit(r, page, fill, &run);

	if (rc < 0)
		return rc;
	uint64_t bytes = run.n << c->page_shift, charge;
	char *buf = arena_map_aligned(bytes, PROT_READ | PROT_WRITE);
	fill->page = run.first;
	fill->n_pages = (uint16_t)run.n;
	fill->staged = bytes == UNIT_2M_BYTES && arena_kind_moves(r->arena->kind);
	charge = fill->staged ? 0 : bytes; /* what is moved is paid for by its frames */
	budget_charge(&c->budget, BUDGET_BUFFERS, charge);
	source_back(&fill->source, page - run.first, c->page_shift);
	if (buf != NULL) {
		fill->buf = buf;
		if (fill->staged)
			madvise(buf, bytes, MADV_HUGEPAGE);
		if (fill->staged && r->arena->locked)
			syscall(SYS_mlock2, buf, bytes, MLOCK_ONFAULT);
	}
	rc = sync_fill_claimed(r, fill, buf != NULL, page_fill.buf + cache_page_bytes(c));
	pages_unmap(buf, bytes);
	budget_uncharge(&c->budget, BUDGET_BUFFERS, charge);
	fill->page = page_fill.page;
	fill->buf = page_fill.buf;
	fill->source = page_fill.source;
	fill->n_pages = 1;
	fill->staged = false;
	fill->vague = false;
	return rc < 0 ? -EAGAIN : 0;
}

/* A loop owns the page's fill, and may be this very thread. */
static int sync_repeat(struct range *r, uint64_t page, struct fill *fill, uint32_t w)
{
	if ((w & PAGE_DUP) || fill_of_word(r->cache, w)->filler == NULL ||
	    !page_cas(range_word(r, page), &w, w | PAGE_DUP))
		return -EBUSY;
	count(&r->cache->counters.n_duplicate, 1);
	sync_fill_read(r->cache, fill, fill->buf + cache_page_bytes(r->cache));
	fill_settle_duplicate(r, page, false); /* the load itself is told, and not done again */
	return fill->result;
}

/* Pages from the fill's on that come with it. */
static uint64_t sync_unit_left(const struct fill *fill)
{
	unsigned shift = unit_shift(fill->range->cache, (enum unit_size)fill->source.unit);

	return unit_first(fill->range->arena, fill->page, shift) + (UINT64_C(1) << shift) - fill->page;
}

/* As fill_from_copies; what it has changed of the fill is as before. */
static int sync_from_copies(struct range *r, uint64_t page, struct fill *fill)
{
	struct page_source source = fill->source;
	int rc = fill_from_copies(fill, r, page, 0, &source);

	if (rc == -EAGAIN) /* as in sync_fill */
		rc = fill_from_copies(fill, r, page, FILL_ALONE | FILL_FORCE, &source);
	fill->page = page;
	fill->source = source;
	return rc;
}

/* The page is absent: from its copy, with its unit, or alone. Its unit may be of no use: then not *whole from now on. */
static int sync_absent(struct range *r, uint64_t page, struct fill *fill, bool *whole)
{
	int rc = sync_from_copies(r, page, fill);

	if (rc != -ENOENT) {
		stream_access(NULL, r, page, sync_unit_left(fill), STREAM_FIRST | STREAM_ABSENT);
		return rc;
	}
	stream_access(NULL, r, page, *whole ? sync_unit_left(fill) : 1, STREAM_FIRST | STREAM_ABSENT);
	if (!*whole)
		return sync_fill(r, page, fill);
	rc = sync_fill_unit(r, page, fill);
	*whole = rc != -EAGAIN;
	return rc == -EAGAIN ? -EBUSY : rc;
}

/* Makes the page resident. r is referenced. */
static int sync_fault(struct range *r, uint64_t page)
{
	struct fill *fill = sync_fill_get(r->cache);
	bool whole = true;
	int rc;

	fill->range = r;
	fill->page = page;
	for (;;) {
		/* Each time: what grows may have, and what its last page is filled from is out of date then. */
		rc = r->ops->locate(r->owner, page - r->first_page, &fill->source);
		whole = whole && fill->source.unit != UNIT_PAGE;
		uint32_t w = page_load(range_word(r, page));

		if (rc < 0 || page_state(w) == PAGE_RESIDENT)
			break;
		if (page_state(w) == PAGE_ABSENT) {
			rc = sync_absent(r, page, fill, &whole);
		} else if (page_state(w) == PAGE_FILLING) {
			stream_access(NULL, r, page, 1, STREAM_FIRST);
			rc = sync_repeat(r, page, fill, w);
		} else {
			rc = -EBUSY;
		}
		if (rc != -EBUSY)
			break;
		/* Whoever has the page now (a handler that reads it, the end of a repeat, an evictor)
		 * ends without our help: there is nothing to be woken by, nothing to do but let it run. */
		sched_yield();
	}
	sync_fill_put(r->cache, fill);
	return rc;
}

static int fault_here(struct quire_cache *c, struct arena *a, uint64_t page)
{
	struct range *r = range_find(c, page);
	struct quire_loop *loop = quire_loop_self();
	int rc;

	if (r == NULL)
		return -EFAULT;
	count(&c->counters.n_faults, 1);
	count(&r->n_faults, 1);
	probation_earn(r);
	if (loop != NULL && loop_suspends_faults(loop) && quire_in_coroutine()) {
		struct iovec at = {arena_address(a, page), 1};

		rc = want_submit(r, &at, 1, WANT_FAULT, NULL);
	} else {
		rc = sync_fault(r, page);
	}
	range_put(r);
	return rc;
}

/* As if we had never been there: the handler before us, or death by the default action. */
static void fault_chain(int signal_number, siginfo_t *info, void *context)
{
	const struct sigaction *before = &signals.before;

	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(signal_number, info, context);
	} else if (before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN) {
		/* The load is done again on return, and this time nobody catches it. A SIGBUS that was
		 * sent, not caused, is raised anew. */
		signal(signal_number, SIG_DFL);
		if (info->si_code <= 0)
			raise(signal_number);
	} else {
		before->sa_handler(signal_number);
	}
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	int saved_errno = errno, rc = -EFAULT;

	atomic_fetch_add(&signals.n_inside, 1);
	struct quire_cache *c = NULL;
	struct arena *a = NULL;
	uint64_t page = 0;
	for (int i = 0; i < MAX_SIGNAL_CACHES && a == NULL && info->si_code > 0; i++) {
		c = atomic_load(&signals.caches[i]);
		if (c == NULL)
			continue;
		page = (uintptr_t)info->si_addr >> c->page_shift;
		a = cache_arena_of(c, page);
		if (a != NULL && !arena_kind_is_signal(a->kind))
			a = NULL;
	}
	atomic_fetch_sub(&signals.n_inside, 1);
	if (a != NULL)
		rc = fault_here(c, a, page);
	errno = saved_errno;
	if (rc < 0)
		fault_chain(signal_number, info, context);
}

static int fault_signal_install(void)
{
	int rc = coro_install_fault_handler(SIGBUS, on_sigbus, &signals.before);

	signals.installed = rc == 0;
	return rc;
}

int fault_signal_attach(struct quire_cache *c, struct quire_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&signals.lock);
	if (!signals.installed)
		rc = fault_signal_install();
	int i = 0;
	while (i < MAX_SIGNAL_CACHES && atomic_load(&signals.caches[i]) != NULL)
		i++;
	if (rc == 0 && i == MAX_SIGNAL_CACHES)
		rc = -ENOMEM;
	if (rc == 0)
		atomic_store(&signals.caches[i], c);
	pthread_mutex_unlock(&signals.lock);
	return rc < 0 ? quire_fail(err, rc, "SIGBUS handler") : 0;
}

void fault_signal_detach(struct quire_cache *c)
{
	pthread_mutex_lock(&signals.lock);
	for (int i = 0; i < MAX_SIGNAL_CACHES; i++)
		if (atomic_load(&signals.caches[i]) == c)
			atomic_store(&signals.caches[i], NULL);
	while (atomic_load(&signals.n_inside) > 0)
		sched_yield();
	pthread_mutex_unlock(&signals.lock);
}
