/* quire/store.h - a store: objects on media classes, under one catalogue.
 *
 * A store is a directory. Each class is a file in it, or a link to a block device: `capacity` always,
 * `staging` and `pmem` if added. The catalogue is a log on `capacity`; a transaction is one of
 * its records, so it is visible as a whole or not at all. One process holds a store for writing;
 * others may open it read-only, as it was at the last committed transaction when they opened it.
 *
 * Any thread may call any function here. Calls with an op follow quire/loop.h.
 */
#ifndef QUIRE_STORE_H
#define QUIRE_STORE_H

#include <quire/cache.h>
#include <quire/loop.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_store;

enum quire_class {
	QUIRE_CLASS_CAPACITY = 0,
	QUIRE_CLASS_STAGING = 1,
	QUIRE_CLASS_PMEM = 2,
	QUIRE_N_CLASSES
};

struct quire_store_options {
	size_t size;             /* sizeof(struct quire_store_options); 0 fields mean default */
	uint64_t capacity_bytes; /* of a class file that is made; default: 1 TiB, sparse; ignored for devices */
	const char *device;      /* a block device or file to hold `capacity`; default: a file in the directory */
};

/* Makes a store in a directory that is empty or not there yet. All or nothing. Nobody but the owner may read what is made
 * (0700, 0600): it may hold copies of what others may not read. Blocks.
 * -EEXIST (a store, or anything, is there; or on the device), -ENOSPC, -EACCES, -EINVAL (size too small). */
int quire_store_create(const char *path, const struct quire_store_options *opts, struct quire_error *err);

enum quire_store_flags {
	QUIRE_STORE_READ_ONLY = 1,
};

/* Opens a store; it is closed before its cache; maps of its objects must be of `cache`, whose budget holds its tables. Blocks: reads the
 * catalogue (a million objects a second and more). -ENOENT (no store), -EBUSY (another process holds it:
 * err says its pid), -EROFS (read-only medium: ask for READ_ONLY), -EUCLEAN (broken structure),
 * -EBADMSG (catalogue damaged), -ENOTSUP (a format newer than this library), -ESTALE (a class of another store). */
int quire_store_open(struct quire_cache *cache, const char *path, unsigned flags,
                     struct quire_store **ret_store, struct quire_error *err);

/* -EBUSY while objects are mapped, containers open, or calls and operations under way. NULL allowed. Blobs that were
 * not committed are gone. Blocks: waits for what is being given back. -EDEADLK in a loop's callback. */
int quire_store_close(struct quire_store *store);

/* A store that nobody holds gets another path (rename(2)). -EBUSY with the holder, -EEXIST, -ENOENT, -EXDEV.
 * Read-only users are not asked. Blocks. */
int quire_store_rename(const char *from, const char *to, struct quire_error *err);

/* Adds a class: a file of the store of that size, or `device`. -EEXIST, -EROFS; -EBUSY while another is added.
 * Durable when it returns. Blocks. */
int quire_store_class_add(struct quire_store *store, enum quire_class cls, const char *device,
                          uint64_t bytes, struct quire_error *err);

/* What shall be left of what is durable. Of QUIRE_CLASS_PMEM alone; it is kept with the class. */
enum quire_durable {
	QUIRE_DURABLE_DEFAULT = 0, /* mapped if that outlives the power (DAX); if not, a file or device like any other */
	QUIRE_DURABLE_POWER = 1,   /* mapped, and outlives the power, or refused: -ENOTSUP */
	QUIRE_DURABLE_PROCESS = 2, /* mapped, whatever the file system; outlives the process, perhaps not the machine's stop */
};
/* Of a new file: whether the file system gives it DAX. XFS and ext4 leave that to each file unless they are mounted with -o dax;
 * the file keeps it (FS_XFLAG_DAX), and it was looked at whether it is so (STATX_ATTR_DAX). */
enum quire_dax {
	QUIRE_DAX_DEFAULT = 0, /* as it comes: what the file system, or the store's directory, gives to new files */
	QUIRE_DAX_ON = 1,      /* or refused: -ENOTSUP. Of QUIRE_CLASS_PMEM alone */
	QUIRE_DAX_OFF = 2,     /* or refused: -ENOTSUP. Not with QUIRE_DURABLE_POWER */
};
struct quire_class_options {
	size_t size;        /* sizeof(struct quire_class_options) */
	const char *device; /* NULL: a file of the store, of `bytes` */
	uint64_t bytes;
	enum quire_durable durable; /* mapping needs libpmem2 where the store is: -ENOTSUP without it */
	enum quire_dax dax;         /* not with `device` */
};
/* The same, with more to choose from. -ENOTSUP: the place can't do what `durable` or `dax` asks for; -EINVAL: that is not of this class. */
int quire_store_class_add_with(struct quire_store *store, enum quire_class cls, const struct quire_class_options *opts,
                               struct quire_error *err);
/* Makes it larger; for a device, takes what the device has. -EINVAL if smaller; -ENOENT: no such class; -ENOSPC;
 * -EROFS. Durable when it returns. Blocks. */
