/* fault.h - raw loads that find a page cold: on the service thread, or in the faulting thread. */
#ifndef CACHE_FAULT_H
#define CACHE_FAULT_H

#include "core.h"

/* The service thread begins to serve the faults of a SERVICE arena. */
int fault_service_start(struct quire_cache *c, struct arena *a, struct quire_error *err);
void fault_service_stop(struct fault_service *s); /* NULL allowed; no range of the arena is left */

/* The process's SIGBUS handler: installed with the first cache that asks for it; chains to
 * the one that was there, and stays (others may have chained to it) but does nothing when no
 * cache is left. */
int fault_signal_attach(struct quire_cache *c, struct quire_error *err);
void fault_signal_detach(struct quire_cache *c);

int sync_fills_create(struct quire_cache *c);
void sync_fills_destroy(struct quire_cache *c);

/* Pages of [page, page + n) that raw loads have poisoned become ABSENT again: the next load
 * tries anew. */
void fault_unpoison(struct range *r, uint64_t page, uint64_t n);

#endif
