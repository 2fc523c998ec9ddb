/* chance.h - the second chance: pages that left, compressed, in a pool of the cache's tmem. */
#ifndef CACHE_CHANCE_H
#define CACHE_CHANCE_H

#include "range.h"

struct chance;
struct fill;
struct quire_cache_stat;
struct victim;

/* -ENOMEM. The pool goes with the cache's tmem, so the tmem is destroyed before this. */
int chance_create(struct quire_cache *c, struct chance **ret_chance, struct quire_error *err);
void chance_destroy(struct chance *ch); /* NULL allowed */

/* All that follows: any thread, fault handlers included; where a cache has no second chance it does nothing, or says no. */

/* Before victims are chosen: what chance_admit is to be told. */
uint64_t chance_epoch(struct quire_cache *c);

/* Pages that the policy has chosen, in EVICTING and still there, are compressed where that is worth while, and none of them has been
 * dropped since the epoch; those of which there is a copy are `kept` then. ranges_lock is held. Some µs a page. */
void chance_admit(struct quire_cache *c, uint64_t epoch, struct victim *victims, unsigned n);

/* Is there a copy of the page? For a moment: it may leave. */
bool chance_holds(const struct range *r, uint64_t page);

/* The page's copy, if there is one, into the buffer of a fill that is about to claim the page. */
bool chance_fetch(struct fill *fill, const struct range *r, uint64_t page);

/* The page of a fill that has claimed it (FILLING) appears with what was fetched, as by fill_install. False: it may not be shown, and
 * nothing was done. */
bool chance_show(struct fill *fill);

/* Copies of [page, page + n) go, and those that are being made of what has left before will not come. */
void chance_drop(struct range *r, uint64_t page, uint64_t n);

/* A read begins: what it takes may be measured. */
void chance_read_begins(struct fill *fill);

/* A fill has ended, before its pages are resident. True: it came from its copy, and had left so lately that it counts as used. */
bool chance_fill_ended(struct fill *fill);

/* Bytes that frames leave free, for copies that are to come. */
uint64_t chance_reserve(const struct quire_cache *c);

/* Copies beyond their part of the memory give some of it back. False: there are none. */
bool chance_shrink(struct quire_cache *c);

/* Do most of the pages that leave have copies? Then nothing else need keep them. */
bool chance_serves(const struct quire_cache *c);

/* The budget was that, and is another now: their part of it changes with it. */
void chance_rebudget(struct quire_cache *c, uint64_t before_bytes);

/* So much is for copies, until fills say otherwise; for tests. */
void chance_give(struct quire_cache *c, uint64_t bytes);

void chance_stat(struct quire_cache *c, struct quire_cache_stat *s);

#endif
