/* failing.c - memory that is refused. */
#include "failing.h"

#include "../../src/base/budget.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <zstd.h>

static _Atomic uint64_t countdown, n_refused, random_state = 1;
static _Atomic uint32_t often;
static _Atomic int64_t mapped_bytes;

void failing_nth(uint64_t n)
{
	atomic_store(&n_refused, 0);
	atomic_store(&countdown, n);
}

void failing_often(uint32_t one_in)
{
	atomic_store(&n_refused, 0);
	atomic_store(&often, one_in);
}

void failing_off(void)
{
	atomic_store(&countdown, 0);
	atomic_store(&often, 0);
}

uint64_t failing_n_refused(void)
{
	return atomic_load(&n_refused);
}

int64_t failing_mapped_bytes(void)
{
	return atomic_load(&mapped_bytes);
}

static bool is_refused(void)
{
	uint64_t left = atomic_load(&countdown);
	uint32_t one_in = atomic_load(&often);
	bool refused = false;

	while (left > 0 && !atomic_compare_exchange_weak(&countdown, &left, left - 1))
		;
	refused = left == 1;
	if (one_in > 0) {
		uint64_t z = atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u);
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		refused = refused || (z >> 33) % one_in == 0;
	}
	if (refused)
		atomic_fetch_add(&n_refused, 1);
	return refused;
}

/* ---- in the place of the others ---- */

void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes)
{
	return is_refused() ? NULL : __real_calloc(n, bytes);
}

void *__real_reallocarray(void *p, size_t n, size_t bytes);
void *__wrap_reallocarray(void *p, size_t n, size_t bytes);
void *__wrap_reallocarray(void *p, size_t n, size_t bytes)
{
	return is_refused() ? NULL : __real_reallocarray(p, n, bytes);
}

/* By that name the headers have it, where offsets have 64 bits. */
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	void *p = MAP_FAILED;

	if (is_refused())
		errno = ENOMEM;
	else
		p = __real_mmap64(at, bytes, prot, flags, fd, offset);
	if (p != MAP_FAILED)
		atomic_fetch_add(&mapped_bytes, (int64_t)bytes);
	return p;
}

int __real_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes)
{
	atomic_fetch_sub(&mapped_bytes, (int64_t)bytes);
	return __real_munmap(at, bytes);
}

bool __real_budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes);
bool __wrap_budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes);
bool __wrap_budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes)
{
	return (bytes == 0 || !is_refused()) && __real_budget_try_charge(b, kind, bytes);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return is_refused() ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

ZSTD_CCtx *__real_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void)
{
	return is_refused() ? NULL : __real_ZSTD_createCCtx();
}

ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
	return is_refused() ? NULL : __real_ZSTD_createDCtx();
}
