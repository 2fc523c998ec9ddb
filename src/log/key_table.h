/* key_table.h - hash of a key -> lsn of its newest record; 16 bytes each, in tables that are two thirds to four fifths full.
 *
 * A thousand small tables by the upper bits of the hash, each of open addressing: so one of them is grown at a time, in some
 * microseconds, however many keys there are. Where a hash belongs in its table follows its next bits in their order, so a
 * table is grown by one pass over it. An entry is never taken out: those of records that were trimmed go when their
 * table is made anew, for more room or less.
 *
 * One entry for each hash. The hashes are keyed (base/keyed_hash.h), so nobody can crowd a table.
 *
 * Not thread-safe. Invariants:
 *   1. n of a table is the number of its slots in use, less than capacity unless both are 0; n of all is their sum.
 *   2. From where a hash belongs to where it is, no slot is free.
 */
#ifndef LOG_KEY_TABLE_H
#define LOG_KEY_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define KEY_TABLE_SHARD_BITS 10u
#define KEY_TABLE_SHARDS (1u << KEY_TABLE_SHARD_BITS)
#define KEY_TABLE_NONE UINT64_MAX

struct key_slot {
	uint64_t hash;
	uint64_t end_lsn; /* lsn + 1; 0: free */
};

struct key_shard {
	struct key_slot *slots; /* owned */
	uint32_t n, capacity;
};

/* Zeroed, it is empty. */
struct key_table {
	struct key_shard shards[KEY_TABLE_SHARDS];
	uint64_t n;           /* entries, those below first_lsn that were not met since included */
	uint64_t slots_bytes;
};

void key_table_fini(struct key_table *t);

/* KEY_TABLE_NONE: there is none. */
uint64_t key_table_get(const struct key_table *t, uint64_t hash);

/* The newest stays. ret_old: what was there, or KEY_TABLE_NONE. Entries below first_lsn are of no use. -ENOMEM: nothing changed. */
int key_table_put(struct key_table *t, uint64_t hash, uint64_t lsn, uint64_t first_lsn, uint64_t *ret_old);

/* Entries below first_lsn leave one of the tables, and what memory it then does not need; without memory for that
 * they stay. Returns how many slots it looked at. */
uint32_t key_table_purge(struct key_table *t, unsigned shard, uint64_t first_lsn);

/* True if the invariants hold. */
bool key_table_check(const struct key_table *t);

#endif
