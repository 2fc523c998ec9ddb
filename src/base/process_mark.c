/* process_mark.c - see process_mark.h. */
#include "process_mark.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* A fact about the process, not about any object of ours: so it is static. */
_Atomic unsigned process_n_forks;

static void count_fork(void)
{
	atomic_fetch_add_explicit(&process_n_forks, 1, memory_order_relaxed);
}

/* Where there is no memory for it, the page tells alone. */
static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, count_fork);
}

void process_mark_init(struct process_mark *m)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	char *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)pthread_once(&once, watch_forks);
	*m = (struct process_mark){.n_forks = atomic_load(&process_n_forks)};
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
