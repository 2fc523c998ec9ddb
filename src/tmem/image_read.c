/* image_read.c - a pool is made of what was written down. The image is believed in nothing: each record is held against its
 * checksum, and each content unpacked, before it is entered.
 *
 * A content that may come again is kept meanwhile by a pool of its own, under its number: its first page may be gone by then.
 */
#include "image.h"
#include "page_hash.h"
#include "tmem_internal.h"

#include "../base/crc32c.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (256u << 10)

struct reader {
	const struct tmem_image_source *source;
	struct quire_tmem *tmem;
	struct quire_error *err;        /* NULL allowed */
	struct quire_tmem_pool *pool;   /* owned: it is hidden */
	struct quire_tmem_pool *keeper; /* owned: contents that may come again, by their numbers */
	struct workspace *w;            /* owned */
	uint32_t page_bytes;
	uint64_t n_records, n_numbered;
	struct {
		uint8_t *bytes;             /* owned, charged */
		uint64_t capacity, base, n; /* base: offset in the image, a multiple of TMEM_IMAGE_READ_ALIGN */
	} window;
	uint64_t at;                    /* offset of the next record */
};

/* ---- the window ---- */

static int charge(struct quire_tmem *t, uint64_t bytes)
{
	pthread_mutex_lock(&t->lock);
	bool charged;
	do
		charged = budget_try_charge(t->budget, BUDGET_TMEM, bytes);
	while (!charged && (tmem_evict_for(t) || tmem_spill_any(t)));
	pthread_mutex_unlock(&t->lock);
	return charged ? 0 : -ENOMEM;
}

/* For the longest record, wherever it begins. */
static uint64_t window_bytes(const struct reader *r)
{
	uint64_t most = sizeof(struct image_record_le) + r->page_bytes + IMAGE_ALIGN;
	uint64_t bytes = (most > WINDOW_BYTES ? most : WINDOW_BYTES) + 2 * TMEM_IMAGE_READ_ALIGN - 1;

	return bytes & ~(uint64_t)(TMEM_IMAGE_READ_ALIGN - 1);
}

static void window_free(struct reader *r)
{
	free(r->window.bytes);
	budget_uncharge(r->tmem->budget, BUDGET_TMEM, r->window.capacity);
	memset(&r->window, 0, sizeof(r->window));
}

static int window_make(struct reader *r)
{
	uint64_t bytes = window_bytes(r);

	if (charge(r->tmem, bytes) < 0)
		return -ENOMEM;
	r->window.capacity = bytes;
	r->window.bytes = aligned_alloc(TMEM_IMAGE_READ_ALIGN, bytes);
	return r->window.bytes == NULL ? -ENOMEM : 0;
}

/* n bytes from the image's offset `at` on; n is at most what a record takes. */
static int look(struct reader *r, uint64_t n, const uint8_t **ret)
{
	uint64_t base = r->at & ~(uint64_t)(TMEM_IMAGE_READ_ALIGN - 1);

	if (n > r->source->n_bytes - r->at)
		return quire_fail(r->err, -EUCLEAN, "tmem image: ends in record %llu", (unsigned long long)r->n_records);
	if (r->at + n > r->window.base + r->window.n) {
		uint64_t keep = r->window.base + r->window.n > base ? r->window.base + r->window.n - base : 0;
		memmove(r->window.bytes, r->window.bytes + (r->window.n - keep), keep);
		uint64_t more = r->source->n_bytes - base - keep;
		if (more > r->window.capacity - keep)
			more = r->window.capacity - keep;
		int rc = r->source->read(r->source->arg, base + keep, r->window.bytes + keep, more);
		if (rc < 0)
			return quire_fail(r->err, rc, "tmem image: reading %llu bytes at %llu", (unsigned long long)more,
			                  (unsigned long long)(base + keep));
		r->window.base = base;
		r->window.n = keep + more;
	}
	*ret = r->window.bytes + (r->at - r->window.base);
	return 0;
}

