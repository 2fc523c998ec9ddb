/* warm.c - a map's warm list: the thread that keeps it, and the writing.
 *
 * Life of the thread: replay → (wait for a period → write)… → told to end → write → post the task → gone.
 *
 * 1. The list is not written before a replay has come to its end: what had not come back yet would be forgotten.
 * 2. The last writing is done while the map's gate is closed and its pages are still there.
 * 3. Posting the task is the thread's last act, so whoever runs the task joins it without waiting.
 *
 * Threads: whoever creates and ends the map, and this thread; what they share is under the lock. Words of pages are
 * read as they are: a page that moves meanwhile stands in the list twice, or not at all.
 *
 * When things fail: a list that can't be written leaves the one before, and the next period tries again; one that
 * can't be read is as none. Both reasons are in quire_map_warm_stat.
 */
#include "warm.h"

#include "../base/fail.h"
#include "../cache/hot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SHARE_PERCENT 25
#define STACK_BYTES (256u << 10)

void warm_identify(const struct item *it, struct warm_identity *ret_id)
{
	*ret_id = (struct warm_identity){.offset = it->offset};
	if (it->object != NULL) {
		ret_id->kind = WARM_BLOB;
		ret_id->bytes = object_bytes(it->object);
		ret_id->id = object_id(it->object);
	} else if (it->append) {
		ret_id->kind = WARM_GROWING;
		ret_id->bytes = it->offset + atomic_load(&it->len_bytes);
	} else {
		const struct media_identity *file = media_file_identity(it->file);

		ret_id->kind = WARM_FILE;
		ret_id->bytes = file->size_bytes;
		ret_id->id = (uint64_t)file->mtime.tv_sec;
		ret_id->mtime_ns = (uint32_t)file->mtime.tv_nsec;
	}
}

/* ---- writing ---- */

/* A run of pages of the map: as runs of its items. Returns pages that were listed. */
static uint64_t warm_put(struct warm *w, uint64_t page, uint64_t n, unsigned uses)
{
	const struct quire_map *m = w->map;
	unsigned shift = m->cache->page_shift;
	uint64_t end = page + n, n_listed = 0;

	while (page < end && w->list.n_runs < WARM_MAX_RUNS) {
		struct item *it = map_item_at(m, page);
		uint64_t item_end = it->first_page + map_pages(m, it->reserve_bytes);
		uint64_t first = ((page - it->first_page) << shift) >> WARM_UNIT_SHIFT;
		uint64_t n_pages = (end < item_end ? end : item_end) - page;
		uint64_t max_pages = (uint64_t)WARM_RUN_MAX_UNITS << WARM_UNIT_SHIFT >> shift;

		if (n_pages > max_pages)
			n_pages = max_pages;
		if (first <= UINT32_MAX) {
			struct warm_run run = {
				.item = (uint32_t)(it - m->items),
				.first = (uint32_t)first,
				.n = (uint32_t)(n_pages << shift >> WARM_UNIT_SHIFT),
				.uses = uses,
			};
			warm_list_put_run(&w->list, &run);
			n_listed += n_pages;
		}
		page += n_pages;
	}
	return n_listed;
}

static uint64_t warm_put_all(struct warm *w)
{
	struct range *r = w->map->range;
	uint64_t end = r->first_page + r->n_pages, first, n, n_listed = 0;

	for (size_t i = 0; i < w->map->n_items; i++) {
		struct warm_identity id;

		warm_identify(&w->map->items[i], &id);
		warm_list_put_item(&w->list, &id);
	}
	for (unsigned uses = HOT_USES_MAX + 1; uses-- > 0;)
		for (uint64_t page = r->first_page; hot_run(r, page, end, uses, &first, &n); page = first + n)
			n_listed += warm_put(w, first - r->first_page, n, uses);
	return n_listed;
}

static void warm_save(struct warm *w)
{
	struct quire_error err = {0};
	uint64_t n_listed = 0;
	int rc = warm_list_create(&w->list, w->dir_fd, w->name, &err);

	if (rc == 0) {
		n_listed = warm_put_all(w);
		rc = warm_list_commit(&w->list, &err);
	}
	pthread_mutex_lock(&w->lock);
	if (rc == 0) {
		w->stat.n_saves++;
		w->stat.n_saved = n_listed;
	}
	w->stat.save_error = err;
	pthread_mutex_unlock(&w->lock);
}

/* ---- the thread ---- */

