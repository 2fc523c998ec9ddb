/* memcached_lib.c - see memcached_lib.h. */
#include "memcached_lib.h"

#include "../base/library.h"

static struct memcached_lib lib;

static const struct library_function functions[] = {
#define X(name) {"memcached_" #name, &lib.name},
	MEMCACHED_LIB_FUNCTIONS(X)
#undef X
};

static struct library library = LIBRARY("memcached", "libmemcached.so.11", functions);

int memcached_lib_get(const struct memcached_lib **ret, struct quire_error *err)
{
	int rc = library_load(&library, err);

	if (rc == 0)
		*ret = &lib;
	return rc;
}
