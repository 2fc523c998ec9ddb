/* anon_room.h - pools of regions that spill are kept from being full. */
#ifndef CACHE_ANON_ROOM_H
#define CACHE_ANON_ROOM_H

#include "anon.h"

#define HIGH_EIGHTHS 7u /* of its part: a pool that holds more is made to spill, down to LOW */
#define LOW_EIGHTHS 6u

/* The range's pool refused a page: it is to spill. Any thread, fault handlers included; waits for nothing. */
void anon_room_begin(struct range *r);

/* The range's pool has its part: nothing is to be put there now. Then it is made to spill. Any thread. */
bool anon_room_is_short(struct range *r);

/* Some were put: the same, if it is about to be full. */
void anon_room_look(struct range *r);

/* Somebody makes room: who finds no memory should wait, and not give up. */
static inline bool anon_room_is_made(const struct quire_cache *c)
{
	return atomic_load(&c->n_spilling) > 0;
}

/* The same for a page of that range: a raw load of it needn't pass the budget. */
static inline bool anon_room_is_awaited(const struct range *r)
{
	return r->anon != NULL && r->anon->spills && anon_room_is_made(r->cache);
}

#endif