/* False: the map ends. */
static bool warm_wait(struct warm *w)
{
	struct timespec when;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &when);
	when.tv_sec += (time_t)w->seconds;
	pthread_mutex_lock(&w->lock);
	while (!w->ending && rc != ETIMEDOUT)
		rc = w->seconds == 0 ? pthread_cond_wait(&w->told, &w->lock)
		                     : pthread_cond_timedwait(&w->told, &w->lock, &when);
	bool ending = w->ending;
	pthread_mutex_unlock(&w->lock);
	return !ending;
}

static void *warm_main(void *arg)
{
	struct warm *w = arg;
	bool whole = warm_replay(w);

	pthread_mutex_lock(&w->lock);
	w->stat.replaying = false;
	pthread_mutex_unlock(&w->lock);
	while (warm_wait(w))
		warm_save(w);
	if (whole)
		warm_save(w);
	loop_post(w->end_loop, w->end_task);
	return NULL;
}

static int warm_start(struct warm *w)
{
	pthread_attr_t attr;
	sigset_t all, old;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	w->stat.replaying = true;
	int rc = -pthread_create(&w->thread, &attr, warm_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	w->has_thread = rc == 0;
	return rc;
}

/* ---- life ---- */

/* The directory is held: what the process takes for its own may change, and whether there is one is known now. */
static int warm_open_directory(struct warm *w, const char *path, struct quire_error *err)
{
	const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
	char *dir = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));

	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		free(dir);
		return quire_fail(err, -EINVAL, "warm list %s: no name of a file", path);
	}
	w->name = strdup(name);
	int rc = w->name == NULL || dir == NULL ? -ENOMEM : 0;
	if (rc == 0) {
		w->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = w->dir_fd < 0 ? -errno : 0;
	}
	free(dir);
	return rc < 0 ? quire_fail(err, rc, "warm list %s", path) : 0;
}

static int warm_build(struct warm *w, const struct quire_map_options *opts, struct quire_error *err)
{
	struct quire_map *m = w->map;
	uint64_t percent = opts->warm_share != 0 ? opts->warm_share : DEFAULT_SHARE_PERCENT;
	pthread_condattr_t attr;

	w->dir_fd = -1;
	w->seconds = opts->warm_seconds;
	w->max_pages = (unsigned)(loop_depth(m->cache->service) * percent / 100);
	if (w->max_pages == 0)
		w->max_pages = 1;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->told, &attr);
	pthread_condattr_destroy(&attr);
	int rc = warm_open_directory(w, opts->warm_path, err);
	if (rc < 0)
		return rc;
	if (m->range == NULL) {
		quire_fail(&w->stat.load_error, -ENOTSUP, "%s",
		           m->n_pages == 0 ? "no pages" : "the kernel decides which pages stay");
		return 0;
	}
	rc = warm_start(w);
	return rc < 0 ? quire_fail(err, rc, "the thread of warm list %s", opts->warm_path) : 0;
}

int warm_create(struct quire_map *m, const struct quire_map_options *opts, struct warm **ret_warm,
                struct quire_error *err)
{
	if (opts->warm_share > 100)
		return quire_fail(err, -EINVAL, "a share of %u percent", opts->warm_share);
	struct warm *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return quire_fail(err, -ENOMEM, "warm list %s", opts->warm_path);
	w->map = m;
	w->charged_bytes = sizeof(*w);
	budget_charge(&m->cache->budget, BUDGET_OTHER, w->charged_bytes);
	int rc = warm_build(w, opts, err);
	if (rc < 0) {
		warm_destroy(w);
		return rc;
	}
	*ret_warm = w;
	return 0;
}

void warm_end(struct warm *w, struct quire_loop *loop, struct loop_task *task)
{
	if (!w->has_thread) {
		loop_defer(loop, task);
		return;
	}
	pthread_mutex_lock(&w->lock);
	w->end_loop = loop;
	w->end_task = task;
	w->ending = true;
	pthread_cond_signal(&w->told);
	pthread_mutex_unlock(&w->lock);
}

void warm_destroy(struct warm *w)
{
	if (w == NULL)
		return;
	if (w->has_thread)
		pthread_join(w->thread, NULL);
	budget_uncharge(&w->map->cache->budget, BUDGET_OTHER, w->charged_bytes);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->told);
	if (w->dir_fd >= 0)
		close(w->dir_fd);
	free(w->name);
	free(w);
}

int quire_map_warm_stat(struct quire_map *m, struct quire_map_warm_stat *ret_stat)
{
	struct warm *w = m->warm;

	if (w == NULL)
		return -EINVAL;
	pthread_mutex_lock(&w->lock);
	*ret_stat = w->stat;
	pthread_mutex_unlock(&w->lock);
	return 0;
}
