/* eventfd.c - requests that end with 1 added to an eventfd, for programs that have no op and no loop.
 *
 * States: a request is made (counted) → under way → ended, and then freed, unless it has failed and has no status
 * word to say so: it then stays on the list of failures until somebody collects it.
 *
 * Invariants:
 *   1. n_requests counts the requests that exist; at most QUIRE_EVENTFD_REQUESTS_MAX.
 *   2. A request's outcome can be seen (status word, list) before its eventfd is signalled, and after that
 *      nothing of the request is touched.
 *
 * Threads: started anywhere, ended on the op's home loop. Lock: failures.lock, a leaf, held for
 * a walk of the list.
 *
 * Fork: a child has none of its parent's requests; it forgets them (kept reachable, so that they
 * are no leaks) and counts from 0.
 */
#include "../loop/op.h"
#include "async_map.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct request {
	struct quire_op op;
	struct request *next;
	struct quire_eventfd_failure failure; /* what was asked for; error once it has failed */
	int32_t *status;                      /* borrowed: until the end; NULL: none */
	int efd;                              /* borrowed: until the end */
};

static atomic_uint n_requests;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static struct {
	pthread_mutex_t lock;
	struct request *first, **last; /* owned */
	struct request *of_parent;
} failures = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &failures.first};

static void forget_in_child(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
	memcpy(&failures.lock, &fresh, sizeof(fresh));
	failures.of_parent = failures.first;
	failures.first = NULL;
	failures.last = &failures.first;
	atomic_store(&n_requests, 0);
}

/* Without memory for the handler a child merely counts more than it has. */
static void prepare_fork(void)
{
	(void)pthread_atfork(NULL, NULL, forget_in_child);
}

static void set_status(int32_t *status, int32_t value)
{
	if (status != NULL)
		__atomic_store_n(status, value, __ATOMIC_RELEASE);
}

static void request_free(struct request *r)
{
	free(r);
	atomic_fetch_sub(&n_requests, 1);
}

/* -EAGAIN, -ENOMEM. */
static int request_new(int efd, int32_t *status, struct request **ret_request)
{
	pthread_once(&prepared, prepare_fork);
	if (atomic_fetch_add(&n_requests, 1) >= QUIRE_EVENTFD_REQUESTS_MAX) {
		atomic_fetch_sub(&n_requests, 1);
		return -EAGAIN;
	}
	struct request *r = malloc(sizeof(*r));
	if (r == NULL) {
		atomic_fetch_sub(&n_requests, 1);
		return -ENOMEM;
	}
	r->next = NULL;
	r->status = status;
	r->efd = efd;
	*ret_request = r;
	return 0;
}

static void keep_failure(struct request *r)
{
	pthread_mutex_lock(&failures.lock);
	*failures.last = r;
	failures.last = &r->next;
	pthread_mutex_unlock(&failures.lock);
}

static void ended(struct quire_op *op, void *arg)
{
	struct request *r = arg;
	int efd = r->efd;
	r->failure.error = (int)op->result;
	if (op->result < 0 && r->status == NULL) {
		keep_failure(r);
	} else {
		set_status(r->status, (int32_t)op->result);
		request_free(r);
	}
	(void)op_signal_eventfd(efd);
}

/* A request with its op initialised and the loop for it. */
static int begin(int efd, int32_t *status, struct request **ret_request, struct quire_loop **ret_home)
{
	if (fcntl(efd, F_GETFD) < 0)
		return -EBADF;
	int rc = async_home(ret_home);
	if (rc == 0)
		rc = request_new(efd, status, ret_request);
	if (rc < 0)
		return rc;
	quire_op_init_callback(&(*ret_request)->op, *ret_home, ended, *ret_request);
	set_status(status, QUIRE_STATUS_PENDING);
	return 0;
}

int quire_mlock_eventfd_status(const void *addr, size_t len_bytes, unsigned flags, int efd, int32_t *status)
{
	struct async_range range;
	struct quire_loop *home;
	struct request *r = NULL;
	int rc = async_range_of(addr, len_bytes, flags, &range);
	if (rc < 0)
		return rc;
	if (async_range_done(&range, flags)) {
		set_status(status, 0);
		return op_signal_eventfd(efd);
	}
	rc = begin(efd, status, &r, &home);
	if (rc < 0)
		return rc;
	r->failure = (struct quire_eventfd_failure){.addr = addr, .len_bytes = len_bytes, .fd = -1};
	rc = async_populate(&range, flags, &r->op, home);
	if (rc < 0)
		request_free(r);
	return rc;
}

int quire_fdatasync_eventfd_status(int fd, int efd, int32_t *status)
{
	struct quire_loop *home;
	struct request *r = NULL;
	if (fd < 0 || fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	int rc = begin(efd, status, &r, &home);
	if (rc < 0)
		return rc;
	r->failure = (struct quire_eventfd_failure){.fd = fd};
	rc = async_fdatasync(fd, &r->op, home);
	if (rc < 0)
		request_free(r);
	return rc;
}

int quire_mlock_eventfd(const void *addr, size_t len_bytes, int efd)
{
	return quire_mlock_eventfd_status(addr, len_bytes, 0, efd, NULL);
}

int quire_fdatasync_eventfd(int fd, int efd)
{
	return quire_fdatasync_eventfd_status(fd, efd, NULL);
}

int quire_eventfd_failures(int efd, struct quire_eventfd_failure *ret, unsigned n)
{
	unsigned n_taken = 0;
	pthread_mutex_lock(&failures.lock);
	struct request **link = &failures.first;
	while (*link != NULL && n_taken < n) {
		struct request *r = *link;
		if (r->efd != efd) {
			link = &r->next;
			continue;
		}
		ret[n_taken++] = r->failure;
		*link = r->next;
		if (failures.last == &r->next)
			failures.last = link;
		request_free(r);
	}
	pthread_mutex_unlock(&failures.lock);
	return (int)n_taken;
}
