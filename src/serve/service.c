/* service.c - pools of pages for other processes: how the parts go together, and the life of the whole.
 *
 * Purpose: what quire/tmem_service.h promises, to clients of which any may be hostile, or die at any instruction.
 *
 * Threads:
 *   doorman   accepts, asks the kernel who it is, makes the memory in common, hands the client to a worker
 *   workers   each serves its clients: looks at their rings in turns, does what they want (message.c), keeps what they
 *             have (account.c); sleeps while none wants anything
 *   patient   one more worker, where pools may spill: it has the clients that made such a pool, whose puts and gets may wait for I/O
 *   reaper    destroys pools, of clients that have gone and those that clients destroy
 *   keeper    saves shared pools in a store, and removes them from it, where the service keeps pools (keeper.c, kept.c)
 * None of them takes CPU while nobody wants anything: they sleep in poll, epoll_wait, and on a condition.
 *
 * States of a client: pending (connected, has said nothing) → served → dead (hung up, its process ended, or dropped)
 * → in the reaper → gone. Its place, of which there are n_clients, is its own from served to gone; so what it
 * leaves is never more than the caps of that many clients.
 *
 * Invariants:
 *   1. Of what a client can write, a worker reads the tail, the order, a message and its requests, and pages: each once, into
 *      memory of its own, and checks the copy. (message.c)
 *   2. The memory in common has the size it was made with, as long as it is mapped. (client.c)
 *   3. A worker never waits for a client: it sends without blocking, reads what is there, and needs no answer.
 *   4. A client costs the others of its worker one slice in each turn, at most: 32 requests, 128 KiB, or one page.
 *      (One flush of an object takes as long as the object has pages, which the client's cap bounds.)
 *   5. What a client's private pools hold, and shared ones may hold, is below client_bytes. (account.c)
 *   6. A handle's pool is destroyed by the reaper once; until then it counts.
 *   7. Nobody but the keeper and the patient worker waits for I/O; nobody for the keeper but who asked him, nor for the patient one
 *      but his clients.
 *
 * Failure: no memory for a client, a pool, or a page is an error of that call. Threads are all started before anybody is let in.
 */
#include "service_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MOST 4096u
#define HANDLES_MOST 65535u
#define THREADS_MOST 16u
#define WEIGHT_MOST 1000000u
#define KEPT_MOST 65535u

/* ---- options ---- */

static unsigned default_threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN) / 4;

	return n < 1 ? 1 : n > (long)THREADS_MOST ? THREADS_MOST : (unsigned)n;
}

static void fill_in(struct quire_tmem_service_options *o, struct quire_tmem *tmem)
{
	struct quire_tmem_stat stat;

	quire_tmem_stat(tmem, &stat);
	o->n_threads = o->n_threads != 0 ? o->n_threads : default_threads();
	o->n_clients = o->n_clients != 0 ? o->n_clients : 64;
	o->n_process_clients = o->n_process_clients != 0 ? o->n_process_clients : 16;
	o->n_pools = o->n_pools != 0 ? o->n_pools : 16;
	o->n_handles = o->n_handles != 0 ? o->n_handles : o->n_pools > 64 ? o->n_pools : 64;
	o->client_bytes = o->client_bytes != 0 ? o->client_bytes : stat.budget_bytes / 4;
	o->ring_bytes = o->ring_bytes != 0 ? o->ring_bytes : 8u << 20;
	o->weight = o->weight != 0 ? o->weight : 100;
	o->n_kept = o->n_kept != 0 ? o->n_kept : 64;
	o->kept_bytes = o->kept_bytes != 0 ? o->kept_bytes : stat.budget_bytes / 2;
}

static int take_options(struct quire_tmem_service *s, const struct quire_tmem_service_options *opts)
{
	struct quire_tmem_service_options *o = &s->o;
	const uint32_t *uids = NULL;

	if (opts != NULL) {
		if (opts->size == 0 || opts->size > sizeof(*o))
			return -EINVAL;
		memcpy(o, opts, opts->size);
		uids = o->uids;
		o->uids = NULL;
	}
	fill_in(o, s->tmem);
	if (o->n_threads > THREADS_MOST || o->n_clients > CLIENTS_MOST || o->n_handles > HANDLES_MOST ||
	    o->weight > WEIGHT_MOST || o->n_kept > KEPT_MOST || (o->n_uids > 0 && uids == NULL))
		return -EINVAL;
	if (o->n_uids == 0)
		return 0;
	uint32_t *copy = calloc(o->n_uids, sizeof(copy[0]));
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, uids, o->n_uids * sizeof(copy[0]));
	o->uids = copy;
	return 0;
}

/* ---- places ---- */

int service_take_place(struct quire_tmem_service *s, pid_t pid)
{
	unsigned n_of_process = 0;
	int place = -EUSERS;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = s->o.n_clients; i-- > 0;) {
		if (!s->places[i].used)
			place = (int)i;
		else
			n_of_process += s->places[i].pid == pid;
	}
	if (n_of_process >= s->o.n_process_clients)
		place = -EUSERS;
	if (place >= 0) {
		s->places[place] = (struct place){.used = true, .pid = pid};
		atomic_fetch_add(&s->n_clients, 1);
	}
	pthread_mutex_unlock(&s->lock);
	return place;
}

