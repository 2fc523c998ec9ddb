/* fault_service.c - faults as messages, served on the library's own thread.
 *
 * The service loop polls the arena's userfaultfd. Each message becomes a want of one page with
 * the service loop's own ring and buffers, so no program thread has to run for a fault to
 * end. Messages are read only while a fault record is free; the kernel keeps the others, one a
 * thread at most.
 *
 * A page that can't be had is poisoned, so that its readers, and they alone, get SIGBUS; the next
 * want of the page tries again.
 * Source: userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
 */
#include "fault.h"

#include "../base/fail.h"
#include "arena_kernel.h"
#include "evict.h"
#include "probation.h"
#include "want.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define N_FAULTS 256
#define MESSAGES_A_READ 16

struct fault {
	struct quire_op op;
	struct fault_service *service;
	struct range *range; /* referenced */
	uint64_t page;
	struct fault *next;  /* free */
};

struct fault_service {
	struct quire_cache *cache;
	struct arena *arena;
	struct io poll;
	_Atomic bool polling;
	bool stopping;
	unsigned n_busy;
	struct fault *free;
	struct fault faults[N_FAULTS];
};

static void faults_read(struct fault_service *s);

static void faults_poll(struct fault_service *s)
{
	if (s->polling || s->stopping || s->free == NULL)
		return;
	s->polling = true;
	loop_io_submit(s->cache->service, &s->poll);
}

static void faults_polled(struct io *io, int64_t result)
{
	struct fault_service *s = (struct fault_service *)((char *)io - offsetof(struct fault_service, poll));

	s->polling = false;
	faults_read(s);
}

void fault_unpoison(struct range *r, uint64_t page, uint64_t n)
{
	uint64_t end = page + n;

	while (page < end) {
		if (arena_region_count(r->arena, page) == 0) {
			page = arena_region_end(r->arena, page);
			continue;
		}
		page_word *word = range_word(r, page);
		uint32_t w = page_load(word);

		while (page_state(w) == PAGE_POISONED) {
			if (!page_cas(word, &w, PAGE_EVICTING | (w & PAGE_QUEUED)))
				continue;
			arena_unpoison(r->arena, page);
			page_move(word, PAGE_ABSENT, 0, PAGE_QUEUED);
			arena_region_leave(r->arena, page, 1);
			break;
		}
		page++;
	}
}

/* ABSENT → POISONED, by way of EVICTING so that nobody fills it meanwhile. */
static void fault_poison(struct range *r, uint64_t page, int error)
{
	struct page_source source;
	page_word *word = range_word(r, page);
	uint32_t w = page_load(word);

	arena_region_enter(r->arena, page, 1, true);
	while (page_state(w) == PAGE_ABSENT) {
		if (!page_cas(word, &w, PAGE_EVICTING | (w & PAGE_QUEUED)))
			continue;
		if (arena_poison(r->arena, page) == 0) {
			page_move(word, PAGE_POISONED, (uint32_t)-error, PAGE_QUEUED);
			/* Either the owner, who lengthens the item and then unpoisons, sees the word, or we,
			 * who have set it, see the new length. */
			atomic_thread_fence(memory_order_seq_cst);
			if (error == -EFAULT && r->ops->locate(r->owner, page - r->first_page, &source) == 0)
				fault_unpoison(r, page, 1);
			return;
		}
		page_move(word, PAGE_ABSENT, 0, PAGE_QUEUED);
		break;
	}
	arena_region_leave(r->arena, page, 1);
}

static void fault_done(struct quire_op *op, void *arg)
{
	struct fault *f = arg;
	struct fault_service *s = f->service;

	if (op->result < 0)
		fault_poison(f->range, f->page, (int)op->result);
	/* Woken before its page is there, the thread would only fault again, and again. */
	if (op->result != WANT_REPEATED)
		arena_wake(s->arena, f->page, 1);
	range_put(f->range);
	f->next = s->free;
	s->free = f;
	s->n_busy--;
	faults_poll(s);
}

static void fault_begin(struct fault_service *s, uint64_t address, uint64_t flags)
{
	struct quire_cache *c = s->cache;
	uint64_t page = address >> c->page_shift;
	struct range *r = range_find(c, page);

	count(&c->counters.n_faults, 1);
	if (r == NULL) {
		/* No map has it, or one that is being destroyed: the program's error. */
		arena_poison_stray(s->arena, page);
		arena_wake(s->arena, page, 1);
		return;
	}
	count(&r->n_faults, 1);
	unsigned write = 0;
	if (r->anon == NULL)
		probation_earn(r);
	else if (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP))
		write = WANT_WRITE;

	struct fault *f = s->free;
	struct iovec at = {arena_address(s->arena, page), 1};
	s->free = f->next;
	s->n_busy++;
	f->range = r;
	f->page = page;
	quire_op_init_callback(&f->op, c->service, fault_done, f);
	int rc = want_submit(r, &at, 1, WANT_FAULT | WANT_REPEAT | write, &f->op);
	if (rc < 0) {
		f->op.result = rc;
		fault_done(&f->op, f);
	}
}

static void faults_read(struct fault_service *s)
{
	struct uffd_msg messages[MESSAGES_A_READ];

	while (!s->stopping && s->n_busy + MESSAGES_A_READ <= N_FAULTS) {
		ssize_t n = read(s->arena->uffd, messages, sizeof(messages));

		if (n <= 0)
			break;
		for (size_t i = 0; i < (size_t)n / sizeof(messages[0]); i++)
			if (messages[i].event == UFFD_EVENT_PAGEFAULT)
				fault_begin(s, messages[i].arg.pagefault.address, messages[i].arg.pagefault.flags);
		if ((size_t)n < sizeof(messages))
			break;
	}
	if (s->n_busy + MESSAGES_A_READ <= N_FAULTS)
		faults_poll(s);
}

static void fault_service_begin(void *arg)
{
	struct fault_service *s = arg;

	loop_hold(s->cache->service);
	faults_poll(s);
}

int fault_service_start(struct quire_cache *c, struct arena *a, struct quire_error *err)
{
	struct fault_service *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return quire_fail(err, -ENOMEM, "fault service");
	s->cache = c;
	s->arena = a;
	s->poll = (struct io){.op = IO_POLL, .fd = a->uffd, .buffer_slot = -1,
	                      .flags = POLLIN, .done = faults_polled};
	for (struct fault *f = s->faults; f < s->faults + N_FAULTS; f++) {
		f->service = s;
		f->next = s->free;
		s->free = f;
	}
	c->fault_services[a->kind] = s;
	cache_call_on_service(c, fault_service_begin, s);
	return 0;
}

static void fault_service_end(void *arg)
{
	struct fault_service *s = arg;

	s->stopping = true;
	if (s->polling)
		loop_io_cancel(s->cache->service, &s->poll);
	loop_release(s->cache->service);
}

static void fault_service_nothing(void *arg)
{
}

void fault_service_stop(struct fault_service *s)
{
	if (s == NULL)
		return;
	cache_call_on_service(s->cache, fault_service_end, s);
	/* The cancelled poll's completion is due within the service loop's next turns. */
	while (atomic_load(&s->polling))
		cache_call_on_service(s->cache, fault_service_nothing, s);
	/* Once more: whoever said that it has come has then gone from here, too. */
	cache_call_on_service(s->cache, fault_service_nothing, s);
	free(s);
}
