/* blobs.h - a store for each test of blobs in maps. */
#ifndef TESTS_MAP_BLOBS_H
#define TESTS_MAP_BLOBS_H

#include "../support/maps.h"

#define CLASS_BYTES (64 * MIB)

extern struct quire_store *store; /* between store_begin and store_end */
extern const char *dir;           /* where it is */

/* Before there is a store, which a skipped test would leave behind. */
void skip_if_impossible(void);

/* A store with the classes capacity and staging. */
void store_begin(void);
void store_end(void);

/* A committed blob with the content of a file of that seed. */
uint64_t blob_put(enum quire_class cls, unsigned seed, uint64_t len_bytes);

struct quire_map *map_blob(uint64_t id);

#endif
