/* quire/tmem_service.h - pools of pages for other processes: a service at a socket, and its clients.
 *
 * A client has a piece of memory in common with the service. A call writes what it wants there, and what it wants is done by a
 * thread of the service; while both sides are busy neither enters the kernel. Who finds nothing to do looks again for some
 * microseconds, then sleeps until the other wakes it. A batch is one message. The layout is in docs/tmem-service.md.
 *
 * What quire/tmem.h says of pools holds of these too, and each call has the same results, beside:
 *
 *   -EPIPE     the service has gone, or has dropped this client; nothing of the client's helps any more but to
 *              disconnect, and to connect again. What was private in its pools is lost.
 *   -ECHILD    the client belongs to the parent of this forked process
 *   -EBADF     no such pool of this client's
 *   -EPERM     more than the service allows: a weight, for instance
 *
 * The service believes nothing that a client writes. Whatever that is, it is that client who has wrong results, or is
 * dropped; the others have theirs, and are not held up.
 */
#ifndef QUIRE_TMEM_SERVICE_H
#define QUIRE_TMEM_SERVICE_H

#include <quire/store.h>
#include <quire/tmem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- the service ---- */

struct quire_tmem_service;

/* A pool that can't be restored, or saved: err says which, and why. In the thread that calls quire_tmem_serve or quire_tmem_service_stop. */
typedef void (*quire_tmem_trouble_fn)(void *arg, const struct quire_error *err);

struct quire_tmem_service_options {
	size_t size;           /* sizeof(struct quire_tmem_service_options); 0 fields mean default */
	const uint32_t *uids;  /* who may connect, beside this process's user and root; borrowed during the call */
	unsigned n_uids;       /* if there are any the socket is 0666, else 0600 */
	unsigned n_threads;    /* that serve; default: one for each four CPUs, 1 to 16. Each has some of the clients */
	unsigned n_clients;    /* at once; default 64, 4096 at most */
	unsigned n_process_clients; /* of one process, at once; default 16 */
	unsigned n_pools;      /* that a client has made and not destroyed; default 16 */
	unsigned n_handles;    /* of a client: those, and what it has opened; default 64, 65,535 at most */
	uint64_t client_bytes; /* that a client's pools may hold, metadata included; default: a quarter of the tmem's budget */
	uint64_t ring_bytes;   /* of memory in common with one client; default 8 MiB. Not of the tmem's budget */
	uint32_t weight;       /* of a client's pool, at most; default 100 */
	struct quire_store *store; /* where pools are kept; NULL: none are. Borrowed until the service is destroyed */
	enum quire_class cls;  /* of the store */
	unsigned n_kept;       /* pools; default 64, 65,535 at most */
	uint64_t kept_bytes;   /* their caps together; default: half of the tmem's budget */
	quire_tmem_trouble_fn trouble; /* NULL allowed */
	void *trouble_arg;
	uint64_t spill_bytes;  /* that a client's pools may have in the tmem's backing (quire/tmem_store.h); default 0: they don't spill */
};

/* Listens at the path, and serves the tmem's pools until it is stopped, by threads of its own, which take no CPU while nobody wants
 * anything. The tmem is borrowed, and may be used beside. A socket that nobody listens at is replaced.
 * A client's private pools count by what they hold, shared ones by their cap (default: a quarter of client_bytes), for each that has
 * them open; an ephemeral pool of a client gives way to its others. What ephemeral pools hold beyond the budget is evicted
 * as ever, by weight.
 * -EADDRINUSE: there is somebody; -EINVAL, -ENOMEM, and what socket(2), bind(2), and listen(2) say. */
int quire_tmem_serve(struct quire_tmem *tmem, const char *path, const struct quire_tmem_service_options *opts,
                     struct quire_tmem_service **ret_service, struct quire_error *err);

