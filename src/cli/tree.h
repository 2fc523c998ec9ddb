/* tree.h - the index of an imported tree: its bytes in a blob, put together and read again.
 *
 * A header, the tree's name, then entries, each followed by the bytes of its name and, of a symbolic link, its target.
 * Little-endian. Entries are numbered by the import; a directory stands before what is in it, and is named by its number;
 * the root is number 0, has no name and stands first. docs/format.md shows the same.
 *
 * An index is found by its tag in the catalogue. While an import is under way each transaction commits, beside the blobs of
 * files, a *part* that describes them; the last one commits the index and deletes the parts.
 */
#ifndef CLI_TREE_H
#define CLI_TREE_H

#include <quire/blob.h>

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define TREE_TAG_INDEX 'I'
#define TREE_TAG_PART 'P'
#define TREE_MAGIC "QUIRETR1"
#define TREE_MAX_NAME 4096u   /* bytes of a tree's name, or of a symbolic link's target */

enum tree_type { TREE_DIRECTORY = 1, TREE_FILE = 2, TREE_SYMLINK = 3, TREE_LINK = 4 };

struct tree_header_le {
	uint8_t magic[8];
	uint32_t name_bytes;
	uint32_t zero;
};
static_assert(sizeof(struct tree_header_le) == 16, "layout");

struct tree_entry_le {
	uint64_t number;
	uint64_t parent;       /* number of its directory */
	uint64_t blob;         /* TREE_FILE; TREE_LINK: the number of the entry that is the same file */
	uint64_t len_bytes;    /* TREE_FILE */
	uint64_t dev, inode;   /* where it was found */
	int64_t mtime_s, ctime_s, atime_s;
	uint32_t mtime_ns, ctime_ns, atime_ns;
	uint32_t mode;         /* permissions, 07777 */
	uint32_t uid, gid;
	uint16_t name_bytes, target_bytes;
	uint8_t type;          /* enum tree_type */
	uint8_t shared;        /* 1: TREE_LINK entries name it */
	uint8_t zero[2];
};
static_assert(sizeof(struct tree_entry_le) == 104 && offsetof(struct tree_entry_le, blob) == 16 &&
                      offsetof(struct tree_entry_le, mtime_s) == 48 && offsetof(struct tree_entry_le, mtime_ns) == 72 &&
                      offsetof(struct tree_entry_le, mode) == 84 && offsetof(struct tree_entry_le, name_bytes) == 96 &&
                      offsetof(struct tree_entry_le, type) == 100,
              "layout");

struct tree_entry {
	uint64_t number, parent, blob, len_bytes, dev, inode;
	struct timespec mtime, ctime, atime;
	uint32_t mode, uid, gid;
	enum tree_type type;
	bool shared;
	const char *name, *target; /* borrowed; name_bytes, target_bytes long, no zero byte at the end */
	uint16_t name_bytes, target_bytes;
};

/* What a file's stat says. */
void tree_entry_of(struct tree_entry *e, const struct stat *st);

/* ---- reading an index ---- */

struct tree_reader {
	struct quire_store *store; /* borrowed */
	uint64_t id, at;           /* at: what comes next from the blob */
	uint8_t *buf;              /* owned */
	size_t n, used;            /* in buf */
	char name[TREE_MAX_NAME + 1];
	uint32_t name_bytes;
};

/* Reads the header. -EUCLEAN: no index; or what a read says. close: also after a failure. */
int tree_open(struct tree_reader *r, struct quire_store *store, uint64_t id);
void tree_close(struct tree_reader *r);
/* 1: the next entry, borrowed until the next call; 0: there is none; negative errno. */
int tree_next(struct tree_reader *r, struct tree_entry *ret);

/* ---- writing one ---- */

struct tree_writer {
	struct quire_store *store; /* borrowed */
	uint64_t id;               /* not committed; 0: none */
	uint8_t *buf;              /* owned */
	size_t n;
};

int tree_begin(struct tree_writer *w, struct quire_store *store, uint8_t tag, const char *name);
int tree_add(struct tree_writer *w, const struct tree_entry *e);
int tree_finish(struct tree_writer *w);  /* all of it is written: commit `id` */
void tree_abandon(struct tree_writer *w); /* of one that is finished too: frees what is not the store's. id is aborted unless 0 */

#endif