/* ---- the head ---- */

static bool is_zero(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static int decode_head(const void *bytes, size_t n, struct image_head_le *h, struct quire_error *err)
{
	if (n < sizeof(*h))
		return quire_fail(err, -EUCLEAN, "tmem image: of %zu bytes", n);
	memcpy(h, bytes, sizeof(*h));
	if (memcmp(h->magic, IMAGE_MAGIC, sizeof(h->magic)) != 0)
		return quire_fail(err, -EUCLEAN, "tmem image: this is none");
	if (crc32c(0, &h->version, sizeof(*h) - offsetof(struct image_head_le, version)) != le32toh(h->crc))
		return quire_fail(err, -EBADMSG, "tmem image: its head");
	if (le32toh(h->version) != IMAGE_VERSION)
		return quire_fail(err, -ENOTSUP, "tmem image: of version %u", le32toh(h->version));
	size_t len = strnlen((const char *)h->name, IMAGE_NAME_BYTES);
	if ((le32toh(h->flags) & ~IMAGE_FLAGS) != 0 || len == 0 || !is_zero(h->name + len, IMAGE_NAME_BYTES - len) ||
	    len == IMAGE_NAME_BYTES)
		return quire_fail(err, -EUCLEAN, "tmem image: its head");
	return 0;
}

int tmem_image_name(const void *head, size_t n, char ret_name[IMAGE_NAME_BYTES], struct quire_error *err)
{
	struct image_head_le h;
	int rc = decode_head(head, n, &h, err);

	if (rc == 0)
		memcpy(ret_name, h.name, IMAGE_NAME_BYTES);
	return rc;
}

static int make_pools(struct reader *r, const struct image_head_le *h, const struct quire_tmem_pool_options *opts)
{
	struct quire_tmem_pool_options o = {
		.size = sizeof(o),
		.kind = QUIRE_TMEM_PERSISTENT,
		.page_bytes = le32toh(h->page_bytes),
		.flags = le32toh(h->flags),
		.weight = le32toh(h->weight),
		.domain = le32toh(h->domain),
		.cap_bytes = le64toh(h->cap_bytes),
		.unit_bytes = le32toh(h->unit_bytes),
		.cold_rounds = le32toh(h->cold_rounds),
	};

	memcpy(o.uuid, h->uuid, sizeof(o.uuid));
	if (opts != NULL && (opts->size == 0 || opts->size > sizeof(o)))
		return quire_fail(r->err, -EINVAL, "tmem pool options");
	if (opts != NULL) {
		memset(&o, 0, sizeof(o));
		memcpy(&o, opts, opts->size);
		if (o.kind != QUIRE_TMEM_PERSISTENT || (o.page_bytes != 0 && o.page_bytes != le32toh(h->page_bytes)))
			return quire_fail(r->err, -EINVAL, "tmem image: not of such a pool");
		o.size = sizeof(o);
		o.page_bytes = le32toh(h->page_bytes);
	}
	int rc = tmem_pool_create_hidden(r->tmem, &o, &r->pool, r->err);
	if (rc < 0)
		return rc;
	r->page_bytes = r->pool->o.page_bytes;
	struct quire_tmem_pool_options k = {
		.size = sizeof(k),
		.kind = QUIRE_TMEM_PERSISTENT,
		.page_bytes = r->page_bytes,
		.flags = o.flags & QUIRE_TMEM_SPILL,
	};
	return tmem_pool_create_hidden(r->tmem, &k, &r->keeper, r->err);
}

/* ---- records ---- */

static struct quire_tmem_key key_of(const struct image_record_le *h)
{
	return (struct quire_tmem_key){.object = {le64toh(h->object[0]), le64toh(h->object[1]), le64toh(h->object[2])},
	                               .index = le32toh(h->index)};
}

static int enter(struct reader *r, const struct quire_tmem_key *key, const struct prepared *prepared)
{
	struct put p = {.pool = r->pool, .key = key, .prepared = *prepared, .twin = PLACE_NONE};

	pthread_mutex_lock(&r->tmem->lock);
	int rc = tmem_put_finish(&p, r->w->page, r->w);
	pthread_mutex_unlock(&r->tmem->lock);
	return rc < 0 ? quire_fail(r->err, rc, "tmem image: record %llu", (unsigned long long)r->n_records) : 0;
}

/* Lock held. -ENOSPC: no room now. */
static int share_now(struct quire_tmem_pool *to, const struct quire_tmem_key *key, uint32_t value)
{
	struct quire_tmem *t = to->tmem;
	struct where old = tmem_page_find(to, key);
	uint64_t word;

	if (old.value != VALUE_NONE)
		tmem_page_remove(to, &old);
	if (!tmem_evict_to_cap(to, sizeof(struct span)))
		return -ENOSPC;
	uint32_t shared = content_share(t, content_place(t, value, &word));
	if (shared == VALUE_NONE)
		return -ENOSPC;
	int rc = tmem_page_add(to, key, shared);
	if (rc < 0)
		content_release(t, to, shared);
	return rc;
}

/* The page of `from` by that key has its content in common with one of `to`. */
static int share_page(struct reader *r, struct quire_tmem_pool *from, const struct quire_tmem_key *from_key,
                      struct quire_tmem_pool *to, const struct quire_tmem_key *to_key)
{
	int rc;

	pthread_mutex_lock(&r->tmem->lock);
	do
		rc = share_now(to, to_key, tmem_page_find(from, from_key).value);
	while (rc == -ENOSPC && (tmem_evict_for(r->tmem) || tmem_spill_for(r->pool, sizeof(struct span))));
	pthread_mutex_unlock(&r->tmem->lock);
	return rc < 0 ? quire_fail(r->err, rc, "tmem image: record %llu", (unsigned long long)r->n_records) : 0;
}

static int bad_record(const struct reader *r)
{
	return quire_fail(r->err, -EUCLEAN, "tmem image: record %llu at byte %llu", (unsigned long long)r->n_records,
	                  (unsigned long long)r->at);
}

static int read_content(struct reader *r, const struct image_record_le *h, const uint8_t *bytes)
{
	struct quire_tmem_key key = key_of(h), number = {.object = {r->n_numbered >> 32}, .index = (uint32_t)r->n_numbered};
	uint32_t len = le32toh(h->len);
	struct prepared p = {.codec = (enum slot_codec)h->codec, .bytes = bytes, .len = len, .check = crc32c(0, bytes, len)};

	if (h->codec > IMAGE_LZ4 || h->numbered > 1 || h->value != 0 || len == 0 ||
	    !codec_unpack(p.codec, bytes, len, r->w->page, r->page_bytes))
		return bad_record(r);
	p.known = (r->pool->o.flags & QUIRE_TMEM_NO_DEDUP) == 0;
	if (p.known)
		p.hash = page_hash(r->w->page, r->page_bytes);
	int rc = enter(r, &key, &p);
	if (rc < 0 || h->numbered == 0)
		return rc;
	r->n_numbered++;
	return share_page(r, r->pool, &key, r->keeper, &number);
}

static int read_other(struct reader *r, const struct image_record_le *h)
{
	struct quire_tmem_key key = key_of(h);
	uint64_t value = le64toh(h->value);
	struct quire_tmem_key number = {.object = {value >> 32}, .index = (uint32_t)value};

	if (h->codec != 0 || h->numbered != 0 || h->len != 0)
		return bad_record(r);
	switch ((enum image_kind)h->kind) {
	case IMAGE_AGAIN:
		return value < r->n_numbered ? share_page(r, r->keeper, &number, r->pool, &key) : bad_record(r);
	case IMAGE_WORD:
		return enter(r, &key, &(struct prepared){.same = true, .word = value});
	case IMAGE_GONE:
		(void)quire_tmem_flush(r->pool, &key);
		return value == 0 ? 0 : bad_record(r);
	default:
		return bad_record(r);
	}
}

/* 1: that was the end. */
static int read_end(const struct reader *r, const struct image_record_le *h)
{
	bool good = le64toh(h->value) == r->n_records && le64toh(h->object[0]) == r->pool->n_pages && h->object[1] == 0 &&
	            h->object[2] == 0 && h->index == 0 && h->codec == 0 && h->numbered == 0 && h->len == 0 &&
	            r->at + sizeof(*h) == r->source->n_bytes;

	return good ? 1 : bad_record(r);
}

static int read_record(struct reader *r)
{
	struct image_record_le h;
	uint64_t number = htole64(r->n_records);
	const uint8_t *at = NULL;
	int rc = look(r, sizeof(h), &at);

	if (rc < 0)
		return rc;
	memcpy(&h, at, sizeof(h));
	uint32_t len = le32toh(h.len);
	if (len > r->page_bytes)
		return bad_record(r);
	uint32_t n = (uint32_t)sizeof(h) + ((len + IMAGE_ALIGN - 1) & ~(IMAGE_ALIGN - 1));
	rc = look(r, n, &at);
	if (rc < 0)
		return rc;
	uint32_t crc = crc32c(0, &number, sizeof(number)), skip = offsetof(struct image_record_le, kind);
	if (crc32c(crc, at + skip, n - skip) != le32toh(h.crc))
		return quire_fail(r->err, -EBADMSG, "tmem image: record %llu at byte %llu", (unsigned long long)r->n_records,
		                  (unsigned long long)r->at);
	if (h.zero != 0 || !is_zero(at + sizeof(h) + len, n - sizeof(h) - len))
		return bad_record(r);
	if (h.kind == IMAGE_END)
		return read_end(r, &h);
	rc = h.kind == IMAGE_CONTENT ? read_content(r, &h, at + sizeof(h)) : read_other(r, &h);
	r->n_records++;
	r->at += n;
	return rc;
}

/* ---- the whole ---- */

static int read_all(struct reader *r, const struct quire_tmem_pool_options *opts)
{
	struct image_head_le h;
	const uint8_t *at = NULL;
	size_t n = r->source->n_bytes < sizeof(h) ? (size_t)r->source->n_bytes : sizeof(h);
	int rc = window_make(r);

	if (rc < 0)
		return quire_fail(r->err, rc, "tmem image");
	rc = look(r, n, &at);
	if (rc == 0)
		rc = decode_head(at, n, &h, r->err);
	if (rc == 0)
		rc = make_pools(r, &h, opts);
	if (rc < 0)
		return rc;
	if (window_bytes(r) > r->window.capacity) {
		window_free(r);
		rc = window_make(r);
		if (rc < 0)
			return quire_fail(r->err, rc, "tmem image");
	}
	r->at = sizeof(h);
	r->w = tmem_get_workspace(r->tmem, r->page_bytes);
	if (r->w == NULL)
		r->w = tmem_spill_for_workspace(r->pool);
	if (r->w == NULL)
		return quire_fail(r->err, -ENOMEM, "tmem image");
	while (rc == 0)
		rc = read_record(r);
	return rc < 0 ? rc : 0;
}

int tmem_image_read(struct quire_tmem *t, const struct tmem_image_source *source,
                    const struct quire_tmem_pool_options *opts, struct quire_tmem_pool **ret_pool, struct quire_error *err)
{
	struct reader r = {.source = source, .tmem = t, .err = err};
	int rc = read_all(&r, opts);

	window_free(&r);
	if (r.w != NULL)
		tmem_put_workspace(t, r.w);
	quire_tmem_pool_destroy(r.keeper);
	if (rc == 0) {
		rc = tmem_pool_show(r.pool);
		if (rc < 0)
			(void)quire_fail(err, rc, "tmem image: its pool");
	}
	if (rc < 0)
		quire_tmem_pool_destroy(r.pool);
	else
		*ret_pool = r.pool;
	return rc;
}
