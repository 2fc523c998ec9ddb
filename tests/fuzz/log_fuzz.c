/* log_fuzz.c - a log with keys, of sealed segments and a tail, in a store; all of it was edited, footers and records and what the
 * catalogue says of them: it opens, or is refused with a reason.
 *
 * An input (image.h) begins with a byte:
 *   bit 0   checksums are made right behind the edits
 *   bit 1   it is opened to be read only
 *   bit 2   nothing is appended
 * What opened is checked, and read forward, backward, by time and by key: a record, or an error. What is appended is there when it
 * is opened again, which it must.
 */
#include "seal.h"

#include "../log/log_env.h"
#include "../support/fuzz.h"
#include "../../src/base/assert.h"
#include "../../src/base/crc32c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_UNITS 400u
#define N_KEYS 11u
#define N_APPENDED 3u
#define MOST_STEPS 4000u

struct world {
	struct env e;
	struct sim *good;
	struct fuzz_image image;
	uint8_t how;
	uint64_t appended[N_APPENDED]; /* their numbers */
};

/* ---- the log ---- */

static size_t make_key(uint64_t no, char key[16])
{
	return (size_t)snprintf(key, 16, "key %llu", (unsigned long long)(no % N_KEYS));
}

static int append(struct quire_log *log, uint64_t no, bool durable, uint64_t *ret_lsn)
{
	static uint8_t bytes[1500];
	struct iovec part = {bytes, no * 97 % sizeof(bytes)};
	char key[16];
	size_t n = make_key(no, key);

	memset(bytes, (int)no, part.iov_len);
	if (no % 3 == 0)
		return durable ? quire_log_append(log, &part, 1, ret_lsn, NULL) : quire_log_append_nowait(log, &part, 1, ret_lsn);
	return durable ? quire_log_append_key(log, key, n, &part, 1, ret_lsn, NULL)
	               : quire_log_append_key_nowait(log, key, n, &part, 1, ret_lsn);
}

static bool is_appended(const struct quire_log_record *r, uint64_t no)
{
	const uint8_t *bytes = r->data;

	if (r->len_bytes != no * 97 % 1500 || (r->key != NULL) != (no % 3 != 0))
		return false;
	for (size_t i = 0; i < r->len_bytes; i++)
		if (bytes[i] != (uint8_t)no)
			return false;
	return true;
}

/* Three sealed segments, the first of them trimmed, and a tail. */
static void build(struct env *e, void *arg)
{
	uint64_t lsn, no = 0;
	struct quire_log_segment s[4];

	(void)arg;
	quire_assert(env_format(e) == 0 && env_open(e) == 0);
	while (quire_log_segments(e->log, s, 4) < 4)
		quire_assert(append(e->log, no, no % 4 == 0, &lsn) == 0 && lsn == no++);
	for (unsigned i = 0; i < 9; i++)
		quire_assert(append(e->log, no, true, &lsn) == 0 && lsn == no++);
	quire_assert(quire_log_trim(e->log, s[0].end_lsn) == 1);
	quire_assert(env_close(e) == 0);
}

static void begin_world(struct world *w)
{
	static const struct quire_log_options options = {.size = sizeof(options), .segment_bytes = SEGMENT, .keys = true};
	uint8_t *bytes = malloc((size_t)N_UNITS * FUZZ_BLOCK_BYTES);

	env_init(&w->e, 7, N_UNITS, NULL);
	w->e.options = &options;
	env_run(&w->e, build, NULL);
	w->good = w->e.sim;
	sim_peek(w->good, 0, bytes, (uint64_t)N_UNITS * FUZZ_BLOCK_BYTES);
	fuzz_image_init(&w->image, bytes, (size_t)N_UNITS * FUZZ_BLOCK_BYTES);
	free(bytes);
}

/* ---- one input ---- */

static void poke_changes(struct world *w)
{
	quire_assert(sim_clone(w->good, 1, &w->e.sim) == 0);
	for (uint32_t b = 0; b < w->image.n_blocks; b++) {
		const uint8_t *now = w->image.bytes + (size_t)b * FUZZ_BLOCK_BYTES;
		if (memcmp(now, w->image.good + (size_t)b * FUZZ_BLOCK_BYTES, FUZZ_BLOCK_BYTES) != 0)
			sim_poke(w->e.sim, (uint64_t)b * FUZZ_BLOCK_BYTES, now, FUZZ_BLOCK_BYTES);
	}
}

