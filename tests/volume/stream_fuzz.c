/* stream_fuzz.c - whatever a stream may be: received into a store on a simulated device.
 *
 * An input's first byte says how it is taken, the rest is the stream:
 *   bit 0   its checksums are made right first, so that what is behind them is reached
 *   bit 1   it goes on from the snapshot base@1, which is there; else it is as it says
 *   bit 2   what it has made so far is kept, and the rest of the inputs goes on with it
 * After each there is a snapshot that can be read, or there is none; and nothing else is new.
 *
 * As a program of its own it is run as fuzz.h says. With `make` behind the directory it writes the inputs to begin with there. Built with -DLIBFUZZER it is libFuzzer's target: see docs/testing.md.
 */
#include "stream_env.h"

#include "../../src/base/assert.h"
#include "../../src/base/crc32c.h"
#include "../../src/volume/stream.h"
#include "../support/fuzz.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENEW 4000u /* inputs for one store: names and segments come to their end */

struct world {
	struct env e;
	struct identity_le base; /* of base@1 */
	unsigned n_inputs;
	const uint8_t *data;
	size_t n_bytes;
};

/* ---- the store ---- */

static void make_volume(struct env *e, const char *name)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 8 * BLOCK};

	quire_assert(quire_volume_create(e->volumes, name, &o) == 0);
	struct quire_volume *v = open_volume(e, name);
	quire_assert(put(v, BLOCK, BLOCK, 1, 0) == 0);
	quire_volume_close(v);
}

static void begin_world(struct env *e, void *arg)
{
	struct world *w = arg;
	struct pipe_bytes s;

	quire_assert(env_format(e) == 0 && env_open(e) == 0);
	make_volume(e, "base");
	quire_assert(quire_volume_snapshot(e->volumes, "base", "base@1") == 0);
	quire_assert(stream_send(e, "base@1", NULL, NULL, &s) == 0);
	w->base = ((const struct stream_head_le *)s.bytes)->to;
	stream_free(&s);
}

static void end_world(struct env *e, void *arg)
{
	(void)arg;
	quire_assert(env_close(e) == 0);
}

/* ---- one input ---- */

static void make_right(struct world *w, uint8_t *bytes, size_t n, unsigned how)
{
	struct stream_head_le head;
	struct stream_chunk_le chunk;
	size_t at = sizeof(head);

	if (n < sizeof(head))
		return;
	memcpy(&head, bytes, sizeof(head));
	if ((how & 2) != 0)
		head.from = w->base;
	if ((how & 1) != 0)
		head.crc = htole32(crc32c(0, &head.version, sizeof(head) - offsetof(struct stream_head_le, version)));
	memcpy(bytes, &head, sizeof(head));
	uint32_t crc = le32toh(head.crc);
	while ((how & 1) != 0 && n - at >= sizeof(chunk)) {
		memcpy(&chunk, bytes + at, sizeof(chunk));
		uint64_t len = le32toh(chunk.type) == STREAM_DATA ? le64toh(chunk.len_bytes) : 0;
		size_t left = n - at - sizeof(chunk), k = len < left ? (size_t)len : left;
		if (k > 0)
			chunk.data_crc = htole32(crc32c(0, bytes + at + sizeof(chunk), k));
		stream_chunk_seal(&chunk, &crc);
		memcpy(bytes + at, &chunk, sizeof(chunk));
		at += sizeof(chunk) + k;
	}
}

static bool exists(struct env *e, const char *name)
{
	struct quire_volume_info info;

	return quire_volume_find(e->volumes, name, &info) == 0;
}

static void check_volumes(struct env *e, unsigned want)
{
	struct quire_volume_info info = {.id = 0};
	unsigned n = 0;

	while (quire_volume_ls(e->volumes, info.id, &info) == 1)
		n++;
	quire_assert(n == want);
}

/* It is there: it can be read, and given up. */
static void use(struct env *e, const char *name, bool whole)
{
	struct quire_volume_info info = {.id = 0};
	struct quire_volume *v;
	uint8_t block[BLOCK];
	struct iovec iov = {block, BLOCK};

	while (quire_volume_ls(e->volumes, info.id, &info) == 1 && (!info.snapshot || strcmp(info.name, "base@1") == 0))
		;
	quire_assert(info.snapshot);
	quire_assert(quire_volume_open(e->volumes, info.name, &v) == 0);
	for (uint64_t at = 0; at < quire_volume_bytes(v) && at < 16 * BLOCK; at += BLOCK)
		quire_assert(quire_volume_read(v, at, &iov, 1, NULL) == 0);
	quire_volume_close(v);
	if (!whole)
		quire_assert(quire_volume_rollback(e->volumes, name, "base@1") == 0);
	quire_assert(quire_volume_rm(e->volumes, info.name) == 0);
	if (whole)
		quire_assert(quire_volume_rm(e->volumes, name) == 0);
}

