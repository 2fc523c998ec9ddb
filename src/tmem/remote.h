/* remote.h - where evicted pages of pools with QUIRE_TMEM_REMOTE may go: values under keys, handed in from above.
 *
 * Nothing is expected of it: values may be lost, answers late or wrong. It need outlive nothing. Calls are made without the
 * tmem's lock; those that block do so for a time that is bounded.
 */
#ifndef TMEM_REMOTE_H
#define TMEM_REMOTE_H

#include <assert.h>
#include <quire/tmem.h>

/* No other value, of this tmem or any other, ever has the same. */
struct tmem_remote_key {
	uint8_t instance[16]; /* random */
	uint64_t version;     /* counted */
};

/* How each value begins: what it must be, or it is none. */
struct tmem_remote_head {
	struct tmem_remote_key key;
	uint64_t object[3];
	uint32_t index, pool;
	uint32_t len, check; /* of the bytes behind: how many, CRC32C */
};
static_assert(sizeof(struct tmem_remote_head) == 64, "no padding: compared as bytes");

struct tmem_remote_ops {
	/* A value, from head->len bytes behind its head on; one thread at a time. 0; -EIO, … : it may be there or not. */
	int (*send)(void *arg, const struct tmem_remote_head *value);
	/* The value of that key: its head, and the n_bytes behind. -ENOENT: there is none; -EBADMSG: it is of another length; -EIO, -ETIMEDOUT, …
	 * Any threads at once. */
	int (*fetch)(void *arg, const struct tmem_remote_key *key, struct tmem_remote_head *ret_head, void *ret_bytes, uint32_t n_bytes);
	/* Is of no use any more; may be ignored. By the thread that sends. */
	void (*drop)(void *arg, const struct tmem_remote_key *key);
	void (*close)(void *arg);
};

struct tmem_remote {
	const struct tmem_remote_ops *ops;
	void *arg;           /* owned, once it is set */
	uint64_t queue_bytes; /* of pages on their way; TMEM_REMOTE_LEAST_QUEUE at least, 4 GiB at most */
};

#define TMEM_REMOTE_LEAST_QUEUE (128u << 10)

/* Pages may go there from now on. -EBUSY: there is one; -ENOMEM: the queue, which is charged to the budget; -EAGAIN: no thread. */
int tmem_remote_set(struct quire_tmem *tmem, const struct tmem_remote *remote, struct quire_error *err);
/* Closed; what is there is gone. -EBUSY: a get is under way; -ENOENT: there is none. quire_tmem_destroy does the same. */
int tmem_remote_clear(struct quire_tmem *tmem);

#endif