void service_free_place(struct quire_tmem_service *s, unsigned place)
{
	pthread_mutex_lock(&s->lock);
	s->places[place].used = false;
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_sub(&s->n_clients, 1);
}

/* ---- life ---- */

int service_start_thread(pthread_t *ret, void *(*run)(void *), void *arg, const char *name)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = -pthread_create(ret, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		(void)pthread_setname_np(*ret, name);
	return rc;
}

static int start(struct quire_tmem_service *s, struct quire_error *err)
{
	int rc = reaper_start(s);

	s->reaper_runs = rc == 0;
	if (rc == 0 && s->o.store != NULL) {
		rc = keeper_start(s);
		s->keeper_runs = rc == 0;
	}
	while (rc == 0 && s->n_workers < s->o.n_threads) {
		rc = worker_start(s, &s->workers[s->n_workers]);
		s->n_workers += rc == 0;
	}
	if (rc == 0 && s->o.spill_bytes != 0) {
		rc = worker_start(s, &s->patient);
		s->patient_runs = rc == 0;
	}
	if (rc == 0) {
		rc = doorman_start(s);
		s->doorman_runs = rc == 0;
	}
	return rc < 0 ? quire_fail(err, rc, "tmem service") : 0;
}

int quire_tmem_serve(struct quire_tmem *tmem, const char *path, const struct quire_tmem_service_options *opts,
                     struct quire_tmem_service **ret_service, struct quire_error *err)
{
	struct quire_tmem_service *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return quire_fail(err, -ENOMEM, "tmem service");
	s->tmem = tmem;
	s->doorman.listener = s->doorman.stop = -1;
	process_mark_init(&s->process);
	pthread_mutex_init(&s->lock, NULL);
	int rc = take_options(s, opts);
	if (rc == 0) {
		s->places = calloc(s->o.n_clients, sizeof(s->places[0]));
		s->workers = calloc(s->o.n_threads, sizeof(s->workers[0]));
		rc = s->places != NULL && s->workers != NULL ? 0 : -ENOMEM;
	}
	if (rc < 0)
		quire_fail(err, rc, "tmem service options");
	else
		rc = doorman_listen(s, path, err);
	if (rc == 0 && s->o.store != NULL && (rc = kept_init(s)) < 0)
		quire_fail(err, rc, "tmem service: saved pools");
	if (rc == 0)
		rc = start(s, err);
	if (rc < 0) {
		quire_tmem_service_destroy(s);
		return rc;
	}
	*ret_service = s;
	return 0;
}

void quire_tmem_service_stop(struct quire_tmem_service *s)
{
	uint64_t one = 1;
	bool served = s->doorman_runs;

	if (process_mark_is_of_parent(&s->process))
		return;
	if (s->reaper_runs)
		reaper_hold(s);
	atomic_store(&s->stopping, true);
	if (s->doorman_runs) {
		(void)!write(s->doorman.stop, &one, sizeof(one));
		pthread_join(s->doorman.thread, NULL);
	}
	for (unsigned i = 0; i < s->n_workers; i++)
		worker_fini(&s->workers[i]);
	/* The last: others hand clients to it. */
	if (s->patient_runs)
		worker_fini(&s->patient);
	doorman_fini(s);
	if (s->keeper_runs)
		keeper_stop(s);
	if (served && s->o.store != NULL)
		kept_save_all(s);
	s->n_workers = 0;
	s->doorman_runs = s->keeper_runs = s->patient_runs = false;
	s->stopped = true;
}

void quire_tmem_service_destroy(struct quire_tmem_service *s)
{
	if (s == NULL || process_mark_is_of_parent(&s->process))
		return;
	if (!s->stopped)
		quire_tmem_service_stop(s);
	if (s->reaper_runs)
		reaper_stop(s);
	kept_fini(s);
	pthread_mutex_destroy(&s->lock);
	process_mark_fini(&s->process);
	free((void *)(uintptr_t)s->o.uids);
	free(s->places);
	free(s->workers);
	free(s);
}

void quire_tmem_service_stat(const struct quire_tmem_service *s, struct quire_tmem_service_stat *ret)
{
	*ret = (struct quire_tmem_service_stat){
		.n_clients = atomic_load(&s->n_clients),
		.n_connected = atomic_load(&s->n_connected),
		.n_refused = atomic_load(&s->n_refused),
		.n_dropped = atomic_load(&s->n_dropped),
		.n_messages = atomic_load(&s->n_messages),
		.n_requests = atomic_load(&s->n_requests),
		.n_sleeps = atomic_load(&s->n_sleeps),
		.n_kept = atomic_load(&s->n_kept),
		.n_saved = atomic_load(&s->n_saved),
		.n_save_errors = atomic_load(&s->n_save_errors),
	};
}