/* With a store, shared persistent pools outlive their clients, and the service, from when they are first saved (quire_tmem_remote_save).
 * The image of each is in the store by its uuid in 32 hex digits, as quire_tmem_pool_save makes it. quire_tmem_serve restores all such
 * images before anybody is let in, and the service has them open from then on: clients open them by their uuids. One that is damaged, or
 * has no room in budget or kept_bytes, is told and left as it is, until another pool of that uuid is saved.
 *
 * What is promised: when quire_tmem_remote_save has returned 0, each page that was in the pool when it was called, and was not put again
 * or flushed meanwhile, is there after any end of the service, power included (as of the store's blobs). Restored is the pool as it was at one
 * moment before that return: of what is put or flushed later, nothing is seen, until the next save. The service saves all by itself
 * only when it is stopped: then everything is as it was at the end. */

/* Nobody is served from now on; clients are told. Their pools are there still, for who wants to look at them. Those that are kept are
 * saved, and whatever other shared persistent pools clients have at this moment; what can't be is told. If the budget has no room for
 * that, clients' private pools go first. Waits for that, and for what is under way. Not twice. In a forked child this and destroying do
 * nothing: the socket and the threads are the parent's, and the memory stays. */
void quire_tmem_service_stop(struct quire_tmem_service *service);
/* Stops it, unless it is, and frees it; pools that clients had go, but for shared ones that are open elsewhere. NULL allowed. */
void quire_tmem_service_destroy(struct quire_tmem_service *service);

struct quire_tmem_service_stat {
	uint64_t n_clients;   /* now */
	uint64_t n_connected; /* ever: accepted */
	uint64_t n_refused;   /* for who they are, what they sent at first, or how many there are */
	uint64_t n_dropped;   /* for what they wrote into the ring */
	uint64_t n_messages, n_requests;
	uint64_t n_sleeps;    /* of its threads */
	uint64_t n_kept;      /* pools, now */
	uint64_t n_saved, n_save_errors; /* images written; saves that failed */
};
/* A snapshot, not atomic as a whole. Any thread; never blocks. */
void quire_tmem_service_stat(const struct quire_tmem_service *service, struct quire_tmem_service_stat *ret_stat);

/* ---- a client ----
 *
 * Any thread may call anything, but to end a client or a pool that is in use. Calls wait for the service: for as long as the
 * call itself takes, and some microseconds, or tens of them where one of the two sleeps. */

struct quire_tmem_client;
struct quire_tmem_remote; /* a pool there */

struct quire_tmem_client_options {
	size_t size;
	unsigned n_slots;    /* messages under way at once, others wait; a power of two, default 8, 32 at most */
	uint32_t slot_bytes; /* of pages in one message: longer batches are several; a multiple of 4 KiB, default 128 KiB. No pool can
	                      * have pages longer than that */
};

/* -EACCES: not for this user; -EUSERS: there are too many clients; -ENOSPC: the ring would be larger than the service allows;
 * -EPROTO: nobody there that understands; -EINVAL, -ENOMEM, and what connect(2) says. opts may be NULL. */
int quire_tmem_connect(const char *path, const struct quire_tmem_client_options *opts,
                       struct quire_tmem_client **ret_client, struct quire_error *err);
/* Private pools go with all that is in them. What handles it had are freed too. NULL allowed. */
void quire_tmem_disconnect(struct quire_tmem_client *client);

/* As quire_tmem_pool_create. A domain is one of this client's alone, 0 to 255, and 0 in shared pools. A cap of 0 is what the service
 * allows. QUIRE_TMEM_SPILL: of private pools, four of a client's at most, each of which may have a quarter of spill_bytes in the backing, and 64 KiB or a page
 * more; from then on this client is served by a thread that waits for I/O, and only those beside him that have such pools, too. -EPERM: that of a shared pool, or
 * where the service allows none, and QUIRE_TMEM_REMOTE, whose gets would hold others up. -ENOSPC: pools, handles, or bytes that it
 * allows are used up; -E2BIG: the page is longer than slot_bytes. */
int quire_tmem_remote_create(struct quire_tmem_client *client, const struct quire_tmem_pool_options *opts,
                             struct quire_tmem_remote **ret_pool, struct quire_error *err);
