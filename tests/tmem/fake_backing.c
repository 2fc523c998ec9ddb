/* fake_backing.c - see fake_backing.h. */
#include "fake_backing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 4096u

void fake_backing_init(struct fake_backing *f, unsigned n_segments, uint32_t segment_bytes)
{
	*f = (struct fake_backing){.n_segments = n_segments, .segment_bytes = segment_bytes, .random = 1};
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->writer, NULL);
	f->bytes = malloc((size_t)n_segments * segment_bytes);
	f->taken = calloc(n_segments, sizeof(f->taken[0]));
	assert_non_null(f->bytes);
	assert_non_null(f->taken);
}

void fake_backing_fini(struct fake_backing *f)
{
	assert_true(f->closed);
	free(f->bytes);
	free(f->taken);
	pthread_mutex_destroy(&f->lock);
	pthread_mutex_destroy(&f->writer);
}

static int begin(void *arg)
{
	struct fake_backing *f = arg;

	if (f->refuse)
		return -EDEADLK;
	pthread_mutex_lock(&f->writer);
	return 0;
}

static void end(void *arg)
{
	struct fake_backing *f = arg;

	pthread_mutex_unlock(&f->writer);
}

static int take(void *arg, uint64_t *ret_at)
{
	struct fake_backing *f = arg;
	unsigned i = 0;

	pthread_mutex_lock(&f->lock);
	while (i < f->n_segments && f->taken[i])
		i++;
	if (i < f->n_segments) {
		f->taken[i] = true;
		f->n_taken++;
		*ret_at = (uint64_t)i * f->segment_bytes;
	}
	pthread_mutex_unlock(&f->lock);
	return i < f->n_segments ? 0 : -ENOSPC;
}

static void give(void *arg, uint64_t at)
{
	struct fake_backing *f = arg;
	unsigned i = (unsigned)(at / f->segment_bytes);

	pthread_mutex_lock(&f->lock);
	assert_true(f->taken[i]);
	f->taken[i] = false;
	f->n_taken--;
	f->n_gives++;
	memset(f->bytes + at, 0x5a, f->segment_bytes);
	pthread_mutex_unlock(&f->lock);
}

/* False: it is to fail. */
static bool may_do(struct fake_backing *f, bool fails)
{
	pthread_mutex_lock(&f->lock);
	f->random = f->random * 6364136223846793005u + 1442695040888963407u;
	bool by_chance = f->fail_one_in != 0 && (f->random >> 33) % f->fail_one_in == 0;
	void (*hook)(void *) = f->hook;
	f->hook = NULL;
	pthread_mutex_unlock(&f->lock);
	if (hook != NULL)
		hook(f->hook_arg);
	return !fails && !by_chance;
}

static void look_at(const struct fake_backing *f, uint64_t at, const void *buf, uint64_t n_bytes)
{
	assert_true(at % ALIGN == 0 && n_bytes % ALIGN == 0 && (uintptr_t)buf % ALIGN == 0 && n_bytes > 0);
	assert_true(at % f->segment_bytes + n_bytes <= f->segment_bytes);
	assert_true(f->taken[at / f->segment_bytes]);
}

static int write_bytes(void *arg, uint64_t at, const void *buf, uint64_t n_bytes)
{
	struct fake_backing *f = arg;

	if (!may_do(f, f->fail_writes))
		return -EIO;
	pthread_mutex_lock(&f->lock);
	look_at(f, at, buf, n_bytes);
	memcpy(f->bytes + at, buf, n_bytes);
	f->n_writes++;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int read_bytes(void *arg, uint64_t at, void *buf, uint64_t n_bytes)
{
	struct fake_backing *f = arg;

	if (!may_do(f, f->fail_reads))
		return -EIO;
	pthread_mutex_lock(&f->lock);
	look_at(f, at, buf, n_bytes);
	memcpy(buf, f->bytes + at, n_bytes);
	f->n_reads++;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void close_backing(void *arg)
{
	struct fake_backing *f = arg;

	f->closed = true;
}

int fake_backing_set(struct fake_backing *f, struct quire_tmem *t, uint32_t page_most_bytes)
{
	static const struct tmem_backing_ops ops = {begin, end, take, give, write_bytes, read_bytes, close_backing};
	struct tmem_backing b = {.ops = &ops, .arg = f, .segment_bytes = f->segment_bytes, .align_bytes = ALIGN,
	                         .page_most_bytes = page_most_bytes};

	return tmem_backing_set(t, &b, NULL);
}