static void try(struct env *e, void *arg)
{
	static uint8_t bytes[FUZZ_INPUT_MOST_BYTES];
	struct world *w = arg;
	bool whole = (w->data[0] & 2) == 0;
	const char *name = whole ? "new" : "base";
	struct pipe_bytes s = {.bytes = bytes, .len = w->n_bytes - 1};

	memcpy(bytes, w->data + 1, s.len);
	make_right(w, bytes, s.len, w->data[0]);
	int rc = stream_receive(e, &s, name);
	if (rc == 0)
		use(e, name, whole);
	else
		quire_assert(rc == -EPIPE || rc == -EBADMSG || rc == -EUCLEAN || rc == -ENOTSUP || rc == -EINVAL || rc == -ESTALE ||
		             rc == -EEXIST || rc == -ENOSPC);
	for (unsigned i = 0; i < 2 && (w->data[0] & 4) == 0; i++)
		if (exists(e, i == 0 ? ".new" : ".base"))
			quire_assert(quire_volume_rm(e->volumes, i == 0 ? ".new" : ".base") == 0);
	check_volumes(e, 2 + exists(e, ".new") + exists(e, ".base"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static const struct sim_faults faults = {.cut_ends_io = true};
	static struct world w;

	if (n_bytes < 2 || n_bytes > FUZZ_INPUT_MOST_BYTES)
		return 0;
	if (w.n_inputs == RENEW) {
		env_run(&w.e, end_world, &w);
		env_fini(&w.e);
		w.n_inputs = 0;
	}
	if (w.n_inputs++ == 0) {
		env_init(&w.e, 1, ENV_UNITS, &faults);
		env_run(&w.e, begin_world, &w);
	}
	w.data = data;
	w.n_bytes = n_bytes;
	env_run(&w.e, try, &w);
	return 0;
}

/* ---- as a program of its own ---- */

#ifndef LIBFUZZER

/* Heads and chunks are few bytes among the data: one change in two is to 8 bytes of one of them. */
static void change_once(struct fuzz_input *in, const struct fuzz_input *other, uint64_t *seed)
{
	static const uint64_t odd[] = {0, 1, 2, 3, 4, 32, 4095, 4096, 8192, 32768, 1u << 20, (1u << 20) + 4096, UINT32_MAX, INT64_MAX, UINT64_MAX,
	                               UINT64_C(1) << 46, (UINT64_C(1) << 46) + 4096, UINT64_MAX - 4095};
	size_t at = random_next(seed) % in->n_bytes, n = random_next(seed) % 300;
	uint64_t word = htole64(odd[random_next(seed) % (sizeof(odd) / sizeof(odd[0]))]);
	unsigned shift = (unsigned)(random_next(seed) % 5);

	if (random_next(seed) % 2 == 0)
		at = random_next(seed) % (in->n_bytes < 400 ? in->n_bytes : 400);
	switch (random_next(seed) % 6) {
	case 0:
		in->bytes[at] ^= (uint8_t)(1u << random_next(seed) % 8);
		break;
	case 1:
		if (at + 8 <= in->n_bytes)
			memcpy(in->bytes + at, &word, 8u >> (shift > 3 ? 0 : shift));
		break;
	case 2:
		in->n_bytes = at + 2 < in->n_bytes ? at + 2 : in->n_bytes;
		break;
	case 3: /* something less */
		if (at + n < in->n_bytes && in->n_bytes - n > 1) {
			memmove(in->bytes + at, in->bytes + at + n, in->n_bytes - at - n);
			in->n_bytes -= n;
		}
		break;
	case 4: /* how it is taken */
		in->bytes[0] = (uint8_t)(random_next(seed) % 8);
		break;
	default: /* another one's end */
		n = other->n_bytes - random_next(seed) % other->n_bytes;
		if (at + n <= FUZZ_INPUT_MOST_BYTES && at + n > 1) {
			memcpy(in->bytes + at, other->bytes + other->n_bytes - n, n);
			in->n_bytes = at + n;
		}
	}
}

static void write_input(const char *directory, const char *name, uint8_t how, const struct pipe_bytes *s)
{
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *f = fopen(path, "we");
	quire_assert(f != NULL && fputc(how, f) == how && fwrite(s->bytes, 1, s->len, f) == s->len && fclose(f) == 0);
}

/* The inputs to begin with: whole, what has changed, nothing, and parts. */
static void make_inputs(struct env *e, void *arg)
{
	struct world w;
	struct pipe_bytes s;

	begin_world(e, &w);
	struct quire_volume *v = open_volume(e, "base");
	quire_assert(quire_volume_discard(v, BLOCK, BLOCK, 0, NULL) == 0 && put(v, 6 * BLOCK, BLOCK, 3, 0) == 0);
	quire_assert(quire_volume_zero(v, 3 * BLOCK, BLOCK, QUIRE_VOLUME_NO_HOLE, NULL) == 0);
	quire_assert(quire_volume_resize(e->volumes, "base", 9 * BLOCK) == 0);
	quire_volume_close(v);
	quire_assert(quire_volume_snapshot(e->volumes, "base", "base@2") == 0);
	quire_assert(quire_volume_snapshot(e->volumes, "base", "base@3") == 0);
	quire_assert(stream_send(e, "base@1", NULL, NULL, &s) == 0);
	write_input(arg, "whole", 0, &s);
	s.len /= 2;
	write_input(arg, "whole-cut", 4, &s);
	stream_free(&s);
	quire_assert(stream_send(e, "base@2", "base@1", NULL, &s) == 0);
	write_input(arg, "changed", 3, &s);
	s.len -= 10;
	write_input(arg, "changed-cut", 7, &s);
	stream_free(&s);
	quire_assert(stream_send(e, "base@3", "base@2", NULL, &s) == 0);
	write_input(arg, "nothing", 3, &s);
	stream_free(&s);
	quire_assert(env_close(e) == 0);
}

int main(int argc, char **argv)
{
	if (argc > 2) {
		static const struct sim_faults faults = {.cut_ends_io = true};
		struct env e;
		env_init(&e, 1, ENV_UNITS, &faults);
		env_run(&e, make_inputs, argv[1]);
		env_fini(&e);
		return 0;
	}
	if (argc < 2)
		(void)fprintf(stderr, "usage: %s DIRECTORY [make]\n", argv[0]);
	return argc > 1 ? fuzz_play(argv[1], change_once) : 2;
}

#endif
