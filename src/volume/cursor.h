/* cursor.h - where one is in the memory that a caller gave for a read or write. */
#ifndef VOLUME_CURSOR_H
#define VOLUME_CURSOR_H

#include <stdint.h>
#include <sys/uio.h>

struct cursor {
	const struct iovec *iov; /* borrowed */
	unsigned n, i;
	size_t at; /* in iov[i] */
};

static inline uint64_t iov_bytes(const struct iovec *iov, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* The next bytes, at most len, in one piece; the cursor moves on. */
static inline uint8_t *next_piece(struct cursor *c, size_t len, size_t *ret_len)
{
	while (c->i < c->n && c->at == c->iov[c->i].iov_len) {
		c->i++;
		c->at = 0;
	}
	size_t left = c->iov[c->i].iov_len - c->at;
	uint8_t *piece = (uint8_t *)c->iov[c->i].iov_base + c->at;
	*ret_len = left < len ? left : len;
	c->at += *ret_len;
	return piece;
}

#endif
