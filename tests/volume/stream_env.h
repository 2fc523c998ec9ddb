/* stream_env.h - streams of volumes in memory. */
#ifndef TESTS_VOLUME_STREAM_ENV_H
#define TESTS_VOLUME_STREAM_ENV_H

#include "volume_env.h"

struct pipe_bytes {
	uint8_t *bytes; /* owned: free */
	size_t len, capacity, at, stop; /* stop: it seems to end there; 0: where it ends */
};

int stream_put(void *arg, const void *bytes, size_t len_bytes);
int64_t stream_get(void *arg, void *bytes, size_t len_bytes);
void stream_free(struct pipe_bytes *s);

/* Sends a snapshot; from, resume: or NULL. */
int stream_send(struct env *e, const char *snapshot, const char *from, const char *resume, struct pipe_bytes *ret);
/* Receives it from its start. */
int stream_receive(struct env *e, struct pipe_bytes *s, const char *name);
bool is_same(struct env *e, const char *a, const char *b); /* size and content */

#endif
