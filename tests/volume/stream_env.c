/* stream_env.c - see stream_env.h. */
#include "stream_env.h"

#include <stdlib.h>
#include <string.h>

int stream_put(void *arg, const void *bytes, size_t len_bytes)
{
	struct pipe_bytes *s = arg;

	if (s->len + len_bytes > s->capacity) {
		s->capacity = 2 * s->capacity + len_bytes;
		s->bytes = realloc(s->bytes, s->capacity);
		assert_non_null(s->bytes);
	}
	memcpy(s->bytes + s->len, bytes, len_bytes);
	s->len += len_bytes;
	return 0;
}

/* In pieces, as a pipe may give them. */
int64_t stream_get(void *arg, void *bytes, size_t len_bytes)
{
	struct pipe_bytes *s = arg;
	size_t left = (s->stop != 0 ? s->stop : s->len) - s->at, n = len_bytes < left ? len_bytes : left;

	n = n < 3000 ? n : 3000;
	memcpy(bytes, s->bytes + s->at, n);
	s->at += n;
	return (int64_t)n;
}

void stream_free(struct pipe_bytes *s)
{
	free(s->bytes);
	*s = (struct pipe_bytes){0};
}

int stream_send(struct env *e, const char *snapshot, const char *from, const char *resume, struct pipe_bytes *ret)
{
	struct quire_volume *to = open_volume(e, snapshot);
	struct quire_volume_send_options o = {.size = sizeof(o), .resume = resume};

	*ret = (struct pipe_bytes){0};
	if (from != NULL)
		o.from = open_volume(e, from);
	int rc = quire_volume_send(to, &o, stream_put, ret, &e->err);
	quire_volume_close(o.from);
	quire_volume_close(to);
	return rc;
}

int stream_receive(struct env *e, struct pipe_bytes *s, const char *name)
{
	s->at = 0;
	return quire_volume_receive(e->volumes, name, NULL, stream_get, s, &e->err);
}

bool is_same(struct env *e, const char *a, const char *b)
{
	struct quire_volume *x = open_volume(e, a), *y = open_volume(e, b);
	uint64_t n = quire_volume_bytes(x);
	bool same = n == quire_volume_bytes(y);
	uint8_t *one = malloc(n + 1), *other = malloc(n + 1);
	struct iovec i = {one, n}, k = {other, n};

	if (same && n > 0) {
		assert_int_equal(quire_volume_read(x, 0, &i, 1, NULL), 0);
		assert_int_equal(quire_volume_read(y, 0, &k, 1, NULL), 0);
		same = memcmp(one, other, n) == 0;
	}
	free(one);
	free(other);
	quire_volume_close(x);
	quire_volume_close(y);
	return same;
}
