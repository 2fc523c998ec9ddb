/* image_write.c - a pool is written down, by a copy of it. */
#include "copy.h"
#include "image.h"

#include "../base/canary.h"
#include "../base/crc32c.h"
#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES (64u << 10)

static_assert(CODEC_RAW == (int)IMAGE_RAW && CODEC_LZ4 == (int)IMAGE_LZ4, "contents are written as they are");
static_assert(QUIRE_TMEM_SHARED == IMAGE_FLAG_SHARED && QUIRE_TMEM_NO_DEDUP == IMAGE_FLAG_NO_DEDUP &&
              QUIRE_TMEM_REFUSE_INCOMPRESSIBLE == IMAGE_FLAG_REFUSE_INCOMPRESSIBLE &&
              QUIRE_TMEM_RECOMPRESS == IMAGE_FLAG_RECOMPRESS && QUIRE_TMEM_COLD == IMAGE_FLAG_COLD &&
              QUIRE_TMEM_SPILL == IMAGE_FLAG_SPILL, "flags are written as they are");

struct writer {
	tmem_image_append_fn append;
	void *arg;
	uint8_t *buffer; /* owned */
	size_t fill;
	uint64_t n_records;
};

static int flush(struct writer *w)
{
	int rc = w->fill > 0 ? w->append(w->arg, w->buffer, w->fill) : 0;

	w->fill = 0;
	return rc;
}

static int emit(struct writer *w, const void *bytes, size_t n)
{
	if (n > BUFFER_BYTES - w->fill) {
		int rc = flush(w);
		if (rc < 0)
			return rc;
	}
	if (n > BUFFER_BYTES)
		return w->append(w->arg, bytes, n);
	memcpy(w->buffer + w->fill, bytes, n);
	w->fill += n;
	return 0;
}

static int emit_record(struct writer *w, struct image_record_le *r, const void *bytes, uint32_t len)
{
	static const uint8_t zeros[IMAGE_ALIGN];
	uint32_t n_zeros = (IMAGE_ALIGN - len % IMAGE_ALIGN) % IMAGE_ALIGN;
	uint64_t number = htole64(w->n_records++);

	r->len = htole32(len);
	uint32_t crc = crc32c(0, &number, sizeof(number));
	crc = crc32c(crc, &r->kind, sizeof(*r) - offsetof(struct image_record_le, kind));
	if (len > 0)
		crc = crc32c(crc, bytes, len);
	r->crc = htole32(crc32c(crc, zeros, n_zeros));
	int rc = emit(w, r, sizeof(*r));
	if (rc == 0 && len > 0)
		rc = emit(w, bytes, len);
	return rc == 0 ? emit(w, zeros, n_zeros) : rc;
}

static int emit_page(struct writer *w, const struct copied *c)
{
	static const uint8_t kinds[] = {
		[COPIED_GONE] = IMAGE_GONE, [COPIED_WORD] = IMAGE_WORD, [COPIED_CONTENT] = IMAGE_CONTENT, [COPIED_AGAIN] = IMAGE_AGAIN,
	};
	bool content = c->kind == COPIED_CONTENT;
	struct image_record_le r = {
		.kind = kinds[c->kind],
		.codec = content ? (uint8_t)c->codec : 0,
		.numbered = content && c->shared,
		.index = htole32(c->key.index),
		.value = htole64(content ? 0 : c->word),
	};

	for (unsigned i = 0; i < 3; i++)
		r.object[i] = htole64(c->key.object[i]);
	return emit_record(w, &r, c->bytes, content ? c->len : 0);
}

static int emit_head(struct writer *w, const struct quire_tmem_pool *pool, const char *name)
{
	const struct quire_tmem_pool_options *o = &pool->o;
	struct image_head_le h = {
		.version = htole32(IMAGE_VERSION),
		.page_bytes = htole32(o->page_bytes),
		.flags = htole32(o->flags),
		.weight = htole32(o->weight),
		.domain = htole32(o->domain),
		.cap_bytes = htole64(o->cap_bytes),
		.unit_bytes = htole32(o->unit_bytes),
		.cold_rounds = htole32(o->cold_rounds),
	};

	memcpy(h.magic, IMAGE_MAGIC, sizeof(h.magic));
	memcpy(h.uuid, o->uuid, sizeof(h.uuid));
	memcpy(h.name, name, strlen(name));
	h.crc = htole32(crc32c(0, &h.version, sizeof(h) - offsetof(struct image_head_le, version)));
	return emit(w, &h, sizeof(h));
}

static int emit_pages(struct writer *w, struct quire_tmem_copy *copy, struct quire_error *err)
{
	struct copied c;
	int rc;

	while ((rc = tmem_copy_step(copy, &c)) > 0) {
		int written = CANARY(image_skips_first_page) && w->n_records == 0 ? 0 : emit_page(w, &c);
		tmem_copy_done(copy, &c);
		if (written < 0)
			return quire_fail(err, written, "tmem image: writing");
	}
	if (rc == -EOVERFLOW)
		return quire_fail(err, rc, "tmem image: pages come and go faster than they are written");
	if (rc < 0)
		return quire_fail(err, rc, "tmem image: page %u of object %016llx %016llx %016llx", c.key.index,
		                  (unsigned long long)c.key.object[0], (unsigned long long)c.key.object[1],
		                  (unsigned long long)c.key.object[2]);
	struct image_record_le end = {.kind = IMAGE_END, .value = htole64(w->n_records), .object = {htole64(c.word)}};
	rc = emit_record(w, &end, NULL, 0);
	if (rc == 0)
		rc = flush(w);
	return rc < 0 ? quire_fail(err, rc, "tmem image: writing") : 0;
}

bool tmem_image_name_is_valid(const char *name)
{
	size_t n = name == NULL ? 0 : strnlen(name, IMAGE_NAME_BYTES);

	return n > 0 && n < IMAGE_NAME_BYTES;
}

int tmem_image_write(struct quire_tmem_pool *pool, const char *name, tmem_image_append_fn append, void *arg,
                     struct quire_error *err)
{
	struct writer w = {.append = append, .arg = arg};
	struct quire_tmem_copy *copy;

	if (pool->o.kind != QUIRE_TMEM_PERSISTENT)
		return quire_fail(err, -EINVAL, "tmem image of an ephemeral pool");
	int rc = tmem_copy_begin(pool, NULL, true, &copy);
	if (rc < 0)
		return quire_fail(err, rc, "tmem image: copying the pool");
	w.buffer = malloc(BUFFER_BYTES);
	rc = w.buffer == NULL ? quire_fail(err, -ENOMEM, "tmem image") : emit_head(&w, pool, name);
	if (rc == 0)
		rc = emit_pages(&w, copy, err);
	free(w.buffer);
	quire_tmem_copy_end(copy);
	return rc;
}