static bool is_reason(int64_t rc)
{
	return rc == -EUCLEAN || rc == -EBADMSG || rc == -ENOTSUP || rc == -ESTALE || rc == -ENOENT;
}

/* Each byte is there; a sanitizer looks. */
static void touch(const struct quire_log_record *r)
{
	(void)crc32c(0, r->data, r->len_bytes);
	if (r->key != NULL)
		(void)crc32c(0, r->key, r->key_bytes);
}

/* On over what can't be read, record by record. */
static void read_forward(struct quire_log *log, struct quire_log_cursor *c)
{
	struct quire_log_record r;
	uint64_t lsn = quire_log_first(log);

	quire_assert(quire_log_seek(c, lsn) == 0);
	for (unsigned i = 0; i < MOST_STEPS && lsn < quire_log_visible(log); i++, lsn++) {
		int64_t n = quire_log_next(c, &r, NULL);
		if (n == 1) {
			quire_assert(r.lsn == lsn);
			touch(&r);
		} else {
			quire_assert(is_reason(n));
			int rc = quire_log_seek(c, lsn + 1);
			quire_assert(rc == 0 || is_reason(rc));
		}
	}
}

static void read_backward(struct quire_log_cursor *c)
{
	struct quire_log_record r;
	int64_t n;

	quire_assert(quire_log_seek(c, UINT64_MAX) == 0);
	for (unsigned i = 0; i < MOST_STEPS && (n = quire_log_prev(c, &r, NULL)) != 0; i++) {
		quire_assert(n == 1 || is_reason(n));
		if (n < 0)
			break;
		touch(&r);
	}
}

static void read_all(struct quire_log *log)
{
	struct quire_log_cursor *c;
	struct quire_log_record r[5];
	char key[16];
	uint64_t lsn;

	quire_assert(quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &c) == 0);
	read_forward(log, c);
	read_backward(c);
	int rc = quire_log_seek_time(c, UINT64_MAX / 2);
	quire_assert(rc == 0 || is_reason(rc));
	rc = (int)quire_log_next_many(c, r, 5, NULL);
	quire_assert(rc >= 0 || is_reason(rc));
	quire_log_cursor_close(c);
	for (unsigned no = 0; no < N_KEYS; no++) {
		rc = quire_log_find_key(log, QUIRE_LOG_VISIBLE, key, make_key(no, key), &lsn, NULL);
		quire_assert(rc == 0 || is_reason(rc));
	}
}

/* True: all of them were. */
static bool append_some(struct world *w)
{
	for (uint64_t no = 0; no < N_APPENDED; no++) {
		int rc = append(w->e.log, 2 * no, true, &w->appended[no]);
		if (rc == -ENOSPC || rc == -ENOTSUP)
			return false;
		quire_assert(rc == 0);
	}
	return true;
}

static void see_appended(struct world *w)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;

	quire_assert(quire_log_cursor_open(w->e.log, QUIRE_LOG_DURABLE, &c) == 0);
	for (uint64_t no = 0; no < N_APPENDED; no++) {
		quire_assert(quire_log_seek(c, w->appended[no]) == 0 && quire_log_next(c, &r, NULL) == 1);
		quire_assert(r.lsn == w->appended[no] && is_appended(&r, 2 * no));
	}
	quire_log_cursor_close(c);
}

static void look(struct env *e, void *arg)
{
	struct world *w = arg;
	bool read_only = (w->how & 2) != 0;
	int rc = env_open_log(e, read_only);

	if (rc < 0) {
		quire_assert(is_reason(rc) && e->err.text[0] != '\0');
		e->log = NULL;
		return;
	}
	quire_assert(env_check(e, false) >= 0);
	read_all(e->log);
	bool appended = !read_only && (w->how & 4) == 0 && append_some(w);
	rc = env_close(e);
	if (!appended)
		return;
	quire_assert(rc == 0 && env_open(e) == 0);
	see_appended(w);
	quire_assert(env_close(e) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct world w;

	if (n_bytes == 0)
		return 0;
	if (w.image.n_used == 0)
		begin_world(&w);
	w.how = data[0];
	w.e.seed = 4711;
	fuzz_image_edit(&w.image, data, n_bytes);
	if ((w.how & 1) != 0)
		fuzz_seal_store(&w.image);
	poke_changes(&w);
	env_run(&w.e, look, &w);
	sim_destroy(w.e.sim);
	w.e.sim = NULL;
	return 0;
}
