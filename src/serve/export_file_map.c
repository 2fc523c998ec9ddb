/* export_file_map.c - see export_file_map.h.
 *
 * Questions wait in a list, oldest first, each on the stack of the coroutine that asks it. One thread answers them and wakes who
 * asked. A question is the asker's again once it was woken, so the thread takes the coroutine out of it before.
 *
 * Lock: map->lock, over the list; a leaf.
 */
#include "export_file_map.h"

#include "../loop/coro.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct question {
	struct question *next;
	struct coro *asker;
	uint64_t offset, n_bytes;
	struct export_extent *extents;
	unsigned most;
	int result;
};

struct file_map {
	int fd; /* borrowed */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	struct question *first, **last;
	bool started, ending;
};

/* Where nothing is known, all is data. */
static int answer(int fd, const struct question *q)
{
	uint64_t at = q->offset, end = q->offset + q->n_bytes;
	unsigned n = 0;

	while (at < end && n < q->most) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			data = (off_t)end; /* a hole up to the end of the file */
		else if (data < 0)
			data = (off_t)at;
		off_t next = data;
		if ((uint64_t)data <= at) {
			next = lseek(fd, (off_t)at, SEEK_HOLE);
			if (next <= (off_t)at)
				next = (off_t)end;
		}
		if ((uint64_t)next > end)
			next = (off_t)end;
		q->extents[n].n_bytes = (uint64_t)next - at;
		q->extents[n++].flags = (uint64_t)data <= at ? 0 : 3;
		at = (uint64_t)next;
	}
	return (int)n;
}

static void *run(void *arg)
{
	struct file_map *map = arg;

	pthread_setname_np(pthread_self(), "quire-file-map");
	pthread_mutex_lock(&map->lock);
	for (;;) {
		struct question *q = map->first;
		if (q == NULL) {
			if (map->ending)
				break;
			pthread_cond_wait(&map->asked, &map->lock);
			continue;
		}
		map->first = q->next;
		if (map->first == NULL)
			map->last = &map->first;
		pthread_mutex_unlock(&map->lock);
		struct coro *asker = q->asker;
		q->result = answer(map->fd, q);
		coro_wake(asker);
		pthread_mutex_lock(&map->lock);
	}
	pthread_mutex_unlock(&map->lock);
	return NULL;
}

static int start(struct file_map *map)
{
	sigset_t all, old;

	if (map->started)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = -pthread_create(&map->thread, NULL, run, map);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	map->started = rc == 0;
	return rc;
}

int file_map_ask(struct file_map *map, uint64_t offset, uint64_t n_bytes, struct export_extent *ret, unsigned most)
{
	struct question q = {
		.asker = coro_self(), .offset = offset, .n_bytes = n_bytes, .extents = ret, .most = most};

	pthread_mutex_lock(&map->lock);
	int rc = start(map);
	if (rc == 0) {
		*map->last = &q;
		map->last = &q.next;
		pthread_cond_signal(&map->asked);
	}
	pthread_mutex_unlock(&map->lock);
	if (rc < 0)
		return rc;
	coro_suspend();
	return q.result;
}

struct file_map *file_map_create(int fd)
{
	struct file_map *map = calloc(1, sizeof(*map));

	if (map == NULL)
		return NULL;
	map->fd = fd;
	map->last = &map->first;
	pthread_mutex_init(&map->lock, NULL);
	pthread_cond_init(&map->asked, NULL);
	return map;
}

void file_map_destroy(struct file_map *map)
{
	if (map == NULL)
		return;
	pthread_mutex_lock(&map->lock);
	map->ending = true;
	pthread_cond_signal(&map->asked);
	pthread_mutex_unlock(&map->lock);
	if (map->started)
		pthread_join(map->thread, NULL);
	pthread_cond_destroy(&map->asked);
	pthread_mutex_destroy(&map->lock);
	free(map);
}
