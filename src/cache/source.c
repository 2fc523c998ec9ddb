/* source.c - see source.h. */
#include "source.h"

#include <errno.h>
#include <stddef.h>

bool source_is_as_it_was(const struct page_source *s)
{
	return s->object != NULL || media_file_check(s->file) == 0;
}

static void file_done(struct media_read *file, int result)
{
	struct source_read *read = (struct source_read *)((char *)file - offsetof(struct source_read, file));

	read->done(read, result);
}

static void object_done(struct object_read *object, int result)
{
	struct source_read *read = (struct source_read *)((char *)object - offsetof(struct source_read, object));

	read->done(read, result);
}

void source_read_start(struct quire_loop *loop, struct source_read *read, const struct page_source *s,
                       uint32_t len_bytes, const struct source_buffer *buffer)
{
	read->of_object = s->object != NULL;
	if (read->of_object) {
		/* Not all of it: the greater part belongs to the driver. */
		read->object.object = s->object;
		read->object.offset = s->offset;
		read->object.len_bytes = len_bytes;
		read->object.buf = buffer->buf;
		read->object.buffer_slot = buffer->slot;
		read->object.independent = buffer->independent;
		read->object.done = object_done;
		object_read_start(loop, &read->object);
		return;
	}
	read->file = (struct media_read){
		.file = s->file,
		.offset = s->offset,
		.len_bytes = len_bytes,
		.buf = buffer->buf,
		.buffer_slot = buffer->slot,
		.independent = buffer->independent,
		.done = file_done,
	};
	media_read_start(loop, &read->file);
}

int source_read_check(struct source_read *read)
{
	return read->of_object ? 0 : media_read_check(&read->file);
}

uint64_t source_read_error_at(const struct source_read *read, int result)
{
	return read->of_object && result == -EBADMSG ? read->object.bad_offset - read->object.offset : 0;
}

void source_read_finish(struct source_read *read)
{
	if (!read->of_object)
		media_read_finish(&read->file);
}

int source_read_now(const struct page_source *s, uint32_t len_bytes, void *buf)
{
	return s->object != NULL ? object_read_now(s->object, s->offset, len_bytes, buf)
	                         : media_read_now(s->file, s->offset, len_bytes, buf);
}
