/* tmem_corpus.h - pages of a file, what the programs that put and get pages have in common. */
#ifndef BENCH_TMEM_CORPUS_H
#define BENCH_TMEM_CORPUS_H

#include "clock.h"

#include <quire/tmem.h>
#include <stdint.h>

#define PAGE 4096u

struct corpus {
	const uint8_t *pages; /* mapped, populated; until the process ends */
	size_t n;
};

/* The file's first pages, at least one. Ends the program if there are none. */
struct corpus corpus_map(const char *path, uint64_t most_bytes);

/* Where a page is put: as files of 256 KiB would. */
static inline struct quire_tmem_key key_of(size_t page)
{
	return (struct quire_tmem_key){.object = {page / 64, 1, 2}, .index = (uint32_t)(page % 64)};
}

/* One line on stderr, and the end. error: an errno. */
_Noreturn void fail(const char *what, int error);

#endif
