/* store.h - what the parts of bench-store share. Each part runs rounds, in which a peer and Quire take turns, and
 * prints one JSON object with what each round gave.
 */
#ifndef BENCH_STORE_H
#define BENCH_STORE_H

#include "clock.h"
#include "fail.h"

#include <quire/quire.h>

#include <stdint.h>

#define STORE_PAGE_BYTES 4096u

struct store_bench {
	const char *dir;  /* borrowed; where data is, or is put */
	uint64_t n;       /* bytes, or blobs */
	double seconds;   /* of one turn */
	unsigned rounds;
};

/* All return 0, or a negative errno after one line on stderr. */
int store_bench_commit(const struct store_bench *b);
int store_bench_fill(const struct store_bench *b); /* a store of n small blobs, made anew */
int store_bench_open(const struct store_bench *b);
int store_bench_read(const struct store_bench *b);

/* ---- for all ---- */

/* DIR/name; owned by the caller. */
char *store_path(const struct store_bench *b, const char *name);

/* An open store with its cache. made: begun anew, of class file bytes, whatever was there. */
struct open_store {
	struct quire_cache *cache;
	struct quire_store *store;
};
int store_make(const char *path, uint64_t bytes);
int store_open_at(const char *path, struct open_store *ret);
void store_shut(struct open_store *s);

#endif
