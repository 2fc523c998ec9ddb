/* tree_fuzz.c - a blob that is said to be the index of an imported tree: read to its end, or refused where it makes no sense. What was read is
 * written to the same bytes again.
 *
 * An input's first two bytes say how it is taken, the rest are the blob; or, if the lowest bit is set, entries behind so many good ones that
 * the end of what is read at once, a MiB, lies in the rest.
 */
#include "../support/fuzz.h"
#include "../../src/base/assert.h"
#include "../../src/cli/tree.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (1u << 20)
#define FILLER_BYTES 4096u /* an entry with its name and target */
#define BLOB_BYTES (PIECE_BYTES + FUZZ_INPUT_MOST_BYTES)

/* ---- the store, as far as an index asks for it ---- */

static uint8_t blob[BLOB_BYTES], written[BLOB_BYTES];
static size_t n_blob, n_written;

int64_t quire_blob_read(struct quire_store *store, uint64_t id, uint64_t offset, const struct iovec *iov, unsigned n, struct quire_op *op)
{
	uint64_t left = offset < n_blob ? n_blob - offset : 0, len = iov->iov_len < left ? iov->iov_len : left;

	(void)store, (void)id;
	quire_assert(n == 1 && op == NULL);
	memcpy(iov->iov_base, blob + offset, len);
	return (int64_t)len;
}

int quire_blob_alloc(struct quire_store *store, const struct quire_blob_hints *hints, uint64_t *ret_id)
{
	(void)store, (void)hints;
	n_written = 0;
	*ret_id = 1;
	return 0;
}

int quire_blob_write(struct quire_store *store, uint64_t id, const struct iovec *iov, unsigned n, struct quire_op *op)
{
	(void)store, (void)id;
	quire_assert(n == 1 && op == NULL && iov->iov_len <= sizeof(written) - n_written);
	memcpy(written + n_written, iov->iov_base, iov->iov_len);
	n_written += iov->iov_len;
	return 0;
}

int quire_blob_abort(struct quire_store *store, uint64_t id)
{
	(void)store, (void)id;
	return 0;
}

/* ---- an input ---- */

static void put_filler(uint64_t number, uint32_t n_bytes)
{
	struct tree_entry_le le = {.number = htole64(number), .name_bytes = htole16(3), .type = TREE_SYMLINK,
	                           .target_bytes = htole16((uint16_t)(n_bytes - sizeof(le) - 3))};

	memset(blob + n_blob, 'x', n_bytes);
	memcpy(blob + n_blob, &le, sizeof(le));
	n_blob += n_bytes;
}

static void make_blob(const uint8_t *data, size_t n_bytes)
{
	struct tree_header_le h = {.magic = TREE_MAGIC};
	uint32_t how = (uint32_t)data[0] | (uint32_t)data[1] << 8, before = PIECE_BYTES - (how >> 1);

	n_blob = 0;
	if (how & 1) {
		memcpy(blob, &h, sizeof(h));
		n_blob = sizeof(h);
		for (uint64_t i = 1; n_blob + FILLER_BYTES <= before; i++)
			put_filler(i, FILLER_BYTES);
	}
	memcpy(blob + n_blob, data + 2, n_bytes - 2);
	n_blob += n_bytes - 2;
}

static void look_at(const struct tree_entry *e)
{
	bool is_name = e->name_bytes > 0 && e->name_bytes <= 255 && memchr(e->name, '/', e->name_bytes) == NULL &&
	               memchr(e->name, 0, e->name_bytes) == NULL;
	bool is_dots = e->name_bytes <= 2 && memcmp("..", e->name, e->name_bytes) == 0;

	quire_assert(e->number == 0 ? e->name_bytes == 0 && e->type == TREE_DIRECTORY : is_name && !is_dots);
	quire_assert(e->mode <= 07777 && e->mtime.tv_nsec < 1000000000 && e->target_bytes <= TREE_MAX_NAME);
	quire_assert((e->target_bytes != 0) == (e->type == TREE_SYMLINK));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	struct tree_reader r;
	struct tree_writer w = {0};
	struct tree_entry e;

	if (n_bytes < 2 || n_bytes > FUZZ_INPUT_MOST_BYTES)
		return 0;
	make_blob(data, n_bytes);
	int rc = tree_open(&r, NULL, 1);
	if (rc == 0)
		quire_assert(tree_begin(&w, NULL, TREE_TAG_INDEX, r.name) == 0);
	while (rc == 0 && (rc = tree_next(&r, &e)) == 1) {
		look_at(&e);
		rc = tree_add(&w, &e);
	}
	quire_assert(rc == 0 || rc == -EUCLEAN);
	if (rc == 0) {
		quire_assert(tree_finish(&w) == 0);
		quire_assert(n_written == n_blob && memcmp(written, blob, n_blob) == 0);
	}
	tree_abandon(&w);
	tree_close(&r);
	return 0;
}
