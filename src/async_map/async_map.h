/* async_map.h - a request for pages or for durability, checked and started: what both forms share. */
#ifndef ASYNC_MAP_ASYNC_MAP_H
#define ASYNC_MAP_ASYNC_MAP_H

#include <quire/async_map.h>

/* Whole pages; start == end: nothing is asked for. */
struct async_range {
	uintptr_t start, end;
};

/* -EINVAL: wraps round, or unknown flags. */
int async_range_of(const void *addr, size_t len_bytes, unsigned flags, struct async_range *ret_range);

/* True if nothing is left to do. Never waits for storage. */
bool async_range_done(const struct async_range *range, unsigned flags);

/* The loop that drives what this thread starts: its own, or the service's. -ECHILD, -ENOTSUP and
 * what starting a thread may say. */
int async_home(struct quire_loop **ret_loop);

/* Starts op, which is initialised and idle, on home as of async_home. */
int async_populate(const struct async_range *range, unsigned flags, struct quire_op *op, struct quire_loop *home);
int async_fdatasync(int fd, struct quire_op *op, struct quire_loop *home);

#endif
