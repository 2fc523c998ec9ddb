/* service_internal.h - the service from the inside; the essay is in service.c. For src/serve alone. */
#ifndef SERVE_SERVICE_INTERNAL_H
#define SERVE_SERVICE_INTERNAL_H

#include "../base/process_mark.h"
#include "ring.h"
#include "spin.h"

#include <pthread.h>
#include <quire/tmem_service.h>
#include <stdbool.h>
#include <sys/types.h>

#define SLICE_REQUESTS 32u
#define SLICE_BYTES (128u << 10) /* of pages in one slice, or one page */
#define DOMAINS_MOST 256u        /* of a client */

struct client;
struct handle;
struct errand;

/* For the reaper: a pool that a client has destroyed, or all that a client has left. It lies in what it is of. */
struct grave {
	struct grave *next;
	struct client *client;        /* owned if handle is NULL */
	struct handle *handle;        /* whose pool is to go */
	uint32_t slot;                /* to be completed then */
};

/* ---- account.c: what a client has; its worker's alone ---- */

enum handle_state { HANDLE_FREE = 0, HANDLE_OPEN, HANDLE_DYING };

struct handle {
	_Atomic int state;            /* enum handle_state; DYING to FREE: by the reaper */
	uint16_t generation;          /* of its number: one more each time */
	bool shared, made;            /* made: by this client */
	bool spills;
	uint32_t page_bytes;
	enum quire_tmem_kind kind;
	uint64_t asked_bytes;         /* the cap that was asked for */
	uint64_t cap_bytes;           /* that it has now */
	uint64_t dying_bytes;         /* it held so much when it was destroyed */
	uint8_t uuid[16];             /* if shared */
	struct quire_tmem_pool *pool; /* owned: one open of it; when DYING the reaper's */
	struct grave grave;
};

struct account {
	struct quire_tmem *tmem;      /* borrowed */
	const struct quire_tmem_service_options *limits; /* borrowed: the service's */
	unsigned place;               /* the client's among all clients: domains go by that */
	uint32_t slot_bytes;
	struct handle *handles;       /* owned; grows up to the limit */
	unsigned n_handles;           /* room */
	uint32_t settled;             /* number of the private pool that may grow; NO_HANDLE */
	uint64_t headroom_bytes;      /* by so much, until its cap is to be looked at again */
};

#define NO_HANDLE UINT32_MAX

#define SPILLING_POOLS 4u /* of a client */

int account_create(struct account *a, const struct ring_pool_options *asked, uint32_t *ret_number, uint32_t *ret_page_bytes);
int account_open(struct account *a, const uint8_t uuid[16], uint32_t *ret_number, uint32_t *ret_page_bytes);
struct handle *account_find(const struct account *a, uint32_t number); /* NULL: not an open one */
/* May a page be put into the pool of that number as its cap is? */
bool account_takes(struct account *a, uint32_t number, const struct handle *h);
/* Makes its cap right, once nothing of other pools is under way; so that the next account_takes is true. False: the pool has more
 * than that already, nothing may be put there. */
bool account_settle(struct account *a, uint32_t number, struct handle *h);
/* Nobody finds the handle any more; the reaper is to have its pool. */
void account_kill(struct account *a, struct handle *h);
/* Calls fn for each shared persistent pool that is open. */
void account_each_keepable(struct account *a, void (*fn)(void *arg, const uint8_t uuid[16]), void *arg);
void account_stat(struct account *a, struct ring_client_stat *ret);
void account_fini(struct account *a); /* destroys what is open */

/* ---- clients ---- */

struct client {
	struct client *next;          /* in its worker's list, or on the way to somebody */
	struct quire_tmem_service *service; /* borrowed */
	int socket, process;          /* owned; process: a pidfd, or -1 */
	pid_t pid;
	bool owner;                   /* the service's own user, or root */
	struct ring ring;
	uint32_t taken;               /* messages, modulo 2³² */
	bool busy;                    /* with a message: */
	uint32_t slot, done;          /* done: of its requests */
	struct {
		uint32_t verb, n, pool, argument;
	} asked;                      /* as in struct ring_message */
	bool dead;
	bool patient;                 /* a pool of its may spill: what it asks may wait for I/O */
	bool stays;                   /* it was served until the service was stopped */
	struct errand *errand;        /* borrowed: that the keeper has of it; NULL: none. The keeper's lock */
	struct account account;
	struct grave grave;
};

/* client.c */

/* With a ring; ret_fd is its memory's descriptor, to be sent and closed. The sockets are the client's only after success. */
int client_create(struct quire_tmem_service *s, uint32_t n_slots, uint32_t slot_bytes, struct client **ret_client, int *ret_fd);
void client_destroy(struct client *c);
/* The message of the slot is done: the client may look, and is woken if it sleeps. */
void client_complete(struct client *c, uint32_t slot);

/* ---- message.c ---- */

/* A worker's memory for pages. */
struct bounce {
	uint8_t *bytes;               /* owned */
	size_t n_bytes;
};

