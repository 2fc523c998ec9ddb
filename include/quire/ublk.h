/* quire/ublk.h - block devices of this machine, /dev/ublkbN, served by this process (the driver ublk_drv of Linux 6.0 and later).
 *
 *	struct quire_ublk *ublk;
 *	quire_ublk_create(NULL, &ublk, &err);
 *	quire_ublk_add_file(ublk, 0, "disk.img", 0, &err);
 *	quire_ublk_run(ublk, &err);    // until quire_ublk_stop
 *	quire_ublk_destroy(ublk);
 *
 * A device that shows what lasts, a file or a volume, outlives its server, where the driver can that: killed in the middle of anything, the
 * server leaves a device that waits, with all that was asked of it; once one adds the same file, or volume, under the same
 * number, it goes on, and nobody who uses the device sees an error.
 *
 * Devices are added by one thread; then it runs on whichever thread calls quire_ublk_run, and on that alone. Needs root's rights, or whatever
 * /dev/ublk-control asks for, and io_uring. (Documentation/block/ublk.rst of Linux.)
 */
#ifndef QUIRE_UBLK_H
#define QUIRE_UBLK_H

#include <quire/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_ublk;
struct quire_volumes;   /* of quire/volume.h */
struct quire_tmem_pool; /* of quire/tmem.h */

typedef void (*quire_ublk_ready_fn)(struct quire_ublk *ublk, void *arg);

struct quire_ublk_options {
	size_t size;        /* sizeof(struct quire_ublk_options); 0 fields mean default */
	enum quire_engine engine; /* of what carries requests out; they come by io_uring in any case */
	unsigned depth;     /* requests of a device under way; default 128, up to 4096 */
	uint32_t io_bytes;  /* of one request: whole pages, up to 32 MiB; default 512 KiB. Each device has depth times that of memory, as far as it was used */
	quire_ublk_ready_fn ready; /* all devices are there: called by quire_ublk_run's thread; must not block; NULL */
	void *ready_arg;
};

/* opts may be NULL. -ENOENT: no driver; -EACCES, -EPERM; -ENOTSUP: no io_uring that has commands; -EINVAL; -ENOMEM. */
int quire_ublk_create(const struct quire_ublk_options *opts, struct quire_ublk **ret_ublk, struct quire_error *err);

/* After quire_ublk_run has returned, or without it: then new devices are removed. Returns 0, or the first error of making durable what was
 * written. NULL allowed. In a forked child -ECHILD, as of all calls here, and nothing is closed or freed. */
int quire_ublk_destroy(struct quire_ublk *ublk);

/* ---- devices: before it runs ---- */

#define QUIRE_UBLK_ANY UINT32_MAX /* a number that is free */
#define QUIRE_UBLK_READ_ONLY 1u

/* /dev/ublkbID, once it runs: whole sectors of a regular file or a block device, with the size that it has now. If there is a device of that number
 * that has lost its server, and it showed the same, it is taken over; that may block for 5 s. -EEXIST: a device that shows something else, or can't
 * be taken over; -EBUSY: it has its server; -EPERM; -EINVAL; errors of open(2). */
int quire_ublk_add_file(struct quire_ublk *ublk, uint32_t id, const char *path, unsigned flags, struct quire_error *err);

/* A disk in memory: zeros at first, gone with its server. size_bytes: whole sectors of 512. -EINVAL; -EEXIST: a device of that number is there;
 * -ENOMEM. */
int quire_ublk_add_memory(struct quire_ublk *ublk, uint32_t id, uint64_t size_bytes, struct quire_error *err);

/* As a file, a volume, or a snapshot, which is always read-only. Whatever is written is durable before the kernel hears of it. The group stays open until the server is destroyed. */
int quire_ublk_add_volume(struct quire_ublk *ublk, uint32_t id, struct quire_volumes *volumes, const char *volume, unsigned flags,
                          struct quire_error *err);

/* A disk to swap to, gone with its server: what quire_nbd_add_swap says of it. */
int quire_ublk_add_swap(struct quire_ublk *ublk, uint32_t id, struct quire_tmem_pool *pool, uint64_t size_bytes, struct quire_error *err);

/* The i-th one's number, and whether it was taken over. -ENOENT: there are not so many. */
int quire_ublk_device(const struct quire_ublk *ublk, unsigned i, uint32_t *ret_id, bool *ret_recovered);

/* ---- running ---- */

/* Starts the devices, and serves them until quire_ublk_stop, or until all have been removed by others. The thread is the loop's meanwhile, and is
 * marked (PR_SET_IO_FLUSHER, where the process may) as one that memory reclaim may be waiting for; so are threads that it makes, but those that
 * were there before are not. Once. Returns 0; a device that can't be started ends all: what the driver says (-ENOMEM, -EBUSY, …); what quire_loop_run is refused with: -EBUSY,
 * -EDEADLK. */
int quire_ublk_run(struct quire_ublk *ublk, struct quire_error *err);

/* Any thread: what is under way is carried out, devices are removed, and run returns. A device that could be taken over, and that is mounted,
 * swapped to, or part of another device, is left waiting instead: for the next server, or quire_ublk_remove. Never blocks. */
void quire_ublk_stop(struct quire_ublk *ublk);

/* ---- any process's devices ---- */

enum quire_ublk_state {
	QUIRE_UBLK_DEAD,    /* not started yet, or stopped */
	QUIRE_UBLK_LIVE,
	QUIRE_UBLK_WAITING, /* for a server */
};

struct quire_ublk_info {
	uint32_t id;
	enum quire_ublk_state state;
	int32_t pid;       /* of its server, the last one it had; -1: none yet */
	uint32_t depth;
	uint64_t size_bytes;
	bool read_only, recovers;
};

/* Up to n devices, by number: how many. Errors as of create. Blocks. */
int quire_ublk_list(struct quire_ublk_info *ret, unsigned n, struct quire_error *err);

/* Stops and removes it, whoever uses or serves it: what was under way ends with an error if nobody serves it. -ENODEV; -EPERM. Blocks until its
 * server, if it has one, has let go. */
int quire_ublk_remove(uint32_t id, struct quire_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
