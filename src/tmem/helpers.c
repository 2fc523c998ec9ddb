/* helpers.c - threads that share work which only computes.
 *
 * To wake a thread costs tens of microseconds, as much as a batch takes. So a helper that has run out of work looks for more
 * for SPIN_NS before it sleeps; who shares work wakes one only if some sleep, and does it himself meanwhile; and he looks for
 * the end of what helpers have begun before he sleeps for it, which is one call of fn by each. One that is woken wakes the next,
 * if there is still something for it.
 *
 * Jobs stand on their callers' stacks, in a list under the lock; a helper is counted in a job while it may look at it, and to
 * count itself out is the last it does with the job. The threads block all signals.
 */
#include "helpers.h"

#include "../base/spin.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define SPIN_NS 50000u

struct job {
	struct job *next;
	void (*fn)(void *arg, unsigned i);
	void *arg;
	unsigned n;
	_Atomic unsigned n_inside; /* helpers; raised under the lock, and while the job is in the list */
	_Atomic unsigned begun __attribute__((aligned(64)));
};

struct helpers {
	pthread_mutex_t lock;
	pthread_cond_t wake, left;
	struct job *jobs;
	struct helper_task *tasks, **last_task;
	_Atomic unsigned n_wanted; /* tasks, and jobs with something left: what a spinning helper looks at */
	unsigned n_threads, n_started, n_asleep, n_waiting; /* waiting: for a job's end, asleep */
	bool stop;
	pthread_t threads[];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void work_on(struct helpers *h, struct job *job)
{
	unsigned i;

	while ((i = atomic_fetch_add_explicit(&job->begun, 1, memory_order_relaxed)) < job->n)
		job->fn(job->arg, i);
	if (i == job->n) /* one sees that, the first */
		atomic_fetch_sub(&h->n_wanted, 1);
}

/* A job with something left. Lock held. */
static struct job *open_job(const struct helpers *h)
{
	struct job *job = h->jobs;

	while (job != NULL && atomic_load_explicit(&job->begun, memory_order_relaxed) >= job->n)
		job = job->next;
	return job;
}

/* Lock held; released meanwhile. False: there was nothing to do. */
static bool do_one(struct helpers *h)
{
	struct job *job = open_job(h);
	struct helper_task *task = h->tasks;

	if (job != NULL) {
		atomic_fetch_add_explicit(&job->n_inside, 1, memory_order_relaxed);
		if (h->n_asleep > 0 && job->n - atomic_load_explicit(&job->begun, memory_order_relaxed) > 1)
			pthread_cond_signal(&h->wake);
		pthread_mutex_unlock(&h->lock);
		work_on(h, job);
		spin_lock(&h->lock);
		/* It may be gone with this. */
		if (atomic_fetch_sub_explicit(&job->n_inside, 1, memory_order_release) == 1 && h->n_waiting > 0)
			pthread_cond_broadcast(&h->left);
		return true;
	}
	if (task == NULL)
		return false;
	h->tasks = task->next;
	if (h->tasks == NULL)
		h->last_task = &h->tasks;
	atomic_fetch_sub(&h->n_wanted, 1);
	pthread_mutex_unlock(&h->lock);
	task->run(task);
	spin_lock(&h->lock);
	return true;
}

static void spin_for_a_while(void)
{
	for (unsigned i = 0; i < 32; i++)
		spin_relax();
	/* What is waited for may need this very processor. */
	sched_yield();
}

/* Lock not held. */
static void look_for_work(const struct helpers *h)
{
	uint64_t end = now_ns() + SPIN_NS;

	while (atomic_load_explicit(&h->n_wanted, memory_order_relaxed) == 0 && now_ns() < end)
		spin_for_a_while();
}

/* Lock not held. */
static void look_for_end(const struct job *job)
{
	uint64_t end = now_ns() + SPIN_NS;

	while (atomic_load_explicit(&job->n_inside, memory_order_acquire) > 0 && now_ns() < end)
		spin_for_a_while();
}

static void *helper(void *arg)
{
	struct helpers *h = arg;

	pthread_mutex_lock(&h->lock);
	for (;;) {
		while (do_one(h))
			;
		pthread_mutex_unlock(&h->lock);
		look_for_work(h);
		spin_lock(&h->lock);
		if (do_one(h))
			continue;
		if (h->stop)
			break;
		h->n_asleep++;
		pthread_cond_wait(&h->wake, &h->lock);
		h->n_asleep--;
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* As many as are to be had. Lock held. */
static void start_threads(struct helpers *h)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (h->n_started < h->n_threads && pthread_create(&h->threads[h->n_started], NULL, helper, h) == 0)
		h->n_started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int helpers_create(unsigned n_threads, struct helpers **ret)
{
	struct helpers *h = calloc(1, sizeof(*h) + n_threads * sizeof(h->threads[0]));

	if (h == NULL)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, NULL);
	pthread_cond_init(&h->left, NULL);
	h->last_task = &h->tasks;
	h->n_threads = n_threads;
	*ret = h;
	return 0;
}

void helpers_destroy(struct helpers *h)
{
	if (h == NULL)
		return;
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
	for (unsigned i = 0; i < h->n_started; i++)
		pthread_join(h->threads[i], NULL);
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->wake);
	pthread_cond_destroy(&h->left);
	free(h);
}

void helpers_share(struct helpers *h, void (*fn)(void *arg, unsigned i), void *arg, unsigned n)
{
	struct job job = {.fn = fn, .arg = arg, .n = n}, **at;

	spin_lock(&h->lock);
	start_threads(h);
	job.next = h->jobs;
	h->jobs = &job;
	atomic_fetch_add(&h->n_wanted, 1);
	if (h->n_asleep > 0)
		pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
	work_on(h, &job);
	spin_lock(&h->lock);
	for (at = &h->jobs; *at != &job;)
		at = &(*at)->next;
	*at = job.next;
	pthread_mutex_unlock(&h->lock);
	/* The list is left: nobody comes in any more. */
	look_for_end(&job);
	if (atomic_load_explicit(&job.n_inside, memory_order_acquire) == 0)
		return;
	pthread_mutex_lock(&h->lock);
	h->n_waiting++;
	while (atomic_load_explicit(&job.n_inside, memory_order_relaxed) > 0)
		pthread_cond_wait(&h->left, &h->lock);
	h->n_waiting--;
	pthread_mutex_unlock(&h->lock);
}

int helpers_post(struct helpers *h, struct helper_task *task)
{
	pthread_mutex_lock(&h->lock);
	start_threads(h);
	int rc = h->n_started > 0 ? 0 : -EAGAIN;
	if (rc == 0) {
		task->next = NULL;
		*h->last_task = task;
		h->last_task = &task->next;
		atomic_fetch_add(&h->n_wanted, 1);
		if (h->n_asleep > 0)
			pthread_cond_signal(&h->wake);
	}
	pthread_mutex_unlock(&h->lock);
	return rc;
}
