/* ublk_internal.h - the ublk server from the inside; the essays are in ublk_server.c and ublk_queue.c. For src/serve alone. */
#ifndef SERVE_UBLK_INTERNAL_H
#define SERVE_UBLK_INTERNAL_H

#include "../loop/coro.h"
#include "../loop/loop.h"
#include "export.h"
#include "ublk_abi.h"

#include <liburing.h>
#include <quire/ublk.h>
#include <stdatomic.h>

/* ---- ublk_control.c: the driver's control device ---- */

struct ublk_control {
	int fd;            /* owned */
	bool encodes;      /* commands are told as ioctls */
	uint64_t features; /* 0: the driver doesn't say */
};

/* -ENOENT: no driver; -EACCES, -EPERM; -ENOTSUP: no io_uring that has commands. */
int ublk_control_open(struct ublk_control *ret, struct quire_error *err);
void ublk_control_close(struct ublk_control *c);
/* Suspends the coroutine that it is called in, or blocks the thread. What the driver says: 0, or a negative errno. */
int ublk_control_call(const struct ublk_control *c, enum ublk_command command, uint32_t device, void *bytes, size_t n_bytes, uint64_t data);
/* -ENODEV: there is no such device. */
int ublk_control_info(const struct ublk_control *c, uint32_t device, struct ublk_device_info *ret);
int ublk_control_parameters(const struct ublk_control *c, uint32_t device, struct ublk_parameters *ret);

/* ---- ublk_request.c ---- */

/* Carries out what a descriptor says, with so many bytes of memory, in a coroutine: what the driver is to be told. always: enum export_how of
 * every change. */
int32_t ublk_carry_out(struct export *e, const struct export_description *about, const struct ublk_descriptor *d, void *buf,
                       uint32_t buf_bytes, unsigned always);

/* ---- ublk_queue.c: requests of one device ---- */

struct ublk_queue;

struct ublk_slot {
	struct ublk_queue *queue;
	uint16_t tag;
};

struct ublk_queue {
	struct quire_loop *loop;                   /* borrowed */
	struct export *export;                     /* borrowed */
	struct export_description about;
	unsigned always;                           /* enum export_how of every change */
	bool encodes;
	int fd;                                    /* owned: the device, as its server sees it; -1 */
	struct io_uring ring;
	bool has_ring;
	unsigned depth;
	uint32_t io_bytes;                         /* of memory, of each tag */
	const struct ublk_descriptor *descriptors; /* owned: a mapping; NULL */
	char *buffers;                             /* owned: a mapping; NULL */
	struct ublk_slot *slots;                   /* owned */
	unsigned n_out;                            /* tags that the driver has, or a coroutine */
	unsigned n_running;                        /* of them: coroutines */
	struct loop_turn_hook submit;
	struct quire_op poll;
	bool polling;                              /* requests are taken */
	bool ends;                                 /* no more of them */
	struct coro *waiter;                       /* until it has ended; NULL: not */
};

/* Opens the device's character device; memory, and a ring. Nothing is under way. ublk_queue_fini takes what is half made. */
int ublk_queue_init(struct ublk_queue *q, uint32_t device);
void ublk_queue_fini(struct ublk_queue *q);
/* On the loop's thread, in a coroutine: tells the driver that all tags are free, and takes requests from then on. -ENOMEM, … */
int ublk_queue_start(struct ublk_queue *q);
/* The same: no request is taken any more. */
void ublk_queue_end(struct ublk_queue *q);
/* The same: until it has ended, because the driver took all tags back or because it was told to, and all coroutines have. */
void ublk_queue_wait(struct ublk_queue *q);

/* ---- ublk_device.c ---- */

/* What of an export outlives its server, killed at any moment. */
enum ublk_lasting {
	UBLK_NOTHING, /* nobody may take over */
	UBLK_WRITTEN, /* what was written */
	UBLK_DURABLE, /* what was made durable */
};

struct ublk_device {
	struct quire_ublk *server; /* borrowed */
	struct export *export;     /* owned */
	uint32_t id;
	uint32_t depth, io_bytes;  /* as the driver has them */
	enum ublk_lasting lasting;
	bool recovers;             /* who comes later may take it over */
	bool recovering;           /* it was there, and its server was not */
	bool ours;                 /* the driver has it, and we remove it */
	bool starting, live;
	bool left;                 /* for who comes next */
	struct ublk_queue queue;
	struct loop_timer grace;
	struct coro *ender;        /* waits until it has started; NULL: not */
};

/* Makes the device, or takes over the one that has lost its server. Takes the export, also if it fails. identity: of what is shown; only
 * who shows the same may take over. */
int ublk_add(struct quire_ublk *u, uint32_t id, struct export *e, enum ublk_lasting lasting, uint64_t identity, struct quire_error *err);
uint64_t ublk_identity(uint64_t seed, const void *bytes, size_t n_bytes); /* not 0 */
/* Coroutines: its whole life; and what ends it. */
void ublk_device_run(void *device);
void ublk_device_end(void *device);
/* Nothing of it runs. The first error of closing what was shown. */
int ublk_device_destroy(struct ublk_device *d);
void ublk_device_path(uint32_t id, char kind, char *ret); /* /dev/ublkbN, or c; into UBLK_PATH_BYTES */
#define UBLK_PATH_BYTES 32u

/* ---- ublk_server.c ---- */

struct quire_ublk {
	struct quire_loop *loop; /* owned */
	struct quire_ublk_options options;
	struct ublk_control control;
	struct ublk_device **devices; /* owned */
	unsigned n_devices, n_live;
	int error;                /* the first of starting; 0 */
	struct quire_error why;
	atomic_bool stop_asked;
};

#endif
