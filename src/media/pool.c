/* pool.c - at most so many descriptors for any number of files.
 *
 * A file is closed, opening, open, or held:
 *
 *            first read          opened
 *   closed ─────────────→ opening ────────→ open (0 users: idle; else in use)
 *     ↑ ↑                  │  ↑                │
 *     │ └── failed ────────┘  │ a descriptor   │ others need the descriptor
 *     │                       │ became free    │ (idle ones only)
 *     │                    starved             │
 *     └────────────────────────────────────────┘
 *
 * held: opened once, with the file; never given up, and not among max_open.
 *
 * Who leaves is chosen by a clock: a hand goes round the open files, passes those in use,
 * passes once those used since it came by, and takes the next.
 *
 * Invariants:
 * 1. n_open ≤ n_reserved ≤ max_open: a place is reserved before an open begins. Three kinds of
 *    descriptor stand outside: held ones, one for each thread that is in media_read_now
 *    with a file that was closed, and those of independent reads that found no other.
 * 2. Users are added only while a descriptor is there, and it is taken away only while
 *    there are none: both by compare-and-swap on one word, so uses need no lock.
 * 3. A file is in the ring exactly while it is open and not held; in the starved queue
 *    only while it is opening.
 * 4. Reads wait at a file only while it is opening. The first of them drives the open, on
 *    its own loop; the others are posted to theirs.
 *    Where that one may not wait for a descriptor (an independent read), nobody waits for him.
 * 5. A file starves only while another's descriptor is in use: whoever gives back the last
 *    use of a descriptor looks at n_starved after that, whoever starves looks for idle ones
 *    after having raised n_starved; so one of the two sees the other.
 *
 * Threads: any. One lock, held for a few dozen instructions, or a walk round the ring at
 * worst; never over a system call, and never while a caller's memory is touched: such a
 * touch may fault, and the fault handler reads through this pool.
 */
#include "media_internal.h"

#include "../base/assert.h"
#include "../base/feature.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

static unsigned default_max_open(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 64;
	rlim_t quarter = limit.rlim_cur / 4;
	return quarter < 4 ? 4 : quarter > 65536 ? 65536 : (unsigned)quarter;
}

int media_pool_create(unsigned max_open, bool buffered, struct media_pool **ret_pool)
{
	struct media_pool *pool = calloc(1, sizeof(*pool));
	if (pool == NULL)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_mutex_init(&pool->spare_lock, NULL);
	pool->max_open = max_open > 0 ? max_open : default_max_open();
	pool->buffered = buffered || !feature_have(FEATURE_DIRECT);
	pool->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
	pool->starved_tail = &pool->starved;
	pool->bytes = sizeof(*pool);
	pool->spare = eventfd(0, EFD_CLOEXEC);
	*ret_pool = pool;
	return 0;
}

