/* space.c - first-fit extents in a sorted array.
 *
 * n allocations out there cut the space into at most n + 1 free extents, so get keeps room
 * for that many and put never has to grow the array.
 */
#include "space.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int space_init(struct space *s, uint64_t n_units)
{
	s->capacity = 16;
	s->free = malloc(s->capacity * sizeof *s->free);
	if (s->free == NULL)
		return -ENOMEM;
	s->free[0] = (struct space_extent){0, n_units};
	s->n_free = 1;
	s->n_taken = 0;
	return 0;
}

void space_fini(struct space *s)
{
	free(s->free);
	*s = (struct space){0};
}

int space_get(struct space *s, uint64_t n, uint64_t *ret_first)
{
	size_t i = 0;

	while (i < s->n_free && s->free[i].n < n)
		i++;
	if (i == s->n_free)
		return -ENOMEM;

	if (s->n_taken + 2 > s->capacity) {
		size_t capacity = s->capacity * 2;
		struct space_extent *grown = realloc(s->free, capacity * sizeof *grown);

		if (grown == NULL)
			return -ENOMEM;
		s->free = grown;
		s->capacity = capacity;
	}
	s->n_taken++;
	*ret_first = s->free[i].first;
	s->free[i].first += n;
	s->free[i].n -= n;
	if (s->free[i].n == 0) {
		s->n_free--;
		memmove(&s->free[i], &s->free[i + 1], (s->n_free - i) * sizeof *s->free);
	}
	return 0;
}

void space_put(struct space *s, uint64_t first, uint64_t n)
{
	size_t i = 0;

	s->n_taken--;
	while (i < s->n_free && s->free[i].first < first)
		i++;

	bool joins_left = i > 0 && s->free[i - 1].first + s->free[i - 1].n == first;
	bool joins_right = i < s->n_free && first + n == s->free[i].first;

	if (joins_left && joins_right) {
		s->free[i - 1].n += n + s->free[i].n;
		s->n_free--;
		memmove(&s->free[i], &s->free[i + 1], (s->n_free - i) * sizeof *s->free);
	} else if (joins_left) {
		s->free[i - 1].n += n;
	} else if (joins_right) {
		s->free[i].first = first;
		s->free[i].n += n;
	} else {
		memmove(&s->free[i + 1], &s->free[i], (s->n_free - i) * sizeof *s->free);
		s->free[i] = (struct space_extent){first, n};
		s->n_free++;
	}
}
