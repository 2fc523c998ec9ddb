/* service.c - the process's service loop: one thread with a ring of its own, for whoever has none.
 *
 * It lives from the first service_get to the last service_put. Operations that plain threads start
 * on no cache (sleep, poll) take one reference until the process ends or the library is unloaded
 * (service_shared), since an operation that ends on the service's own thread can't join it.
 *
 * The thread blocks all signals, for it serves faults and must never run a handler that could
 * fault. The loop is held while it is served, so that it runs without work.
 *
 * Lock: service.lock; held while the thread is started and joined, never by the thread.
 *
 * Fork: a child has the memory but not the thread. The handler of pthread_atfork forgets it there:
 * a put is then nothing, and a get starts another.
 */
#include "../base/fail.h"
#include "loop_internal.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

static struct {
	pthread_mutex_t lock;
	struct quire_loop *loop; /* owned */
	pthread_t thread;
	unsigned n_users;
	bool shared; /* service_shared has its reference */
	bool fork_handled;
	struct quire_loop *of_parent; /* in a child: kept, so that it is no leak */
} service = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Read without the lock by service_shared. */
static _Atomic(struct quire_loop *) shared_loop;

static void forget_in_child(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
	memcpy(&service.lock, &fresh, sizeof(fresh));
	service.of_parent = service.loop;
	service.loop = NULL;
	service.n_users = 0;
	service.shared = false;
	atomic_store(&shared_loop, NULL);
}

static void *service_main(void *arg)
{
	int rc = quire_loop_run(arg);
	quire_assert(rc == 0);
	return NULL;
}

static int start_locked(struct quire_error *err)
{
	if (!service.fork_handled) {
		int rc = -pthread_atfork(NULL, NULL, forget_in_child);
		if (rc < 0)
			return quire_fail(err, rc, "service thread");
		service.fork_handled = true;
	}
	struct quire_loop *loop;
	int rc = quire_loop_create(NULL, &loop, err);
	if (rc < 0)
		return rc;
	loop_hold(loop);
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&service.thread, NULL, service_main, loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0) {
		loop_release(loop);
		quire_loop_destroy(loop);
		return quire_fail(err, rc, "service thread");
	}
	(void)pthread_setname_np(service.thread, "quire-service");
	service.loop = loop;
	return 0;
}

int service_get(struct quire_loop **ret_loop, struct quire_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&service.lock);
	if (service.loop == NULL)
		rc = start_locked(err);
	if (rc == 0) {
		service.n_users++;
		*ret_loop = service.loop;
	}
	pthread_mutex_unlock(&service.lock);
	return rc;
}

/* -EBUSY: operations are left, which nobody drives any more. */
static int stop_locked(void)
{
	quire_loop_stop(service.loop);
	pthread_join(service.thread, NULL);
	loop_release(service.loop);
	int rc = quire_loop_destroy(service.loop);
	if (rc == 0)
		service.loop = NULL;
	return rc;
}

void service_put(void)
{
	pthread_mutex_lock(&service.lock);
	if (service.n_users != 0 && --service.n_users == 0) {
		int rc = stop_locked();
		quire_assert(rc == 0); /* a user went away before his operations */
	}
	pthread_mutex_unlock(&service.lock);
}

int service_shared(struct quire_loop **ret_loop)
{
	struct quire_loop *loop = atomic_load_explicit(&shared_loop, memory_order_acquire);
	if (loop != NULL) {
		*ret_loop = loop;
		return 0;
	}
	int rc = service_get(&loop, NULL);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&service.lock);
	bool had = service.shared;
	service.shared = true;
	pthread_mutex_unlock(&service.lock);
	if (had)
		service_put();
	atomic_store_explicit(&shared_loop, loop, memory_order_release);
	*ret_loop = loop;
	return 0;
}

/* The end of the process, or of the library in it. Whatever is under way is under way no more; that
 * is no mistake here. A cache that is still open keeps the thread, and its faults served. */
__attribute__((destructor)) static void end_shared(void)
{
	pthread_mutex_lock(&service.lock);
	if (service.shared && --service.n_users == 0)
		(void)stop_locked();
	service.shared = false;
	pthread_mutex_unlock(&service.lock);
}
