/* source.h - where the bytes of a page come from: a plain file, or an object of a store. The one place in this layer that
 * knows the difference. (An anonymous range's come from its pool, without a read: anon.h.)
 *
 * An object's pages have passed their checksums when a read of it is done, so nothing is left to check; a plain file is
 * looked at once more behind the read.
 */
#ifndef CACHE_SOURCE_H
#define CACHE_SOURCE_H

#include "../media/media.h"
#include "../store/store.h"

#include <quire/cache.h>

/* Where the bytes of a page and of those behind it are. */
struct page_source {
	struct media_file *file; /* borrowed: from the range's owner, as long as the range is referenced; */
	struct object *object;   /* or this, likewise; */
	struct anon *anon;       /* or this; the others are NULL */
	uint64_t offset;         /* in it, bytes */
	uint64_t len_bytes;      /* from here to the end of the item */
	quire_fill_fn fill;
	void *fill_arg;
	uint64_t item;           /* for error reports */
	uint64_t item_offset;
	bool hot, may_grow;
	bool written;            /* of anon: about to be written to, so what comes is dirty */
	uint8_t unit;            /* enum unit_size */
	uint8_t mode;            /* enum stream_mode */
};

/* True if pages of it are verified before they appear; of anon, if they are clean: PAGE_DIRTY is PAGE_UNVERIFIED. */
static inline bool source_is_verified(const struct page_source *s)
{
	return s->object != NULL || s->fill != NULL || (s->anon != NULL && !s->written);
}

/* True if what was read of it before may be shown still. A file that is not open just now is not asked. */
bool source_is_as_it_was(const struct page_source *s);

/* What one read can bring at most. */
static inline uint64_t source_read_max_bytes(const struct page_source *s)
{
	return s->object != NULL ? OBJECT_READ_MAX_BYTES : UINT32_MAX;
}

/* One read. Owned by the caller, still until done() ran, on the loop's thread. */
struct source_read {
	void (*done)(struct source_read *read, int result);
	bool of_object;
	union {
		struct media_read file;
		struct object_read object;
	};
};

struct source_buffer {
	void *buf;        /* page aligned, room for whole pages */
	int slot;         /* of loop_buffers_register, or -1 */
	bool independent; /* the read waits for no other loop */
};

/* Starts to read the first len_bytes of s; done(0): they are there. */
void source_read_start(struct quire_loop *loop, struct source_read *read, const struct page_source *s,
                       uint32_t len_bytes, const struct source_buffer *buffer);

/* After done(0): may what was read be shown? 0, -ESTALE. */
int source_read_check(struct source_read *read);
/* After done(result < 0): bytes from the start of the read to where it is known to have failed; 0 if it is not. */
uint64_t source_read_error_at(const struct source_read *read, int result);
void source_read_finish(struct source_read *read); /* after done(), whatever its result */

/* The same on this thread, blocking, without memory of its own: for fault handlers. */
int source_read_now(const struct page_source *s, uint32_t len_bytes, void *buf);

#endif
