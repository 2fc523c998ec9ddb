/* maps.h - a cache for each test, and maps of each kind of fault service.
 *
 * ON_EACH(test) makes a test out of a function for every kind of fault service, ON_CHECKED only for
 * those of them where the library fills the pages. The kind is `fault` while it runs. A kind
 * that this process can't have is skipped. After each test nothing may be left in the cache.
 */
#ifndef TESTS_SUPPORT_MAPS_H
#define TESTS_SUPPORT_MAPS_H

#include "files.h"

#include <errno.h>
#include <quire/quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern struct quire_cache *cache; /* of the test that runs */
extern enum quire_fault fault;

#define CACHE_BUDGET (32 * MIB)

/* What cmocka's state points to, before and while a test runs. */
struct maps_test {
	CMUnitTestFunction run;
	enum quire_fault fault;
};

int maps_setup(void **state);
int maps_teardown(void **state); /* fails where something is left */

/* The test itself, with the SIGBUS handler of setup in place again: cmocka installs its own
 * for each function that it calls. */
void maps_run(void **state);

#define OF_FAULT(test, name, kind)                                                                 \
	{name, maps_run, maps_setup, maps_teardown, &(struct maps_test){test, kind}}
#define OF_KIND(test, kind, name) OF_FAULT(test, #test " (" name ")", kind)
#define ON_SERVICE(test) OF_KIND(test, QUIRE_FAULT_SERVICE, "service")
#define ON_SIGNAL(test) OF_KIND(test, QUIRE_FAULT_SIGNAL, "signal")
#define ON_KERNEL(test) OF_KIND(test, QUIRE_FAULT_KERNEL, "kernel")
#define ON_PINNED(test) OF_KIND(test, QUIRE_FAULT_PINNED, "pinned")
#define ON_FAULTING(test) ON_SERVICE(test), ON_SIGNAL(test)
#define ON_RAW(test) ON_FAULTING(test), ON_KERNEL(test) /* cold pages may be touched */
#define ON_CHECKED(test) ON_FAULTING(test), ON_PINNED(test)
#define ON_EACH(test) ON_CHECKED(test), ON_KERNEL(test)
#define ON_AUTO(test) OF_FAULT(test, #test, QUIRE_FAULT_AUTO)

/* skip() with a word. */
void skip_because(const char *why);

/* Closes the test's cache and opens another in its place. */
void cache_anew(const struct quire_cache_options *opts);

/* Maps of the kind `fault`; each asserts success, or skips. Items that name no page size have 4 KiB, so that they
 * lie page by page. */
struct quire_map *map_items(const struct quire_item *items, size_t n);
struct quire_map *map_name(const char *name);
struct quire_map *map_item_of(struct quire_item item);

/* Of the kind `fault`; for what must fail. */
int map_try(const struct quire_item *items, size_t n, struct quire_map **ret_map,
            struct quire_error *err);
void map_end(struct quire_map *map);

const char *item_ptr(struct quire_map *map, size_t index);
size_t item_len(struct quire_map *map, size_t index);

/* Blocking; one range. */
int want(struct quire_map *map, const void *p, size_t len_bytes);
int pin(struct quire_map *map, const void *p, size_t len_bytes);
int unpin(struct quire_map *map, const void *p, size_t len_bytes);

/* Pinned, compared, unpinned: right for every kind. */
void read_and_compare(struct quire_map *map, const char *p, unsigned seed, uint64_t offset,
                      uint64_t len_bytes);

struct quire_cache_stat cache_stat(void);
struct quire_map_stat map_stat(struct quire_map *map);

/* Fills the memory with pages of another map and drops that map again. */
void press(void);

static inline struct iovec io(const void *p, size_t len_bytes)
{
	return (struct iovec){(void *)(uintptr_t)p, len_bytes};
}

uint64_t now_ns(void);

/* One line of /proc/self/status, in bytes. */
uint64_t status_bytes(const char *key);

#endif
