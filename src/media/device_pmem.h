/* device_pmem.h - a mapped file as a device: what its parts share. For src/media alone. */
#ifndef MEDIA_DEVICE_PMEM_H
#define MEDIA_DEVICE_PMEM_H

#include "device_file.h"
#include "pmem_batch.h"
#include "pmem_lib.h"

#include <pthread.h>
#include <stdatomic.h>

#define PMEM_CHUNK_BYTES (UINT64_C(2) << 20)

/* Still once made, but for the chunks. */
struct pmem_mapping {
	struct pmem_mapping *older; /* owned; kept until the device is closed */
	struct pmem2_map *map;      /* owned; NULL: mapped without libpmem2, as the page cache has it */
	char *base;                 /* owned, if map is NULL */
	uint64_t size_bytes;
	_Atomic uint64_t *backed;   /* owned; a bit for each chunk that has its space, and its page tables */
};

struct pmem_range {
	uint64_t offset, len_bytes;
};

struct pmem_lane {
	struct loop_task task;
	struct pmem_lane *next;
	struct device_pmem *device;
	struct quire_loop *loop;   /* borrowed */
	struct device_io *first, **last;
	bool queued;
};

struct device_pmem {
	struct device_file file; /* the same file, for reads and discards */
	const struct pmem_lib *lib;
	struct pmem_memory memory;
	pmem2_memcpy_fn memcpy;  /* NULL: plain stores, no fence */
	pmem2_drain_fn drain;
	enum device_durable wish;
	_Atomic(struct pmem_mapping *) mapping; /* owned; the newest */
	struct pmem_range *bad;  /* owned; known when it was opened */
	unsigned n_bad;
	pthread_mutex_t lock;    /* lanes, and: */
	uint64_t n_discards_begun, n_discards_ended;
	struct pmem_lane *lanes; /* owned */
};

/* ---- device_pmem.c ---- */

extern const struct device_ops device_pmem_ops;
void pmem_memory_init(struct device_pmem *p);

/* ---- device_pmem_open.c ---- */

/* A new mapping of the whole file becomes the device's. */
int pmem_map(struct device_pmem *p, struct quire_error *err);
void pmem_unmap_all(struct device_pmem *p);

/* ---- device_pmem_space.c ---- */

/* A store there does not end in a SIGBUS for lack of space. 0, -ENOSPC, -EIO. */
int pmem_back(struct device_pmem *p, struct pmem_mapping *m, uint64_t offset, uint64_t len_bytes);

/* Its pages are mapped, and none is known as bad: a load there does not end in a SIGBUS. */
bool pmem_can_load(struct pmem_mapping *m, uint64_t offset, uint64_t len_bytes);

/* A discard by the file; the space is asked for anew before the next store there. */
void pmem_discard(struct device_pmem *p, struct quire_loop *loop, struct device_io *io);

#endif
