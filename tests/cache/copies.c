/* copies.c - see copies.h. */
#include "copies.h"

#include "../../src/cache/evict.h"
#include "../../src/cache/unit.h"

#include <fcntl.h>
#include <sched.h>

static unsigned char soft_byte(unsigned seed, uint64_t offset)
{
	return file_byte(seed, offset / 256 * 8 + offset % 8);
}

void soft_write(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes)
{
	int fd = open(file_path(name), O_WRONLY | O_CREAT | O_CLOEXEC | (from == 0 ? O_TRUNC : 0), 0600);
	unsigned char chunk[4096];

	assert_true(fd >= 0);
	for (uint64_t done = 0, n; done < len_bytes; done += n) {
		n = len_bytes - done < sizeof(chunk) ? len_bytes - done : sizeof(chunk);
		for (uint64_t i = 0; i < n; i++)
			chunk[i] = soft_byte(seed, from + done + i);
		assert_int_equal(pwrite(fd, chunk, n, (off_t)(from + done)), n);
	}
	close(fd);
}

bool soft_is(const void *p, unsigned seed, uint64_t offset, uint64_t len_bytes)
{
	const unsigned char *bytes = p;

	for (uint64_t i = 0; i < len_bytes; i++)
		if (bytes[i] != soft_byte(seed, offset + i))
			return false;
	return true;
}

struct quire_map *map_soft(const char *name, unsigned seed, uint64_t n_pages)
{
	soft_write(name, seed, 0, n_pages * page_size());
	file_age(name);
	struct quire_map *m = map_name(name);
	assert_int_equal(quire_map_stream(m, 0, QUIRE_STREAM_RANDOM), 0);
	return m;
}

uint64_t page_no(const struct quire_map *m, const void *p)
{
	return (uint64_t)(uintptr_t)p >> quire_map_page_shift(m);
}

bool has_copy(const struct quire_map *m, const void *p)
{
	return chance_holds(m->range, page_no(m, p));
}

bool leave_if_there(struct quire_map *m, const void *p)
{
	uint64_t epoch = chance_epoch(cache), page = page_no(m, p);
	struct victim v;

	atomic_store(&m->range->chance_credit, UNIT_MAX_PAGES);
	if (!unit_claim(cache, m->range->arena, page, &v))
		return false;
	pthread_rwlock_rdlock(&cache->ranges_lock);
	chance_admit(cache, epoch, &v, 1);
	pthread_rwlock_unlock(&cache->ranges_lock);
	for (unsigned i = 0; i < v.n_pages; i++)
		if (victim_has(&v, i))
			page_move(range_word(m->range, v.first + i), PAGE_RESIDENT, 0,
			          PAGE_UNVERIFIED | PAGE_QUEUED | PAGE_UNIT_MASK);
	return evict_range(m->range, page, 1) > 0;
}

void leave(struct quire_map *m, const void *p)
{
	while (!leave_if_there(m, p)) /* a fault is on its way out */
		sched_yield();
}

void leave_copy(struct quire_map *m, const void *p)
{
	for (unsigned i = 0; i < 64 && !has_copy(m, p); i++) {
		assert_int_equal(want(m, p, 1), 0);
		leave(m, p);
	}
	assert_true(has_copy(m, p));
}

void soft_read(struct quire_map *m, const char *p, unsigned seed, uint64_t offset, uint64_t len_bytes)
{
	if (fault == QUIRE_FAULT_PINNED)
		assert_int_equal(pin(m, p, len_bytes), 0);
	assert_true(soft_is(p, seed, offset, len_bytes));
	if (fault == QUIRE_FAULT_PINNED)
		assert_int_equal(unpin(m, p, len_bytes), 0);
}