/* As quire_tmem_pool_open; also -ENOSPC and -E2BIG as above. */
int quire_tmem_remote_open(struct quire_tmem_client *client, const uint8_t uuid[16], struct quire_tmem_remote **ret_pool);
/* As quire_tmem_pool_destroy. Frees the handle, even if the service has gone. NULL allowed. */
void quire_tmem_remote_destroy(struct quire_tmem_remote *pool);

/* As quire_tmem_put, quire_tmem_get, quire_tmem_flush, quire_tmem_flush_object. */
int quire_tmem_remote_put(struct quire_tmem_remote *pool, const struct quire_tmem_key *key, const void *page);
int quire_tmem_remote_get(struct quire_tmem_remote *pool, const struct quire_tmem_key *key, void *page,
                          enum quire_tmem_get how);
/* 1: it was there; 0. */
int quire_tmem_remote_flush(struct quire_tmem_remote *pool, const struct quire_tmem_key *key);
/* How many pages there were. */
int64_t quire_tmem_remote_flush_object(struct quire_tmem_remote *pool, const uint64_t object[3]);

struct quire_tmem_remote_request { /* as struct quire_tmem_request */
	struct quire_tmem_remote *pool;
	struct quire_tmem_key key;
	enum quire_tmem_verb verb;
	enum quire_tmem_get how;
	void *page;
	int64_t result;
};

/* n requests, of any of the client's pools, with the same results as one by one. 0; -EINVAL: an unknown verb, or another client's pool,
 * nothing was done; -EPIPE: results are right as far as they are not that. */
int quire_tmem_remote_batch(struct quire_tmem_client *client, struct quire_tmem_remote_request *requests, unsigned n);

/* As quire_tmem_pool_freeze, of a private pool; of a shared one -EPERM. */
int quire_tmem_remote_freeze(struct quire_tmem_remote *pool, bool frozen);
/* Saves a shared persistent pool, as it is at one moment of this call, in the service's store, and has the service keep it: what is promised
 * is said at quire_tmem_serve. Waits for I/O, in proportion to what the pool holds, and for others' saves; other calls go on. On failure what was saved before is
 * there. -EPERM: another kind of pool; -EOPNOTSUPP: the service keeps none; -EBUSY: this client has a save or a forget under way; -ENOSPC: n_kept,
 * kept_bytes, or the store's space; -ENOMEM: the budget is full of persistent pages, and a save takes some 150 KiB of it; -EOVERFLOW and others: as of quire_tmem_pool_save. */
int quire_tmem_remote_save(struct quire_tmem_remote *pool);
/* Its image is removed, durably, and the service keeps it no longer: it goes with whoever else has it open, and is saved once more if that is
 * somebody when the service is stopped. -ENOENT: it was not saved; -EPERM, -EOPNOTSUPP, -EBUSY; as of quire_tmem_pool_forget. Waits as a save does. */
int quire_tmem_remote_forget(struct quire_tmem_remote *pool);
/* As quire_tmem_pool_stat. 0 or a negative errno. */
int quire_tmem_remote_stat(struct quire_tmem_remote *pool, struct quire_tmem_pool_stat *ret_stat);

struct quire_tmem_client_stat {
	uint64_t held_bytes;  /* that count against the cap: what private pools hold, and caps of shared ones */
	uint64_t cap_bytes;
	uint32_t n_pools, n_handles;           /* now */
	uint32_t most_pools, most_handles;
};
/* Of what the service allows this client, how much is used. 0 or a negative errno. */
int quire_tmem_client_stat(struct quire_tmem_client *client, struct quire_tmem_client_stat *ret_stat);

/* Of the whole service: as quire_tmem_stat, and quire_tmem_service_stat. -EPERM: for the service's own user and root alone; -EPROTO. */
int quire_tmem_remote_service_stat(struct quire_tmem_client *client, struct quire_tmem_stat *ret_tmem,
                                   struct quire_tmem_service_stat *ret_service);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
