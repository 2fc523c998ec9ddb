/* present.h - is a range of memory there already, and may it be read? */
#ifndef ASYNC_MAP_PRESENT_H
#define ASYNC_MAP_PRESENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beyond it a look takes too long for a caller that must not wait. */
#define PRESENT_MAX_PAGES 512u

/* True if each of n_pages pages from start on (aligned) is mapped by a page table entry and may be
 * read. False if not, or not known. Any thread; no storage is waited for. */
bool present_and_readable(uintptr_t start, size_t n_pages, size_t page_bytes);

#endif
