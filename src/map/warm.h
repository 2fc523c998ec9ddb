/* warm.h - which pages of a map are hot, remembered in a file from one life of the map to the next.
 *
 * A map with a warm_path has a thread that blocks on storage so that no loop does: it reads the list and wants its
 * pages, hottest first, a bounded number at a time, on the service loop; then it writes the list anew now and
 * then, and when the map ends.
 */
#ifndef MAP_WARM_H
#define MAP_WARM_H

#include "map_internal.h"
#include "warm_list.h"

struct warm {
	struct quire_map *map; /* borrowed: the map ends when this has */
	int dir_fd;            /* owned */
	char *name;            /* owned; of the list, in that directory */
	unsigned seconds;      /* 0: written at the end alone */
	unsigned max_pages;    /* of a replay, under way at a time */
	uint64_t charged_bytes;

	pthread_t thread;
	bool has_thread;       /* not for kernel mappings, nor where there are no pages */
	pthread_mutex_t lock;  /* of all below; a leaf */
	pthread_cond_t told;   /* by CLOCK_MONOTONIC */
	bool ending;
	struct quire_loop *end_loop;
	struct loop_task *end_task;
	struct quire_map_warm_stat stat;

	struct warm_list list; /* the thread's */
};

/* For a map that is otherwise complete. -ENOENT, -ENOTDIR, -EACCES (the directory), -ENOMEM, -EAGAIN. */
int warm_create(struct quire_map *m, const struct quire_map_options *opts, struct warm **ret_warm,
                struct quire_error *err);

/* Once no new operation can begin: ends a replay, has the list written while the pages are still there, and posts
 * task to loop; then warm_destroy may be called. Never blocks. */
void warm_end(struct warm *w, struct quire_loop *loop, struct loop_task *task);

/* After the task ran, or of one that was never started. NULL allowed. */
void warm_destroy(struct warm *w);

/* ---- for its own files ---- */

void warm_identify(const struct item *it, struct warm_identity *ret_id);

/* warm_replay.c: true if it came to its end: the list is at its end, or the memory is. False: the map ends. */
bool warm_replay(struct warm *w);

#endif
