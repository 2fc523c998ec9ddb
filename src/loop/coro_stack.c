/* coro_stack.c - stacks of coroutines: mapped, guarded, kept for the next.
 *
 *   [ guard page ][ stack, growing down … ][ struct coro ]
 *
 * A loop keeps at most STACKS_KEPT idle ones, the last used first, since its pages are warm. The
 * pool is its loop's and has no lock.
 */
#include "coro_internal.h"
#include "stack_notes.h"
#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACKS_KEPT 256u
#define STACK_MIN_BYTES (16u << 10)
#define STACK_DEFAULT_BYTES (128u << 10)
#define STACK_MAX_BYTES (UINT64_C(1) << 32)

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

int stack_pool_init(struct stack_pool *pool, size_t stack_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	if (stack_bytes > STACK_MAX_BYTES)
		return -EINVAL;
	if (stack_bytes == 0)
		stack_bytes = STACK_DEFAULT_BYTES;
	/* A fault handler runs on it, with all of the registers in its frame. */
	size_t least = STACK_MIN_BYTES + getauxval(AT_MINSIGSTKSZ);
	if (stack_bytes < least)
		stack_bytes = least;
	pool->page_bytes = page;
	pool->stack_bytes = (stack_bytes + sizeof(struct coro) + page - 1) & ~(page - 1);
	return 0;
}

static void unmap(struct stack_pool *pool, struct coro *co)
{
	char *base = co->stack - pool->page_bytes;
	stack_note_unmapped(co->stack, pool->stack_bytes, co->valgrind_id);
	munmap(base, pool->page_bytes + pool->stack_bytes);
}

void stack_pool_fini(struct stack_pool *pool)
{
	while (pool->idle != NULL) {
		struct coro *co = pool->idle;
		pool->idle = co->next;
		unmap(pool, co);
	}
}

struct coro *stack_pool_get(struct stack_pool *pool)
{
	if (pool->idle != NULL) {
		struct coro *co = pool->idle;
		pool->idle = co->next;
		pool->n_idle--;
		stack_note_reused(co->stack, pool->stack_bytes);
		return co;
	}
	size_t len = pool->page_bytes + pool->stack_bytes;
	char *base = mmap(NULL, len, PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	if (mprotect(base, pool->page_bytes, PROT_NONE) < 0) {
		munmap(base, len);
		return NULL;
	}
	uintptr_t top = (uintptr_t)(base + len - sizeof(struct coro)) & ~(uintptr_t)63;
	struct coro *co = (struct coro *)top;
	co->stack = base + pool->page_bytes;
	co->stack_bytes = top - (uintptr_t)co->stack;
	co->valgrind_id = stack_note_mapped(co->stack, pool->stack_bytes);
	return co;
}

void stack_pool_put(struct stack_pool *pool, struct coro *co)
{
	if (pool->n_idle >= STACKS_KEPT) {
		unmap(pool, co);
		return;
	}
	co->next = pool->idle;
	pool->idle = co;
	pool->n_idle++;
}
