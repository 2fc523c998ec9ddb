/* tmem_store.h - pools and a store, beneath their public face. */
#ifndef BLOB_TMEM_STORE_H
#define BLOB_TMEM_STORE_H

#include "../store/store.h"

#include <quire/tmem_store.h>

/* As the public calls, without their looks at the caller. */
int tmem_store_set_backing(struct quire_tmem *tmem, struct store *s, unsigned cls,
                           const struct quire_tmem_backing_options *opts, struct quire_error *err);
int tmem_store_save(struct quire_tmem_pool *pool, struct store *s, unsigned cls, const char *name, struct quire_error *err);
int tmem_store_restore(struct quire_tmem *tmem, struct store *s, const char *name,
                       const struct quire_tmem_pool_options *opts, struct quire_tmem_pool **ret_pool,
                       struct quire_error *err);
int tmem_store_forget(struct store *s, const char *name);

#endif
