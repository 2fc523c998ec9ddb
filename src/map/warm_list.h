/* warm_list.h - the file in which a map's hot pages are listed: written whole, read whole or not at all.
 *
 * Layout: docs/format.md. A list is a hint: whoever reads it checks each run against what he has. Any thread;
 * everything here blocks.
 */
#ifndef MAP_WARM_LIST_H
#define MAP_WARM_LIST_H

#include <quire/error.h>
#include <stdbool.h>

#define WARM_UNIT_SHIFT 12          /* runs are counted in these, whatever the size of a page */
#define WARM_RUN_MAX_UNITS ((UINT32_C(1) << 30) - 1)
#define WARM_MAX_RUNS (UINT64_C(4) << 20)

enum warm_kind {
	WARM_FILE = 1,
	WARM_GROWING, /* a file of which only the start is known not to change */
	WARM_BLOB,
};

/* By what an item is known again. */
struct warm_identity {
	enum warm_kind kind;
	uint32_t mtime_ns;    /* of a file */
	uint64_t bytes;       /* of the file or blob */
	uint64_t id;          /* of a blob; of a file: seconds of mtime */
	uint64_t offset;      /* where in it the item begins */
};

struct warm_run {
	uint32_t item, first, n; /* units from the item's start */
	unsigned uses;           /* 0 to 3 */
};

#define WARM_BUFFER_BYTES 49152

/* One file being written, or read. Its fields are private. */
struct warm_list {
	int dir_fd, fd;
	const char *name;        /* borrowed: until closed */
	char *partial;           /* owned; what it is called while it is written */
	uint64_t n_items, n_runs;
	uint64_t at;             /* where the buffer's end stands in the file */
	uint32_t crc;
	int error;               /* the first of writing */
	uint32_t n_buffered, n_used;
	unsigned char buffer[WARM_BUFFER_BYTES];
};

/* Writes NAME.partial in the directory; items come first, n_items of them, then runs, hottest first. Errors
 * stick: commit returns the first, and then, as after abort, the file that was there is as it was. */
int warm_list_create(struct warm_list *l, int dir_fd, const char *name, struct quire_error *err);
void warm_list_put_item(struct warm_list *l, const struct warm_identity *id);
void warm_list_put_run(struct warm_list *l, const struct warm_run *run);
int warm_list_commit(struct warm_list *l, struct quire_error *err);
void warm_list_abort(struct warm_list *l);

/* Reads it from end to end and checks it; -ENOENT: there is none; -EUCLEAN: it is none, or not of this version;
 * -EBADMSG: damaged. Then items and runs in order, as they were put; 0: no more. */
int warm_list_open(struct warm_list *l, int dir_fd, const char *name, struct quire_error *err);
int warm_list_get_item(struct warm_list *l, struct warm_identity *ret_id);
int warm_list_get_run(struct warm_list *l, struct warm_run *ret_run);
void warm_list_close(struct warm_list *l);

#endif
