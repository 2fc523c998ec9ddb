/* allocate.c - space is got and given back, for everybody in the store. Whoever finds none waits for
 * what is being discarded before he is told so. */
#include "store_internal.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>

#define ZERO_BYTES (256u << 10)

int store_alloc(struct store *s, unsigned class_no, uint64_t want, uint64_t align, unsigned flags,
                uint64_t *ret_start, uint64_t *ret_n)
{
	uint64_t n_rounds;
	int rc;

	do {
		n_rounds = reclaim_n_rounds(s);
		store_lock(s);
		rc = freemap_alloc(&s->classes[class_no].space, want, align, flags, ret_start, ret_n);
		store_charge_locked(s);
		store_unlock(s);
	} while (rc == -ENOSPC && reclaim_wait_round(s, n_rounds));
	return rc;
}

void store_give_locked(struct store *s, unsigned class_no, uint64_t start, uint64_t n)
{
	int rc = freemap_give(&s->classes[class_no].space, start, n);

	/* Without memory to note it by, it counts as in use until the store is opened again. */
	quire_assert(rc == 0 || rc == -ENOMEM);
}

void store_give_list_locked(struct store *s, unsigned class_no, struct extent_list *list, uint64_t n_left)
{
	struct extent e;

	while (extents_trim(list, n_left, &e))
		store_give_locked(s, class_no, e.start, e.n_units);
}

int store_alloc_list(struct store *s, unsigned class_no, uint64_t n_units, unsigned flags,
                     struct extent_list *list)
{
	uint64_t before = list->n_units, start, n;

	while (list->n_units < before + n_units) {
		int rc = store_alloc(s, class_no, before + n_units - list->n_units, 1, flags, &start, &n);
		if (rc == 0) {
			rc = extents_add(list, start, n);
			if (rc == 0)
				continue;
			store_lock(s);
			store_give_locked(s, class_no, start, n);
			if (flags & FREEMAP_PROMISED)
				s->classes[class_no].space.n_promised += n;
			store_unlock(s);
		}
		store_lock(s);
		if (flags & FREEMAP_PROMISED)
			s->classes[class_no].space.n_promised += list->n_units - before;
		store_give_list_locked(s, class_no, list, before);
		store_unlock(s);
		return rc;
	}
	return 0;
}

int store_promise(struct store *s, unsigned class_no, uint64_t n_units, unsigned flags)
{
	uint64_t n_rounds;
	int rc;

	do {
		n_rounds = reclaim_n_rounds(s);
		store_lock(s);
		rc = freemap_promise(&s->classes[class_no].space, n_units, flags);
		store_unlock(s);
	} while (rc == -ENOSPC && reclaim_wait_round(s, n_rounds));
	return rc;
}

int store_zero(struct device *d, uint64_t offset, uint64_t len_bytes)
{
	uint64_t n = len_bytes < ZERO_BYTES ? len_bytes : ZERO_BYTES;
	void *zeros = aligned_alloc(FORMAT_UNIT_BYTES, n);
	int rc = 0;

	if (zeros == NULL)
		return -ENOMEM;
	__builtin_memset(zeros, 0, n);
	for (uint64_t done = 0; done < len_bytes && rc == 0; done += n) {
		n = len_bytes - done < n ? len_bytes - done : n;
		rc = device_write(d, offset + done, zeros, n, false);
	}
	free(zeros);
	return rc;
}
