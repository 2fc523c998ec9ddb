/* io_flusher.h - marks a thread as one that memory reclaim may be waiting for (PR_SET_IO_FLUSHER): a page that is to be written to a device is
 * written by the server behind it, whose own memory must then not depend on such a write. Threads that it makes inherit the mark.
 */
#ifndef SERVE_IO_FLUSHER_H
#define SERVE_IO_FLUSHER_H

#include <stdbool.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

/* True: it was not marked, and is now. Needs CAP_SYS_RESOURCE. */
static inline bool io_flusher_mark(void)
{
	return prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 0 && prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
}

static inline void io_flusher_unmark(bool marked)
{
	if (marked)
		(void)prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
}

#endif
