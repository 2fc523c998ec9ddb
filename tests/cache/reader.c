#include "reader.h"

#include <sched.h>

bool loads(void)
{
	return fault != QUIRE_FAULT_PINNED;
}

void read_pages(struct quire_map *m, const char *p, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += page_size()) {
		if (loads())
			*(const volatile char *)(p + at);
		else
			assert_int_equal(want(m, p + at, 1), 0);
	}
}

void settle(struct quire_map *m)
{
	while (cache_stat().frames != map_stat(m).resident)
		sched_yield();
}

void assert_ahead(struct quire_map *m, uint64_t n_pages)
{
	while (fault == QUIRE_FAULT_SIGNAL && map_stat(m).n_ahead == 0)
		sched_yield();
	settle(m);
	if (fault != QUIRE_FAULT_SIGNAL)
		assert_true(map_stat(m).n_ahead >= n_pages);
}
