/* extents.c - see extents.h. */
#include "extents.h"

#include "../base/assert.h"

#include <errno.h>
#include <stdlib.h>

void extents_fini(struct extent_list *list)
{
	free(list->extents);
	*list = (struct extent_list){0};
}

static int reserve_one(struct extent_list *list)
{
	if (list->n < list->capacity)
		return 0;
	if (list->n >= FORMAT_MAX_EXTENTS)
		return -ENOSPC;
	unsigned capacity = list->capacity == 0 ? 1 : list->capacity * 2;
	struct extent *extents = realloc(list->extents, capacity * sizeof(*extents));
	if (extents == NULL)
		return -ENOMEM;
	list->extents = extents;
	list->capacity = capacity;
	return 0;
}

int extents_add(struct extent_list *list, uint64_t start, uint64_t n_units)
{
	struct extent *last = list->n > 0 ? &list->extents[list->n - 1] : NULL;

	if (last != NULL && last->start + last->n_units == start) {
		last->n_units += n_units;
		list->n_units += n_units;
		return 0;
	}
	int rc = reserve_one(list);
	if (rc < 0)
		return rc;
	list->extents[list->n++] = (struct extent){.start = start, .n_units = n_units, .logical = list->n_units};
	list->n_units += n_units;
	return 0;
}

const struct extent *extents_find(const struct extent *extents, unsigned n, uint64_t logical)
{
	unsigned low = 0;

	while (n > 1) {
		unsigned half = n / 2;
		if (extents[low + half].logical <= logical) {
			low += half;
			n -= half;
		} else {
			n = half;
		}
	}
	quire_assert(logical - extents[low].logical < extents[low].n_units);
	return &extents[low];
}

bool extents_trim(struct extent_list *list, uint64_t n_units, struct extent *ret)
{
	if (list->n_units <= n_units)
		return false;
	struct extent *last = &list->extents[list->n - 1];
	uint64_t over = list->n_units - n_units;
	if (over >= last->n_units) {
		*ret = *last;
		list->n--;
	} else {
		last->n_units -= over;
		*ret = (struct extent){.start = last->start + last->n_units, .n_units = over};
	}
	list->n_units -= ret->n_units;
	return true;
}
