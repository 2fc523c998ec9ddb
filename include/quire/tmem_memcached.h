/* quire/tmem_memcached.h - evicted pages go to the memory of other machines, and come back: memcached servers as a remote tier (RAMster).
 *
 * What is expected of servers is nothing: one that is lost, slow, emptied, restarted with what it had, or wrong costs hits, never a wrong
 * byte. Each value is under a key that is used once, of 128 random bits and a version, and says which pool, object, index and
 * version it is, with a checksum; what doesn't match is a miss. Values are not encrypted: who can read the servers or the network can read
 * pages, who can write there can make them misses.
 */
#ifndef QUIRE_TMEM_MEMCACHED_H
#define QUIRE_TMEM_MEMCACHED_H

#include <quire/tmem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_tmem_memcached_options {
	size_t size;
	uint32_t timeout_ms;  /* that a server has to answer: 2 to 60,000; default 100 */
	uint32_t retry_s;     /* a server that failed is asked again after so long: 1 to 3,600; default 2 */
	uint64_t queue_bytes; /* of pages on their way, charged to the budget: 128 KiB to 4 GiB - 8; default 1 MiB */
};

/* Pools with QUIRE_TMEM_REMOTE, which there may be already, have their pages go there when they are evicted: compressed as they are, by a thread
 * of the library's, out of a queue; when it is full, pages are just evicted. Of each some 40 bytes stay in memory, for an eighth of what its pool holds at
 * most: beyond that the oldest are forgotten. Pages of one word, or equal to others, or packed by zstd don't go.
 *
 * servers: "host", "host:port", "[address]:port" or "unix:/path", with commas between; up to 64. Names are looked up here, once. Which server has a
 * page is decided by consistent hashing (ketama). One that fails is left out, its pages being misses, until it is tried again.
 *
 * A get of such a page takes it from the queue, or asks its server, and blocks for that: about timeout_ms at most if the server is silent,
 * plus what its sending takes. No answer, or a wrong one, is -ENOENT, and the page is gone. It stays remote until it is taken. A loop's thread must not block so: there a get is
 * -EDEADLK, and the page stays; a batch with an op asks on the tmem's threads. A put or flush of such a page doesn't wait; its value
 * is deleted some time later, or left for the server to evict. A copy of a pool (quire_tmem_copy_begin) has no pages that are remote.
 *
 * Beside the budget each thread that asks at the same time takes some 30 KiB for each server, and a connection; 16 are kept.
 * -EINVAL: servers, options; -ENOENT: a name is not known; -ENOTSUP: libmemcached.so.11 can't be loaded; -EBUSY: there are such servers; -ENOMEM; -EAGAIN.
 * Blocks while names are looked up. */
int quire_tmem_set_memcached(struct quire_tmem *tmem, const char *servers, const struct quire_tmem_memcached_options *opts,
                             struct quire_error *err);
/* No server is asked any more; pages that are there are gone. Waits for what is just being sent. -EBUSY: a get is under way; -ENOENT: there are
 * none. quire_tmem_destroy does the same. */
int quire_tmem_clear_memcached(struct quire_tmem *tmem);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
