/* import.h - an import from the inside: a walk that finds files, threads that copy them, and what they share.
 *
 *   walk ──jobs──▶ copiers ──entries, blobs──▶ a batch ──full──▶ one transaction, by the copier that filled it
 *                                          └──▶ the index, committed at the end
 *
 * One lock guards queue, batch, index and counters; it is not held while a file is read or a transaction made.
 */
#ifndef CLI_IMPORT_H
#define CLI_IMPORT_H

#include "import_known.h"
#include "progress.h"
#include "store_verbs.h"

#include <pthread.h>

#define IMPORT_QUEUE 1024u
#define IMPORT_BATCH_BLOBS 1024u
#define IMPORT_BATCH_BYTES (64u << 20)
#define IMPORT_COPIERS 8u

/* A directory of the walk; its descriptor stays open while it or a file of it is to be read. */
struct import_dir {
	struct import_dir *parent; /* owned: a reference; NULL for the root */
	char *name;                /* owned */
	int fd;                    /* owned */
	unsigned n_refs;           /* under the lock */
	uint64_t number;
};

struct import_job {
	struct import_dir *dir;    /* a reference */
	char *name;                /* owned */
	uint64_t number;
	bool shared;               /* more names follow */
};

struct import_batch {
	struct tree_writer part;   /* id 0: nothing is in it */
	uint64_t ids[IMPORT_BATCH_BLOBS + 1];
	unsigned n;
	uint64_t bytes;
};

struct import_counters {
	uint64_t n_files, n_bytes, n_reused, n_directories, n_links, n_skipped, n_unread, n_seen;
};

struct import {
	struct session *session;   /* borrowed */
	const char *name;          /* borrowed: of the tree */
	enum quire_class cls;
	struct stat store_dir;     /* is not imported into itself */
	struct known known;

	pthread_mutex_t lock;
	pthread_cond_t can_push, can_pop;
	struct import_job queue[IMPORT_QUEUE];
	unsigned head, n_queued;
	bool walked;               /* no more jobs will come */
	int error;                 /* the first that ends it all */
	struct tree_writer index;
	struct import_batch batch;
	struct import_counters counters;
	uint64_t *unread;          /* owned: numbers of shared files that could not be read */
	size_t n_unread;
	struct progress progress;
};

/* Ends the import; says why, if it is the first. */
void import_end(struct import *im, int error, const char *what);
bool import_is_ending(struct import *im);

/* Says that something was left out: skipped for what it is (why NULL), or since it can't be read. */
void import_leave_out(struct import *im, const struct import_dir *dir, const char *name, const char *why);
void import_dir_put(struct import *im, struct import_dir *dir); /* the lock is not held */
int import_add_entry(struct import *im, const struct tree_entry *e); /* to the index alone */

/* import_walk.c: the whole tree, from the directory `fd` (taken); then waits for nothing. */
void import_walk(struct import *im, const char *path, int fd);

/* import_copy.c: a thread that copies until there is nothing more. */
void *import_copier(void *arg);
/* Commits what is in the batch. The lock is not held, and nobody else is at it. */
int import_commit_rest(struct import *im);

#endif
