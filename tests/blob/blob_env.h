/* blob_env.h - a store in a directory of the test's own, and content that tells what it is. */
#ifndef TESTS_BLOB_BLOB_ENV_H
#define TESTS_BLOB_BLOB_ENV_H

#include "../support/files.h"
#include "../support/random.h"

#include <errno.h>
#include <quire/quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CAPACITY_BYTES (128 * MIB)

extern struct quire_cache *cache;
extern struct quire_store *store; /* open, or NULL */
extern struct quire_error err;    /* of the last env_open, env_create */
extern const char *dir;           /* of the store; another for each test */

/* A cache, and a new store that is open; afterwards nothing may be left. */
int env_setup(void **state);
int env_teardown(void **state);
/* A directory's name alone; for tests that begin with a fork. */
int env_name_setup(void **state);

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, env_setup, env_teardown)
#define WITH_NAME(test) cmocka_unit_test_setup_teardown(test, env_name_setup, env_teardown)

void env_cache(void); /* opens it, if it is not */
int env_create(uint64_t bytes);
int env_open(unsigned flags); /* store */
void env_close(void);         /* must succeed; and the cache stays */
void env_reopen(void);
const char *in_dir(const char *name); /* a path in the store's directory */

/* A blob of the content that belongs to its id. */
uint64_t begin(enum quire_class cls);
int append(uint64_t id, uint64_t offset, uint64_t len_bytes);
int commit(uint64_t id);
int delete(uint64_t id);
uint64_t put(uint64_t len_bytes); /* committed */
/* 0: whole and right; what the read said; -EILSEQ. */
int verify(uint64_t id, uint64_t len_bytes);
int64_t read_at(uint64_t id, uint64_t offset, void *buf, size_t len_bytes);
void fill(uint64_t id, uint64_t offset, void *buf, uint64_t len_bytes);

/* Findings; printed. */
int64_t check(void);


#endif
