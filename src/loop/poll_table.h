/* poll_table.h - IO_POLL for the engine of threads: many polls, any of them of one descriptor,
 * over the loop's epoll descriptor. The loop's thread only. */
#ifndef LOOP_POLL_TABLE_H
#define LOOP_POLL_TABLE_H

#include "loop_internal.h"

struct epoll_event;

struct poll_entry {
	struct io_list polls;
	uint32_t watched; /* what epoll watches for now; 0: not in epoll */
};

struct poll_table {
	struct poll_entry *entries; /* owned; by descriptor */
	unsigned n_entries;
	unsigned n_polls;
};

void poll_table_fini(struct poll_table *table);

/* Each ends in io_finish_later, at once if it can't be watched or needs no watching. */
void poll_table_add(struct poll_table *table, struct quire_loop *loop, struct io *io);
void poll_table_cancel(struct poll_table *table, struct quire_loop *loop, struct io *io);

/* epoll said `events` of fd. */
void poll_table_ready(struct poll_table *table, struct quire_loop *loop, int fd, uint32_t events);

#endif