void media_pool_destroy(struct media_pool *pool)
{
	if (pool == NULL)
		return;
	quire_assert(atomic_load(&pool->n_files) == 0 && pool->n_reserved == 0);
	if (pool->spare >= 0)
		close(pool->spare);
	pthread_mutex_destroy(&pool->spare_lock);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

unsigned media_pool_n_open(const struct media_pool *pool)
{
	return atomic_load(&pool->n_open) + atomic_load(&pool->n_held);
}

uint64_t media_pool_bytes(const struct media_pool *pool)
{
	return atomic_load(&pool->bytes);
}

/* ---- the ring; all under the lock ---- */

/* Where the hand comes by last. */
static void ring_insert(struct media_pool *pool, struct media_file *file)
{
	if (pool->hand == NULL) {
		file->next = file->prev = file;
		pool->hand = file;
	} else {
		file->next = pool->hand;
		file->prev = pool->hand->prev;
		file->prev->next = file;
		file->next->prev = file;
	}
	atomic_fetch_add(&pool->n_open, 1);
}

static void ring_remove(struct media_pool *pool, struct media_file *file)
{
	if (pool->hand == file)
		pool->hand = file->next == file ? NULL : file->next;
	file->prev->next = file->next;
	file->next->prev = file->prev;
	file->next = file->prev = NULL;
	atomic_fetch_sub(&pool->n_open, 1);
}

static int descriptor_of(uint64_t word)
{
	return (int)(uint32_t)word - 1;
}

static uint64_t word_of(int fd, unsigned n_users)
{
	return (uint64_t)(fd + 1) | n_users * DESCRIPTOR_USER;
}

/* Takes the descriptor of an idle file; the caller closes it. -1: all are in use. */
static int evict_locked(struct media_pool *pool)
{
	for (unsigned left = 2 * atomic_load(&pool->n_open); left > 0; left--) {
		struct media_file *file = pool->hand;
		pool->hand = file->next;

		uint64_t word = atomic_load(&file->descriptor);
		if (word >= DESCRIPTOR_USER)
			continue;
		if (atomic_exchange_explicit(&file->referenced, false, memory_order_relaxed))
			continue;
		if (!atomic_compare_exchange_strong(&file->descriptor, &word, 0))
			continue;
		ring_remove(pool, file);
		pool->n_reserved--;
		return descriptor_of(word);
	}
	return -1;
}

/* A place among max_open; *ret_victim is to be closed, if not -1. */
static bool reserve_locked(struct media_pool *pool, int *ret_victim)
{
	*ret_victim = -1;
	if (pool->n_reserved >= pool->max_open) {
		*ret_victim = evict_locked(pool);
		if (*ret_victim < 0)
			return false;
	}
	pool->n_reserved++;
	return true;
}

static void close_victim(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* ---- starving ---- */

static void starve_locked(struct media_file *file)
{
	struct media_pool *pool = file->pool;
	file->next = NULL;
	*pool->starved_tail = file;
	pool->starved_tail = &file->next;
}

static void open_task(struct loop_task *task)
{
	struct media_read *read =
		(struct media_read *)((char *)task - offsetof(struct media_read, task));
	media_open_start(read->file);
}

/* Starts the oldest of the starved, as many as there are places for. */
static void feed(struct media_pool *pool)
{
	int victim;
	for (;;) {
		pthread_mutex_lock(&pool->lock);
		struct media_file *file = pool->starved;
		if (file == NULL || !reserve_locked(pool, &victim)) {
			pthread_mutex_unlock(&pool->lock);
			return;
		}
		pool->starved = file->next;
		if (pool->starved == NULL)
			pool->starved_tail = &pool->starved;
		file->next = NULL;
		atomic_fetch_sub(&pool->n_starved, 1);
		struct media_read *opener = file->waiters;
		pthread_mutex_unlock(&pool->lock);

		close_victim(victim);
		loop_task_init(&opener->task, open_task);
		loop_post(opener->loop, &opener->task);
	}
}

int descriptor_exhausted(struct media_file *file, bool may_wait)
{
	struct media_pool *pool = file->pool;
	pthread_mutex_lock(&pool->lock);
	atomic_fetch_add(&pool->n_starved, 1);
	int victim = evict_locked(pool);
	bool hopeless = victim < 0 && atomic_load(&pool->n_open) == 0;
	if (victim >= 0 || hopeless || !may_wait) {
		atomic_fetch_sub(&pool->n_starved, 1);
	} else {
		pool->n_reserved--;
		starve_locked(file);
	}
	pthread_mutex_unlock(&pool->lock);

	close_victim(victim);
	return victim >= 0 ? 1 : hopeless ? -EMFILE : may_wait ? 0 : -EAGAIN;
}

/* ---- uses ---- */

int descriptor_get(struct media_file *file)
{
	uint64_t word = atomic_load_explicit(&file->descriptor, memory_order_relaxed);
	do {
		if ((uint32_t)word == 0)
			return -1;
	} while (!atomic_compare_exchange_weak(&file->descriptor, &word, word + DESCRIPTOR_USER));

	if (!atomic_load_explicit(&file->referenced, memory_order_relaxed))
		atomic_store_explicit(&file->referenced, true, memory_order_relaxed);
	return descriptor_of(word);
}

void descriptor_put(struct media_file *file)
{
	/* Read before: with the last use given back, the file may be closed and freed. */
	struct media_pool *pool = file->pool;
	uint64_t before = atomic_fetch_sub(&file->descriptor, DESCRIPTOR_USER);
	quire_assert(before >= DESCRIPTOR_USER);
	if (before < 2 * DESCRIPTOR_USER && atomic_load(&pool->n_starved) > 0)
		feed(pool);
}

enum wait_outcome descriptor_wait(struct media_read *read)
{
	struct media_file *file = read->file;
	struct media_pool *pool = file->pool;
	enum wait_outcome outcome = WAIT_QUEUED;
	int victim = -1;
	bool starved = false;

	pthread_mutex_lock(&pool->lock);
	read->fd = descriptor_get(file);
	if (read->fd >= 0) {
		pthread_mutex_unlock(&pool->lock);
		return WAIT_OPEN;
	}
	/* Whoever drives the open on another loop, or uses the descriptors, may be a thread that
	 * waits for this very read. */
	bool other_opens = file->opening && file->waiters->loop != read->loop;
	bool reserved = !file->opening && reserve_locked(pool, &victim);
	if (read->independent && (other_opens || (!file->opening && !reserved))) {
		pthread_mutex_unlock(&pool->lock);
		return WAIT_ALONE;
	}
	read->next = NULL;
	*file->waiters_tail = read;
	file->waiters_tail = &read->next;
	if (!file->opening) {
		file->opening = true;
		if (reserved) {
			outcome = WAIT_OPENER;
		} else {
			atomic_fetch_add(&pool->n_starved, 1);
			starve_locked(file);
			starved = true;
		}
	}
	pthread_mutex_unlock(&pool->lock);

	close_victim(victim);
	if (starved)
		feed(pool); /* invariant 5 */
	return outcome;
}

/* ---- taking over, giving back ---- */

static struct media_read *take_waiters_locked(struct media_file *file)
{
	struct media_read *list = file->waiters;
	file->waiters = NULL;
	file->waiters_tail = &file->waiters;
	file->opening = false;
	return list;
}

struct media_read *descriptor_opened(struct media_file *file, int fd)
{
	struct media_pool *pool = file->pool;
	pthread_mutex_lock(&pool->lock);
	struct media_read *list = take_waiters_locked(file);
	unsigned n_users = 0;
	for (struct media_read *read = list; read != NULL; read = read->next)
		n_users++;
	ring_insert(pool, file);
	atomic_store(&file->descriptor, word_of(fd, n_users));
	pthread_mutex_unlock(&pool->lock);
	return list;
}

struct media_read *descriptor_failed(struct media_file *file)
{
	struct media_pool *pool = file->pool;
	pthread_mutex_lock(&pool->lock);
	struct media_read *list = take_waiters_locked(file);
	pool->n_reserved--;
	pthread_mutex_unlock(&pool->lock);
	feed(pool);
	return list;
}

bool descriptor_adopt(struct media_file *file, int fd, unsigned n_users)
{
	struct media_pool *pool = file->pool;
	int victim = -1;
	pthread_mutex_lock(&pool->lock);
	bool adopted = !file->opening && atomic_load(&file->descriptor) == 0 &&
	               pool->starved == NULL && reserve_locked(pool, &victim);
	if (adopted) {
		ring_insert(pool, file);
		atomic_store(&file->descriptor, word_of(fd, n_users));
	}
	pthread_mutex_unlock(&pool->lock);
	close_victim(victim);
	return adopted;
}

void descriptor_adopt_held(struct media_file *file, int fd)
{
	atomic_store(&file->descriptor, word_of(fd, 0));
	atomic_fetch_add(&file->pool->n_held, 1);
}

void descriptor_drop(struct media_file *file)
{
	struct media_pool *pool = file->pool;
	pthread_mutex_lock(&pool->lock);
	quire_assert(!file->opening && file->waiters == NULL);
	uint64_t word = atomic_exchange(&file->descriptor, 0);
	quire_assert(word < DESCRIPTOR_USER);
	if (word != 0 && file->flags & MEDIA_HOLD) {
		atomic_fetch_sub(&pool->n_held, 1);
	} else if (word != 0) {
		ring_remove(pool, file);
		pool->n_reserved--;
	}
	pthread_mutex_unlock(&pool->lock);

	if (word != 0) {
		close(descriptor_of(word));
		feed(pool);
	}
}

bool descriptor_evict_one(struct media_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	int victim = evict_locked(pool);
	pthread_mutex_unlock(&pool->lock);
	close_victim(victim);
	return victim >= 0;
}

static bool ring_is_sound(const struct media_pool *pool)
{
	unsigned n = 0;
	const struct media_file *file = pool->hand;
	if (file != NULL) {
		do {
			if (file->next->prev != file || file->flags & MEDIA_HOLD || file->opening ||
			    (uint32_t)atomic_load(&file->descriptor) == 0)
				return false;
			n++;
			file = file->next;
		} while (file != pool->hand);
	}
	return n == atomic_load(&pool->n_open);
}

static bool starved_are_sound(const struct media_pool *pool)
{
	unsigned n = 0;
	for (const struct media_file *file = pool->starved; file != NULL; file = file->next) {
		if (!file->opening || file->waiters == NULL || atomic_load(&file->descriptor) != 0)
			return false;
		n++;
	}
	return n == atomic_load(&pool->n_starved) && (n > 0 || pool->starved_tail == &pool->starved);
}

bool media_pool_check(struct media_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	bool sound = atomic_load(&pool->n_open) <= pool->n_reserved &&
	             pool->n_reserved <= pool->max_open && ring_is_sound(pool) &&
	             starved_are_sound(pool);
	pthread_mutex_unlock(&pool->lock);
	return sound;
}
