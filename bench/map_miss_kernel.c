/* map_miss_kernel.c - mmap and pread, by as many threads as asked for.
 *
 * Settings: MADV_RANDOM and POSIX_FADV_RANDOM (no readahead); pread reads whole pages,
 * through the page cache, or past it into aligned memory of the thread's own.
 */
#include "map_miss.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct crowd {
	struct run *run;
	const unsigned char *map; /* NULL: pread */
	int fd;
	_Atomic uint64_t left; /* accesses until all stop, while memory is filled */
	atomic_bool stop;
	atomic_int error;
};

struct member {
	struct crowd *crowd;
	pthread_t thread;
	uint64_t rng;
	unsigned char *page; /* owned; of pread */
	uint64_t n_accesses, n_wrong;
} __attribute__((aligned(128)));

static bool access_page(struct member *m, uint64_t n)
{
	const struct run *r = m->crowd->run;

	if (m->crowd->map != NULL)
		return run_page_right(r, m->crowd->map + n * r->page_bytes, n);
	if (pread(m->crowd->fd, m->page, r->page_bytes, (off_t)(n * r->page_bytes)) !=
	    (ssize_t)r->page_bytes) {
		atomic_store(&m->crowd->error, errno != 0 ? -errno : -EIO);
		return false;
	}
	return run_page_right(r, m->page, n);
}

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct crowd *c = m->crowd;

	while (!atomic_load_explicit(&c->stop, memory_order_relaxed)) {
		m->n_wrong += !access_page(m, run_random_page(c->run, &m->rng));
		m->n_accesses++;
		if (c->left != 0 && atomic_fetch_sub(&c->left, 1) == 1)
			atomic_store(&c->stop, true);
	}
	return NULL;
}

/* fill_accesses 0: for run->seconds, counted. */
static int crowd_run(struct crowd *c, unsigned n_threads, uint64_t fill_accesses)
{
	struct member *members = aligned_alloc(128, sizeof(*members) * n_threads);
	struct timespec pause = { .tv_sec = (time_t)c->run->seconds,
		                  .tv_nsec = (long)((c->run->seconds - (double)(time_t)c->run->seconds) * 1e9) };
	unsigned n = 0;

	if (members == NULL)
		return -ENOMEM;
	atomic_store(&c->left, fill_accesses);
	atomic_store(&c->stop, false);
	double start = now_seconds(), cpu = cpu_seconds();
	for (; n < n_threads; n++) {
		members[n] = (struct member){ .crowd = c, .rng = 0x9e3779b97f4a7c15u * (n + 1 + 64 * (fill_accesses == 0)) };
		if (posix_memalign((void **)&members[n].page, c->run->page_bytes, c->run->page_bytes) != 0 ||
		    pthread_create(&members[n].thread, NULL, member_main, &members[n]) != 0) {
			atomic_store(&c->error, -EAGAIN);
			break;
		}
	}
	if (fill_accesses == 0)
		nanosleep(&pause, NULL);
	if (fill_accesses == 0 || n == 0)
		atomic_store(&c->stop, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(members[i].thread, NULL);
	c->run->measured_seconds = now_seconds() - start;
	c->run->cpu_seconds = cpu_seconds() - cpu;
	for (unsigned i = 0; i < n; i++) {
		c->run->n_accesses += fill_accesses == 0 ? members[i].n_accesses : 0;
		c->run->n_wrong += members[i].n_wrong;
		free(members[i].page);
	}
	free(members);
	return atomic_load(&c->error);
}

int run_mmap_file(struct run *r, const unsigned char **ret_map, int *ret_fd)
{
	const size_t len = r->n_pages * r->page_bytes;
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return failed(r->path, -errno);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || madvise(map, len, MADV_RANDOM) != 0)
		return failed("mmap", -errno);
	struct crowd c = { .run = r, .map = map, .fd = fd };
	int rc = crowd_run(&c, MAP_MISS_MAX_THREADS, run_fill_accesses(r));
	if (rc != 0)
		return failed("filling the memory", rc);
	*ret_map = map;
	*ret_fd = fd;
	return 0;
}

int run_mmap(struct run *r)
{
	struct crowd c = { .run = r };
	int rc = run_mmap_file(r, &c.map, &c.fd);

	if (rc != 0)
		return rc;
	rc = crowd_run(&c, r->n_threads, 0);
	return rc != 0 ? failed("mmap", rc) : 0;
}

int run_pread(struct run *r)
{
	struct crowd c = { .run = r, .fd = open(r->path, O_RDONLY | O_CLOEXEC | (r->direct ? O_DIRECT : 0)) };
	int rc = 0;

	if (c.fd < 0)
		return failed(r->path, -errno);
	posix_fadvise(c.fd, 0, 0, POSIX_FADV_RANDOM);
	if (!r->direct)
		rc = crowd_run(&c, MAP_MISS_MAX_THREADS, run_fill_accesses(r));
	if (rc == 0)
		rc = crowd_run(&c, r->n_threads, 0);
	return rc != 0 ? failed("pread", rc) : 0;
}
