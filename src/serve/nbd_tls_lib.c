/* nbd_tls_lib.c - see nbd_tls_lib.h. */
#include "nbd_tls_lib.h"

#include "../base/library.h"

static struct nbd_tls_lib lib;

static const struct library_function functions[] = {
#define X(name) {"gnutls_" #name, &lib.name},
	NBD_TLS_LIB_FUNCTIONS(X)
#undef X
};

static struct library library = LIBRARY("TLS", "libgnutls.so.30", functions);

int nbd_tls_lib_get(const struct nbd_tls_lib **ret, struct quire_error *err)
{
	int rc = library_load(&library, err);

	if (rc == 0)
		*ret = &lib;
	return rc;
}
