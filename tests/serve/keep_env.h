/* keep_env.h - a store in a directory of its own, and a service that keeps pools in it. */
#ifndef TESTS_SERVE_KEEP_ENV_H
#define TESTS_SERVE_KEEP_ENV_H

#include "serve_env.h"

#include <quire/quire.h>
#include <quire/tmem_store.h>

extern struct env keep_env;
extern struct quire_store *keep_store;         /* while it is up */
extern unsigned keep_n_told;                   /* troubles, since it is up */
extern char keep_told[QUIRE_ERROR_TEXT_BYTES]; /* the last */

/* The directory, and an empty store there. */
void keep_make(void);
void keep_unmake(void);
void keep_in_dir(char path[256], const char *name);
/* Opens the store and serves, in this process. kept_bytes as in the service's options. */
void keep_up(uint64_t kept_bytes);
void keep_up_with(struct quire_tmem_service_options *o); /* the store is filled in */
void keep_down(void);

/* Shared, with a cap of 4 MiB. */
struct quire_tmem_remote *keep_make_pool(struct quire_tmem_client *c, enum quire_tmem_kind kind, uint8_t uuid);
struct quire_tmem_remote *keep_open_pool(struct quire_tmem_client *c, uint8_t uuid);
/* What an open gives. */
int keep_try_pool(struct quire_tmem_client *c, uint8_t uuid);

#endif