/* Some of what the client wants. False: it wants nothing, or is dead. */
bool message_serve(struct client *c, struct bounce *bounce);
/* Would message_serve find something? */
static inline bool message_waits(const struct client *c)
{
	return c->busy || atomic_load_explicit(&ring_head(&c->ring)->tail, memory_order_acquire) != c->taken;
}

/* ---- worker.c ---- */

struct worker {
	struct quire_tmem_service *service; /* borrowed */
	_Atomic bool stopping;
	pthread_t thread;
	int epoll, wake;              /* owned; wake: an eventfd */
	pthread_mutex_t lock;         /* guards arrivals */
	struct client *arrivals;
	_Atomic unsigned n_clients;
	struct client *clients;       /* the thread's */
	struct bounce bounce;
	struct spin_habit habit;
	uint64_t looked_ns;           /* when, at the sockets, while it was busy */
};

int worker_start(struct quire_tmem_service *s, struct worker *w);
void worker_fini(struct worker *w); /* stops and joins it */
void worker_adopt(struct worker *w, struct client *c);

/* ---- reaper.c ---- */

struct reaper {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct grave *first, **last;
	bool stop, hold;
};

int reaper_start(struct quire_tmem_service *s);
void reaper_hold(struct quire_tmem_service *s); /* nothing new is begun */
void reaper_stop(struct quire_tmem_service *s); /* when all that is in it is done, held or not */
void reaper_bury(struct quire_tmem_service *s, struct grave *g);
/* While it is held: for each client that is there. */
void reaper_each_client(struct quire_tmem_service *s, void (*fn)(struct client *c));

/* ---- kept.c: the keeper's alone; before it is started, and when it has ended, of whoever starts and ends it ---- */

struct kept_pool {
	uint8_t uuid[16];
	struct quire_tmem_pool *pool; /* owned: one open of it */
	uint64_t cap_bytes;           /* that it counts for */
};

struct kept {
	struct kept_pool *pools;      /* owned; room for as many as may be */
	unsigned n;
};

/* All that is in the store; what can't be restored is told. -ENOMEM. */
int kept_init(struct quire_tmem_service *s);
/* pool: an open of it, which is the table's or gone afterwards. Durable if 0. */
int kept_save(struct quire_tmem_service *s, const uint8_t uuid[16], struct quire_tmem_pool *pool);
int kept_forget(struct quire_tmem_service *s, const uint8_t uuid[16]);
/* Those kept, and the others that clients had at the end; what can't be saved is told. */
void kept_save_all(struct quire_tmem_service *s);
void kept_fini(struct quire_tmem_service *s);

/* ---- keeper.c ---- */

struct keeper {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct errand *first, **last;
	bool stop;
};

int keeper_start(struct quire_tmem_service *s);
void keeper_stop(struct quire_tmem_service *s); /* when the errand under way is done; clients have gone */
/* Saves the shared pool, or forgets it, and completes the slot the client is busy with. -EOPNOTSUPP: nothing is kept; -EBUSY: it has one
 * under way already; -ENOMEM, -ENOENT. */
int keeper_ask(struct client *c, const uint8_t uuid[16], bool forget);
/* The client goes; errands of its are nobody's from now on. */
void keeper_leave(struct client *c);

/* ---- doorman.c ---- */

#define PENDING_MOST 32u

struct pending {
	int socket;                   /* owned; -1: free */
	pid_t pid;
	bool owner;                   /* as of struct client */
	uint64_t since_ns;
};

struct doorman {
	pthread_t thread;
	int listener, stop;           /* owned; stop: an eventfd */
	char *path;                   /* owned */
	dev_t dev;                    /* of the socket at the path */
	ino_t ino;
	struct pending pending[PENDING_MOST];
};

int doorman_listen(struct quire_tmem_service *s, const char *path, struct quire_error *err);
int doorman_start(struct quire_tmem_service *s);
void doorman_fini(struct quire_tmem_service *s);

/* ---- service.c ---- */

struct quire_tmem_service {
	struct process_mark process;  /* a forked child has neither the threads nor the right to the socket */
	struct quire_tmem *tmem;      /* borrowed */
	struct quire_tmem_service_options o; /* defaults filled in; uids owned */
	struct worker *workers;       /* owned */
	unsigned n_workers;           /* started */
	struct worker patient;        /* of clients whose pools may spill */
	struct doorman doorman;
	struct reaper reaper;
	struct keeper keeper;
	struct kept kept;
	pthread_mutex_t lock;         /* guards places */
	struct place {
		bool used;
		pid_t pid;
	} *places;                    /* owned; one for each client there may be */
	_Atomic bool stopping;
	bool doorman_runs, reaper_runs, keeper_runs, patient_runs, stopped;
	_Atomic uint64_t n_clients, n_connected, n_refused, n_dropped, n_messages, n_requests, n_sleeps;
	_Atomic uint64_t n_kept, n_saved, n_save_errors;
};

/* A place for a client of that process: its number; -EUSERS. */
int service_take_place(struct quire_tmem_service *s, pid_t pid);
void service_free_place(struct quire_tmem_service *s, unsigned place);
/* A thread that has all signals blocked. */
int service_start_thread(pthread_t *ret, void *(*run)(void *), void *arg, const char *name);

#endif
