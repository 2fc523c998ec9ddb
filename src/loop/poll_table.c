/* poll_table.c - see poll_table.h.
 *
 * epoll takes a descriptor once, so an entry watches for the union of what its polls ask for, one
 * shot: whenever polls of it remain, it is armed again, which reports at once what is still there.
 * Whoever closes a descriptor that is polled breaks his promise; another file under the same number
 * is coped with (EEXIST, ENOENT), nothing more.
 */
#include "poll_table.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP &&
              POLLPRI == EPOLLPRI && POLLRDHUP == EPOLLRDHUP, "epoll speaks poll");

void poll_table_fini(struct poll_table *table)
{
	free(table->entries);
}

static int reserve(struct poll_table *table, int fd)
{
	if ((unsigned)fd < table->n_entries)
		return 0;
	unsigned n = table->n_entries != 0 ? table->n_entries : 64;
	while (n <= (unsigned)fd)
		n *= 2;
	struct poll_entry *entries = realloc(table->entries, n * sizeof(*entries));
	if (entries == NULL)
		return -ENOMEM;
	memset(entries + table->n_entries, 0, (n - table->n_entries) * sizeof(*entries));
	table->entries = entries;
	table->n_entries = n;
	return 0;
}

static uint32_t wanted(const struct io *io)
{
	return (io->flags & 0xffff) | EPOLLERR | EPOLLHUP;
}

static int watch(struct quire_loop *loop, struct poll_entry *entry, int fd)
{
	uint32_t events = 0;
	for (struct io *io = entry->polls.first; io != NULL; io = io_private(io)->next)
		events |= wanted(io);
	struct epoll_event event = {.events = events | EPOLLONESHOT, .data.fd = fd};
	int op = entry->watched != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	if (epoll_ctl(loop->epoll_fd, op, fd, &event) < 0) {
		if (errno != EEXIST && errno != ENOENT)
			return -errno;
		op = op == EPOLL_CTL_MOD ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
		if (epoll_ctl(loop->epoll_fd, op, fd, &event) < 0)
			return -errno;
	}
	entry->watched = events;
	return 0;
}

static void remove_poll(struct poll_table *table, struct quire_loop *loop, struct io *io, int64_t result)
{
	io_list_remove(&table->entries[io->fd].polls, io);
	table->n_polls--;
	io_finish_later(loop, io, result);
}

static void unwatch_if_empty(struct quire_loop *loop, struct poll_entry *entry, int fd)
{
	if (entry->polls.first != NULL || entry->watched == 0)
		return;
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	entry->watched = 0;
}

/* Regular files and directories are not for epoll; poll(2) calls them always ready. */
static int64_t poll_unwatchable(const struct io *io)
{
	struct pollfd p = {.fd = io->fd, .events = (short)io->flags};
	int rc = poll(&p, 1, 0);
	if (rc < 0)
		return -errno;
	return p.revents & POLLNVAL ? -EBADF : p.revents;
}

void poll_table_add(struct poll_table *table, struct quire_loop *loop, struct io *io)
{
	if (io->fd < 0) {
		io_finish_later(loop, io, -EBADF);
		return;
	}
	int rc = reserve(table, io->fd);
	if (rc < 0) {
		io_finish_later(loop, io, rc);
		return;
	}
	struct poll_entry *entry = &table->entries[io->fd];
	io_list_append(&entry->polls, io);
	table->n_polls++;
	/* Of a descriptor already watched for the same, there is nothing to tell epoll. */
	if (entry->watched != 0 && (wanted(io) & ~entry->watched) == 0)
		return;
	rc = watch(loop, entry, io->fd);
	if (rc < 0)
		remove_poll(table, loop, io, rc == -EPERM ? poll_unwatchable(io) : rc);
}

void poll_table_cancel(struct poll_table *table, struct quire_loop *loop, struct io *io)
{
	int fd = io->fd;
	remove_poll(table, loop, io, -ECANCELED);
	unwatch_if_empty(loop, &table->entries[fd], fd);
}

void poll_table_ready(struct poll_table *table, struct quire_loop *loop, int fd, uint32_t events)
{
	struct poll_entry *entry = &table->entries[fd];
	struct io *io = entry->polls.first;
	while (io != NULL) {
		struct io *next = io_private(io)->next;
		uint32_t present = events & wanted(io);
		if (present != 0)
			remove_poll(table, loop, io, present);
		io = next;
	}
	if (entry->polls.first == NULL) {
		unwatch_if_empty(loop, entry, fd);
		return;
	}
	int rc = watch(loop, entry, fd);
	while (rc < 0 && entry->polls.first != NULL)
		remove_poll(table, loop, entry->polls.first, rc);
}
