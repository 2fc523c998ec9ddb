/* serve_swap.h - `--swap BYTES[,cap=BYTES][,spill=STORE]` of what serves block devices: a pool of pages that is a disk. */
#ifndef CLI_SERVE_SWAP_H
#define CLI_SERVE_SWAP_H

#include <quire/tmem.h>

struct serve_swap {
	uint64_t size_bytes;          /* 0: none was asked for */
	uint64_t cap_bytes;           /* of memory */
	const char *spill;            /* borrowed: of argv, a store's path; NULL */
	struct quire_tmem *tmem;      /* owned */
	struct quire_tmem_pool *pool; /* owned */
	struct quire_cache *cache;    /* owned: of the store; NULL */
	struct quire_store *store;    /* owned */
};

#define SERVE_SWAP_HELP \
	"  --swap BYTES[,cap=BYTES][,spill=STORE]\n" \
	"                     or this, for a system to swap to: compressed in memory, of which it takes cap (default:\n" \
	"                     half) at most; what passes it is refused, or spilled to a store; gone at the end\n"

/* One of the command's exit codes; *swap is untouched but by success. */
int serve_swap_take(struct serve_swap *swap, const char *text);
/* Makes the pool, if one was asked for. */
int serve_swap_open(struct serve_swap *swap);
/* After the server: nobody uses the pool any more. */
void serve_swap_close(struct serve_swap *swap);

#endif
