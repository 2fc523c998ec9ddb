/* pmem_lib.c - see pmem_lib.h. */
#include "pmem_lib.h"

#include "../base/library.h"

static struct pmem_lib lib;

static const struct library_function functions[] = {
#define X(name) {"pmem2_" #name, &lib.name},
	PMEM_LIB_FUNCTIONS(X)
#undef X
};

static struct library library = LIBRARY("persistent memory", "libpmem2.so.1", functions);

int pmem_lib_get(const struct pmem_lib **ret, struct quire_error *err)
{
	int rc = library_load(&library, err);

	if (rc == 0)
		*ret = &lib;
	return rc;
}
