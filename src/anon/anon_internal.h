/* anon_internal.h - the inside of struct quire_anon, for the files of this layer alone. */
#ifndef ANON_ANON_INTERNAL_H
#define ANON_ANON_INTERNAL_H

#include "../cache/anon.h"
#include "../cache/core.h"
#include "../cache/evict.h"
#include "../cache/want.h"

#include <quire/anon.h>

struct quire_anon {
	struct quire_cache *cache;   /* borrowed: a cache can't be closed while it has regions */
	struct range *range;         /* owned */
	struct anon source;          /* of the range's pages */
	struct quire_tmem_pool *own; /* owned; NULL: the pool is the program's */
	uint64_t n_pages;
	struct loop_task idle;       /* of destroy */
	struct quire_op *destroy_op;
	uint64_t destroy_page;       /* how far destroy has come */
};

static inline char *anon_base(const struct quire_anon *a)
{
	return arena_address(a->range->arena, a->range->first_page);
}

#endif
