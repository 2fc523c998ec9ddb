/* memcached_lib.h - libmemcached, loaded when it is first needed. For src/serve alone.
 *
 * Not linked: it brings the C++ run-time, SASL and OpenSSL, which a program without a remote tier should not have to load at each start. */
#ifndef SERVE_MEMCACHED_LIB_H
#define SERVE_MEMCACHED_LIB_H

#include <quire/error.h>

#include <libmemcached/memcached.h>

/* What is taken of it, by the library's own names. */
#define MEMCACHED_LIB_FUNCTIONS(X)                                                                                     \
	X(create)                                                                                                      \
	X(clone)                                                                                                       \
	X(free)                                                                                                        \
	X(behavior_set)                                                                                                \
	X(server_add)                                                                                                  \
	X(server_add_unix_socket)                                                                                      \
	X(set)                                                                                                         \
	X(get)                                                                                                         \
	X(delete)

struct memcached_lib {
#define X(name) __typeof__(&memcached_##name) name;
	MEMCACHED_LIB_FUNCTIONS(X)
#undef X
};

/* Any thread; blocks the first time. -ENOTSUP: it is not installed, or the program is linked statically. Never unloaded. */
int memcached_lib_get(const struct memcached_lib **ret, struct quire_error *err);

#endif
