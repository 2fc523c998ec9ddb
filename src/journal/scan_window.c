/* scan_window.c - the part of a segment that a scan has in memory: a window of its own, or one in the segment owner's memory, which
 * grows while it is looked at. */
#include "scan.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD_MAX_BYTES (4u << 20)
#define COPY_BYTES (256u << 10)

uint8_t *scan_kept_memory(const struct scan *s, uint64_t segment)
{
	bool keeps = s->o->ops != NULL && s->o->ops->segment_memory != NULL && !s->single && segment == s->at.segment;

	return keeps ? s->o->ops->segment_memory(s->o->owner, segment) : NULL;
}

static int read_failed(struct scan *s, int rc, uint64_t segment, uint32_t offset)
{
	return quire_fail(s->err, rc, "%s: reading the log segment at %llu, offset %u", s->o->device->name,
	                  (unsigned long long)segment, offset);
}

/* What is on its way behind the window is there, or failed. */
static int end_ahead(struct scan *s)
{
	int rc = s->ahead_len > 0 ? device_read_end(&s->ahead) : 0;
	uint32_t len = s->ahead_len;

	s->ahead_len = 0;
	if (rc < 0)
		return read_failed(s, rc, s->segment.offset, s->window_offset + s->window_len);
	s->window_len += len;
	return 0;
}

void scan_drop_ahead(struct scan *s)
{
	if (s->ahead_len > 0)
		(void)device_read_end(&s->ahead);
	s->ahead_len = 0;
}

/* A window in the owner's memory grows, ever faster, while what is in it is looked at. */
static int begin_ahead(struct scan *s)
{
	uint32_t end = s->window_offset + s->window_len, left = s->o->segment_bytes - end;
	uint32_t len = s->window_len < AHEAD_MAX_BYTES ? s->window_len : AHEAD_MAX_BYTES;

	struct device *d = s->o->device;
	uint8_t *to = s->window + s->window_len;

	/* What is but copied is looked at while it is in the processor's cache. */
	if (d->now == DEVICE_NOW_COPIES && len > COPY_BYTES)
		len = COPY_BYTES;
	if (len > left)
		len = left;
	if (len == 0)
		return 0;
	int rc = d->now == DEVICE_NOW_COPIES ? device_read(d, s->segment.offset + end, to, len)
	                                     : device_read_begin(d, s->segment.offset + end, to, len, &s->ahead);
	if (rc < 0)
		return read_failed(s, rc, s->segment.offset, end);
	if (d->now == DEVICE_NOW_COPIES)
		s->window_len += len;
	else
		s->ahead_len = len;
	return 0;
}

int scan_read_window(struct scan *s, uint64_t segment, uint32_t offset, uint8_t *kept)
{
	uint32_t begin = offset & ~(FRAME_BLOCK_BYTES - 1), left = s->o->segment_bytes - begin;
	uint32_t len = left < s->window_capacity ? left : s->window_capacity;

	scan_drop_ahead(s);
	s->kept = kept != NULL;
	s->window = kept != NULL ? kept + begin : s->own_window;
	s->window_len = 0;
	int rc = device_read(s->o->device, segment + begin, s->window, len);
	if (rc < 0)
		return read_failed(s, rc, segment, begin);
	s->window_offset = begin;
	s->window_len = len;
	return 0;
}

int scan_read_header(struct scan *s, uint64_t segment)
{
	scan_drop_ahead(s);
	s->kept = false;
	s->window = s->own_window;
	s->window_len = 0;
	int rc = device_read(s->o->device, segment, s->window, FRAME_BLOCK_BYTES);
	return rc < 0 ? read_failed(s, rc, segment, 0) : 0;
}

int scan_need(struct scan *s, uint32_t offset, uint64_t len_bytes)
{
	uint64_t end = offset + len_bytes;
	int rc = 0;

	if (s->window_len == 0 || offset < s->window_offset || (!s->kept && end > (uint64_t)s->window_offset + s->window_len))
		rc = scan_read_window(s, s->segment.offset, offset, scan_kept_memory(s, s->segment.offset));
	while (rc == 0 && s->kept && end > (uint64_t)s->window_offset + s->window_len &&
	       s->window_offset + s->window_len < s->o->segment_bytes)
		rc = s->ahead_len > 0 ? end_ahead(s) : begin_ahead(s);
	if (rc == 0 && s->kept && s->ahead_len == 0 && s->o->device->now != DEVICE_NOW_COPIES &&
	    end - s->window_offset > s->window_len - s->window_len / 4)
		rc = begin_ahead(s);
	return rc;
}

static int big_reserve(struct scan *s, uint32_t len_bytes)
{
	if (len_bytes <= s->big_capacity)
		return 0;
	free(s->big);
	s->big_capacity = 0;
	s->big = malloc(len_bytes);
	if (s->big == NULL)
		return quire_fail(s->err, -ENOMEM, "%s: a record of %u bytes", s->o->device->name, len_bytes);
	s->big_capacity = len_bytes;
	return 0;
}

int scan_payload(struct scan *s, uint32_t padded_bytes, const uint8_t **ret)
{
	uint32_t offset = s->at.offset + JOURNAL_RECORD_HEADER_BYTES;
	uint32_t in_block = offset % FRAME_BLOCK_BYTES;

	if ((uint64_t)in_block + padded_bytes <= s->window_capacity) {
		int rc = scan_need(s, offset, padded_bytes);
		*ret = scan_in_window(s, offset);
		return rc;
	}
	int rc = big_reserve(s, padded_bytes);
	for (uint32_t done = 0; rc == 0 && done < padded_bytes;) {
		rc = scan_need(s, offset + done, 1);
		if (rc < 0)
			break;
		uint32_t there = s->window_offset + s->window_len - (offset + done), left = padded_bytes - done;
		uint32_t n = there < left ? there : left;
		memcpy(s->big + done, scan_in_window(s, offset + done), n);
		done += n;
	}
	*ret = s->big;
	return rc;
}
