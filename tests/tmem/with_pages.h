/* with_pages.h - budgets and caps, told for pages of memory of 4 KiB, and what they are where those are larger.
 *
 * What pools take is counted by pages of memory: of each class of slots in use one is begun and not full, and so it is with tables and queues. That
 * is hardly anything with pages of 4 KiB, and megabytes with such of 64.
 */
#ifndef TESTS_TMEM_WITH_PAGES_H
#define TESTS_TMEM_WITH_PAGES_H

#include <stdint.h>
#include <unistd.h>

#define BEGUN_PAGES 64u /* by contents of many lengths, in all pools */
#define POOL_PAGES 6u   /* by the queues of one pool */

static inline uint64_t with_pages(uint64_t n_bytes, unsigned n_begun)
{
	return n_bytes + n_begun * ((uint64_t)sysconf(_SC_PAGESIZE) - 4096);
}

#endif
