/* import_known.h - what the store has already of a tree: by earlier imports of that name, finished or not.
 *
 * A file is known by its identity (device, inode, length, mtime, ctime): equality only, so clocks may say what they like.
 * Filled before there is another thread; from then on known_use alone is called, by one thread at a time.
 */
#ifndef CLI_IMPORT_KNOWN_H
#define CLI_IMPORT_KNOWN_H

#include "tree.h"

#include <stdbool.h>

struct known_file {
	uint64_t dev, inode, len_bytes, blob; /* blob 0: a free slot */
	struct timespec mtime, ctime;
	bool used;
};

struct known {
	struct known_file *files; /* owned; a hash table, capacity a power of two */
	size_t n, capacity;
	uint64_t *indexes;        /* owned: blobs of finished indexes and of parts of that name */
	size_t n_indexes;
	unsigned n_damaged;       /* indexes and parts that can't be read, of whatever name: what is in them is not known */
	uint64_t damaged;         /* the last of these, and why */
	int damage;
};

/* Reads every index and part of that name. 0, or a negative errno; known_free also then. */
int known_load(struct known *k, struct quire_store *store, const char *name);
void known_free(struct known *k);

/* The blob of a file of that identity, marked as used; 0: there is none. */
uint64_t known_use(struct known *k, const struct tree_entry *e);

#endif
