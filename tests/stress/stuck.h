/* stuck.h - the inside of a cache that does not get on, to stderr. Apart from stress.h, whose names the cache uses otherwise. */
#ifndef TESTS_STRESS_STUCK_H
#define TESTS_STRESS_STUCK_H

struct quire_cache;

void stuck_tell(struct quire_cache *cache);

#endif
