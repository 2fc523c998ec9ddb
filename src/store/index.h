/* index.h - all committed objects, in the order of their ids: 32 bytes each, and little around them.
 *
 * Not thread-safe: the owner locks. Pointers to entries are good until the next insert or remove.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include "extents.h"

struct index_entry {
	uint64_t id;
	uint64_t len_bytes;
	uint64_t where;        /* unit of the one extent; or, if `many`, a struct index_extents * (owned) */
	uint32_t sum;          /* of the page, of an object of one page */
	unsigned class_no : 2;
	unsigned page_shift : 6;
	unsigned tag : 8;
	unsigned many : 1;
	unsigned hidden : 1;   /* of a transaction that is not durable yet */
	unsigned removing : 1; /* by one */
};
static_assert(sizeof(struct index_entry) == 32, "a million take 32 MB");

struct index_extents {
	unsigned n;
	struct extent extents[];
};

struct index_leaf;

struct index {
	struct index_leaf **leaves; /* owned; sorted, none empty */
	size_t n_leaves, capacity;
	uint64_t n;
	uint64_t n_bytes;           /* of memory, extents included */
};

void index_fini(struct index *ix);

/* Copies the extents. -EEXIST, -ENOMEM. `where` and `many` of the entry are not looked at. */
int index_insert(struct index *ix, const struct index_entry *entry, const struct extent_list *extents);
struct index_entry *index_find(const struct index *ix, uint64_t id); /* NULL: not there */
void index_remove(struct index *ix, uint64_t id);                    /* it is there */
struct index_entry *index_next(const struct index *ix, uint64_t after); /* the first above; NULL */

/* Extents of an entry: the one through `one`, which the caller gives, or those it has. */
const struct extent *index_entry_extents(const struct index_entry *e, struct extent *one, unsigned *ret_n);

bool index_check(const struct index *ix);

#endif
