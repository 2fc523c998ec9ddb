/* process_mark.c - see process_mark.h. */
#include "process_mark.h"

#include <stddef.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

void process_mark_init(struct process_mark *m)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	char *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*m = (struct process_mark){.pid = getpid()};
	if (page == MAP_FAILED)
		return;
	if (madvise(page, page_bytes, MADV_WIPEONFORK) < 0) {
		munmap(page, page_bytes);
		return;
	}
	*page = 1;
	m->alive = page;
}

void process_mark_fini(struct process_mark *m)
{
	if (m->alive != NULL)
		munmap((void *)(size_t)m->alive, (size_t)sysconf(_SC_PAGESIZE));
	m->alive = NULL;
}
