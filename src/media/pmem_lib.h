/* pmem_lib.h - libpmem2, loaded when it is first needed. For src/media alone.
 *
 * Not linked: it brings eight more libraries, which a program without persistent memory should not have to load
 * at each start, and Debian has no static ones of some of them. */
#ifndef MEDIA_PMEM_LIB_H
#define MEDIA_PMEM_LIB_H

#include <quire/error.h>

#include <libpmem2.h>

/* What is taken of it, by the library's own names. */
#define PMEM_LIB_FUNCTIONS(X)                                                                                          \
	X(source_from_fd)                                                                                              \
	X(source_delete)                                                                                               \
	X(config_new)                                                                                                  \
	X(config_delete)                                                                                               \
	X(config_set_required_store_granularity)                                                                       \
	X(config_set_protection)                                                                                       \
	X(map_new)                                                                                                     \
	X(map_delete)                                                                                                  \
	X(map_get_address)                                                                                             \
	X(map_get_store_granularity)                                                                                   \
	X(get_memcpy_fn)                                                                                               \
	X(get_drain_fn)                                                                                                \
	X(badblock_context_new)                                                                                        \
	X(badblock_next)                                                                                               \
	X(badblock_context_delete)                                                                                     \
	X(errormsg)

struct pmem_lib {
#define X(name) __typeof__(&pmem2_##name) name;
	PMEM_LIB_FUNCTIONS(X)
#undef X
};

/* Any thread; blocks the first time. -ENOTSUP: it is not installed, or the program is linked statically. Never unloaded. */
int pmem_lib_get(const struct pmem_lib **ret, struct quire_error *err);

#endif
