/* media_internal.h - pool and file from the inside. For src/media alone. */
#ifndef MEDIA_INTERNAL_H
#define MEDIA_INTERNAL_H

#include "media.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* The word `descriptor` of a file: users in the high half, descriptor + 1 in the low one.
 * 0: closed. Users are reads under way, and whoever else must not lose the descriptor. */
#define DESCRIPTOR_USER (1ull << 32)

struct media_file {
	_Atomic uint64_t descriptor;
	struct media_pool *pool;             /* borrowed: outlives its files */
	struct media_identity identity;      /* size_bytes: atomic, grows by media_file_extend */
	_Atomic uint64_t n_completed;        /* reads that the medium has answered */
	_Atomic uint64_t n_checked;          /* those of them that a check has covered */
	struct media_file *next, *prev;      /* ring of open files, or next in the starved queue */
	struct media_read *waiters;          /* newest last; pool->lock */
	struct media_read **waiters_tail;
	struct timespec accepted_ctime;      /* of a held file that has lost a name; pool->lock */
	int64_t birth_ns;                    /* of an appended file, whose times don't count; 0: unknown */
	uint32_t accepted_links;
	uint32_t alignment;
	uint32_t bytes;                      /* of this allocation */
	uint16_t name_offset;                /* in path: a relative name stands behind its directory */
	uint8_t flags;                       /* enum media_file_flags, and those below */
	bool opening;                        /* some loop opens it, or it is starved; pool->lock */
	_Atomic bool buffered;               /* the file system refused O_DIRECT, or we don't want it */
	_Atomic bool referenced;             /* since the clock's hand came by */
	char path[];                         /* absolute, or "fd N" */
};

enum {
	FILE_BY_DESCRIPTOR = 0x40, /* no path; implies MEDIA_HOLD */
	FILE_DUPLICATE = 0x80,     /* its open file description is the caller's own */
};

#define N_KNOWN_DEVICES 16

struct media_pool {
	pthread_mutex_t lock;
	unsigned max_open;
	bool buffered;
	uint32_t page_bytes;
	struct media_file *hand;        /* in the ring of open files; lock */
	unsigned n_reserved;            /* descriptors that are open or being opened; lock */
	struct media_file *starved;     /* wait for a descriptor, oldest first; lock */
	struct media_file **starved_tail;
	_Atomic unsigned n_starved;
	_Atomic unsigned n_open;        /* in the ring */
	_Atomic unsigned n_held;
	_Atomic uint64_t bytes;
	_Atomic unsigned n_files;
	struct {
		uint64_t dev;
		uint32_t alignment;
	} devices[N_KNOWN_DEVICES];     /* lock */
	unsigned n_devices;
	pthread_mutex_t spare_lock;     /* may be held over blocking calls; before lock */
	int spare;                      /* given up when the process has no descriptor left; -1 */
};

/* ---- descriptors (pool.c); none of these touches a caller's memory ---- */

/* The descriptor, which stays until descriptor_put; -1 if the file is closed. Lock-free. */
int descriptor_get(struct media_file *file);
void descriptor_put(struct media_file *file);

/* Takes over fd as the file's, with n_users uses, if there is room among max_open. False:
 * the file has a descriptor already, is being opened, or there is none to give up. */
bool descriptor_adopt(struct media_file *file, int fd, unsigned n_users);

/* The same for a file that is held: always has room, never leaves. */
void descriptor_adopt_held(struct media_file *file, int fd);

/* Closes what the file has; nobody uses it. */
void descriptor_drop(struct media_file *file);

/* Closes one idle descriptor of the pool; false if there is none. */
bool descriptor_evict_one(struct media_pool *pool);

/* For the loop that opens `file` (file->opening, a descriptor reserved). Done: takes over
 * fd, returns the list of waiters, each of which is a user. */
struct media_read *descriptor_opened(struct media_file *file, int fd);

/* Failed: gives the reservation back, returns the waiters. */
struct media_read *descriptor_failed(struct media_file *file);

/* The process has no descriptor left. >0: one was closed, try again. 0: the file waits
 * until one is free, and is started anew then; -EAGAIN if it may not. -EMFILE: nobody could free one. */
int descriptor_exhausted(struct media_file *file, bool may_wait);

/* Puts read among those who wait for its file. Returns: */
enum wait_outcome {
	WAIT_OPEN,   /* not at all: it is open now, read->fd is a use of it */
	WAIT_QUEUED, /* somebody else opens it */
	WAIT_OPENER, /* the caller is to open it: a descriptor is reserved */
	WAIT_ALONE,  /* not at all: the caller is to open it for itself (independent reads) */
};
enum wait_outcome descriptor_wait(struct media_read *read);

/* Opens the file of the waiting read at the head, on that read's loop (read.c). */
void media_open_start(struct media_file *file);

/* ---- opening (open.c) ---- */

/* Flags for the file as it stands; the name can't make the call wait. */
int media_open_flags(const struct media_file *file);

/* After a call that used media_open_flags: makes fd fit for reading. */
int media_open_settle(struct media_file *file, int fd);

/* The same, if fd is the file that we know: 0, -ESTALE. */
int media_open_accept(struct media_file *file, int fd);

/* Result of an open by path, in terms of a file that was there before. */
int media_open_error(int rc);

/* Blocks. A descriptor of one's own; *ret_spare: the pool's spare one was given up for it,
 * pool->spare_lock is held until media_open_spare_done. */
int media_open_now(struct media_file *file, bool *ret_spare);
void media_open_spare_done(struct media_pool *pool, int fd); /* closes fd */

/* ---- identity (identity.c) ---- */

void identity_of_stat(const struct stat *st, struct media_identity *ret);

/* When the inode was made, 0 if the file system does not tell. */
int64_t identity_birth_ns(int fd);

uint64_t identity_size(const struct media_file *file);

/* Is this still the file? 0, -ESTALE. known_bytes: its size as it was known before st was taken, since
 * a file that was extended meanwhile has not become shorter. */
int identity_check(struct media_file *file, const struct stat *st, uint64_t known_bytes);

/* enum media_state bits of our inode as it is now. */
int identity_changes(const struct media_file *file, const struct stat *st, uint64_t known_bytes);

#endif