int quire_store_class_grow(struct quire_store *store, enum quire_class cls, uint64_t bytes,
                           struct quire_error *err);

enum quire_medium {
	QUIRE_MEDIUM_DIRECT = 0,   /* past the kernel's page cache */
	QUIRE_MEDIUM_BUFFERED = 1, /* through it */
	QUIRE_MEDIUM_PMEM = 2,     /* mapped */
};
struct quire_class_stat {
	bool present;
	uint64_t bytes, used_bytes, free_bytes; /* in use: objects, their checksums, the catalogue, containers, logs, volumes */
	uint64_t pending_bytes;                 /* of deleted objects that are mapped still */
	char path[256];                         /* of the file, or of what it is a link to; cut if longer */
	enum quire_medium medium;
	enum quire_durable durable;             /* POWER or PROCESS: as it is */
	uint32_t granularity_bytes;             /* flushed at least to make a byte durable: 1, 64 (a cache line), a page or block */
};
struct quire_store_stat {
	uint8_t uuid[16];
	uint32_t format_version;
	uint64_t n_objects, n_open, n_uncommitted, n_containers;
	uint64_t catalogue_bytes, catalogue_live_bytes;
	uint64_t n_transactions, n_compactions; /* since open */
	uint64_t index_bytes;                   /* memory of the object index */
	uint64_t n_checksum_errors;             /* since open */
	struct quire_class_stat classes[QUIRE_N_CLASSES];
};
/* A snapshot, not atomic as a whole. Returns 0. Never blocks on storage. */
int quire_store_stat(struct quire_store *store, struct quire_store_stat *ret_stat);

/* One finding of a check, at a byte offset of the class. text: borrowed during the call. id: 0 where it is no object's. */
typedef void (*quire_check_fn)(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset,
                               const char *text);
/* Called now and then; a non-zero return ends the check with -ECANCELED. */
typedef int (*quire_progress_fn)(void *arg, uint64_t done_bytes, uint64_t all_bytes);

struct quire_check_options {
	size_t size;
	bool structure_only;         /* not the objects' bytes */
	uint64_t max_bytes_per_s;    /* 0: as fast as it goes */
	quire_check_fn found;
	quire_progress_fn progress;
	void *arg;
};
/* Looks at every structure and every checksum, while the store is open (read-only too). Returns the number of findings,
 * or a negative errno: -ECANCELED, -EINVAL, -ENOMEM, -EDEADLK in a loop's callback. `found` runs on the caller's thread. Blocks; in a
 * coroutine suspends. opts may be NULL. */
int64_t quire_store_check(struct quire_store *store, const struct quire_check_options *opts);

/* What becomes of a finding. */
enum quire_remedy {
	QUIRE_REMEDY_LOST = 0,    /* nothing has it twice: it is an error for who reads it, and for nobody else */
	QUIRE_REMEDY_REBUILT = 1, /* made again of what else there is */
	QUIRE_REMEDY_REOPEN = 2,  /* a log's footer or list of keys, or what its journal has written itself: quire_log_open (if it is one of
	                           * volumes, quire_volumes_open) makes it again where the store can be written, if the records are whole; if they aren't, it says so. With lost_bytes, records: they are
	                           * lost, and it puts a mark in their place */
};
struct quire_repair_finding {
	size_t size;              /* sizeof(struct quire_repair_finding) of the library */
	int error;                /* as of a check */
	enum quire_remedy remedy;
	uint64_t id;              /* 0 where it is no object's */
	enum quire_class cls;
	uint64_t offset;          /* bytes, in the class */
	uint64_t lost_from, lost_bytes; /* what reads as -EBADMSG (or -EIO) of object `id` from now on, as before; 0 bytes: not told so */
	const char *text;         /* borrowed: during the call */
};
typedef void (*quire_repair_fn)(void *arg, const struct quire_repair_finding *finding);

struct quire_repair_options {
	size_t size;              /* sizeof(struct quire_repair_options); 0 fields mean default */
	bool dry_run;             /* tells what would be done, and writes nothing */
	bool structure_only;      /* as of a check: pages of checksums are not looked at then */
	uint64_t max_bytes_per_s; /* as of a check */
	quire_repair_fn found;    /* each finding, when it has its remedy; on the caller's thread */
	quire_progress_fn progress;
	void *arg;
};
/* A check that makes again what there is twice: a superblock of the other copy, the catalogue of what is in memory, a page of
 * checksums of the pages it is about. Nothing is written over but what can't be read, or is another store's superblock, one thing at a time and
 * durably; so what was readable before is readable still, also if it is cut off, and then it may be called again. In use, as a check; a store that can't
 * be opened can't be repaired, and quire_store_open says why. Returns the number of findings, or a negative errno: -EROFS (not of a dry
 * run), -ECANCELED, -EINVAL, -ENOMEM, -EDEADLK in a loop's callback. Any thread. Blocks; in a coroutine suspends. */
int64_t quire_store_repair(struct quire_store *store, const struct quire_repair_options *opts);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
