/* backing.h - where contents of pools with QUIRE_TMEM_SPILL may go: space in segments, handed in from above.
 *
 * What is there is of use to the one tmem, while it lives; it need outlive nothing. Calls are made without the tmem's lock.
 */
#ifndef TMEM_BACKING_H
#define TMEM_BACKING_H

#include <quire/tmem.h>

struct tmem_backing_ops {
	/* Whoever writes, or takes a segment, is alone between the two. begin may suspend or block: 0; -EDEADLK: not here. */
	int (*begin)(void *arg);
	void (*end)(void *arg);
	int (*take)(void *arg, uint64_t *ret_at);   /* a segment; -ENOSPC, … May suspend or block */
	void (*give)(void *arg, uint64_t at);       /* back; waits for nothing. By anybody */
	/* Whole, in one I/O where its medium allows that; in multiples of align_bytes, the memory too. May suspend or block;
	 * -EDEADLK where that can't be. A read may be beside anything. */
	int (*write)(void *arg, uint64_t at, const void *buf, uint64_t n_bytes);
	int (*read)(void *arg, uint64_t at, void *buf, uint64_t n_bytes);
	void (*close)(void *arg);                   /* with all segments */
};

struct tmem_backing {
	const struct tmem_backing_ops *ops;
	void *arg;              /* owned, once it is set */
	uint32_t segment_bytes; /* a multiple of align_bytes, at most TMEM_SEGMENT_MOST */
	uint32_t align_bytes;   /* a power of two */
	uint32_t page_most_bytes; /* of pools that use it */
};

#define TMEM_SEGMENT_MOST (64u << 20)

/* Contents may go there from now on. -EBUSY: there is one; -EINVAL: there is a pool with larger pages; -ENOMEM: its buffers, which are
 * charged to the budget. */
int tmem_backing_set(struct quire_tmem *tmem, const struct tmem_backing *backing, struct quire_error *err);
/* Closed; -EBUSY: something is there, or a call is under way; -ENOENT: there is none. quire_tmem_destroy does the same, whatever is there. */
int tmem_backing_clear(struct quire_tmem *tmem);

#endif
