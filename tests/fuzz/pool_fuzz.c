/* pool_fuzz.c - an image that is said to be a saved pool: a pool of what it says, or refused with a reason, and then nothing is left of it.
 *
 * An input says how an image is made, so that all checksums are right but where it says otherwise. Its first bytes are of the head:
 *   0   bit 0: it comes into a tmem that is tight, and spills; bit 1: without an end; bit 2: with a byte too much
 *   1   which size of pages; bit 7: the pool spills
 *   2   flags of the head
 *   3   a byte of the head, which is changed by
 *   4   this
 *   5   the cap, in units of 16 KiB; 0: none
 * Then five bytes a record:
 *   0   bits 0 to 2: what; bit 3: its change is made behind the checksum; bit 4: in what is packed
 *   1   key
 *   2   content, or number
 *   3   a byte of it, which is changed by
 *   4   this
 */
#include "../support/fuzz.h"
#include "../tmem/fake_backing.h"
#include "../tmem/image_env.h"
#include "../tmem/sums.h"
#include "../../src/base/assert.h"
#include "../../src/base/crc32c.h"

#include <endian.h>

#define HEAD_BYTES 6u
#define RECORD_BYTES 5u
#define MOST_RECORDS 1500u
#define MANY 40u
#define MOST_BYTES (6u << 20) /* of an image; somewhat more */
#define N_KEYS 1024u
#define N_SEGMENTS 64u
#define SEGMENT_BYTES (256u << 10)

enum what { RAW, PACKED, RAW_NUMBERED, PACKED_NUMBERED, AGAIN, WORD, GONE, MANY_PACKED };
enum verdict { GOOD, BAD, ANY }; /* ANY: what was changed may be none of the image's promises */

struct said {
	bool is_word;
	uint32_t content; /* of model_fill; or the word */
};

static struct image {
	struct bytes bytes;
	uint32_t page_bytes, flags;
	uint64_t n_records, n_numbered;
	struct said *pages[N_KEYS], *numbers[MOST_RECORDS];
	struct said said[MOST_RECORDS];
	size_t n_said, n_pages;
	enum verdict verdict;
} image;

static struct workspace *workspace; /* what packs; made once */

/* ---- making ---- */

static struct quire_tmem_key key_of(uint32_t key)
{
	return (struct quire_tmem_key){.object = {key % 3, 0, key % 2}, .index = key};
}

static struct said *say(bool is_word, uint32_t content)
{
	struct said *s = &image.said[image.n_said++];

	*s = (struct said){.is_word = is_word, .content = content};
	return s;
}

static void set_page(uint32_t key, struct said *s)
{
	image.n_pages += (s != NULL) - (image.pages[key] != NULL);
	image.pages[key] = s;
}

static void judge(enum verdict v)
{
	image.verdict = image.verdict == GOOD ? v : image.verdict;
}

static void add(struct image_record_le *h, const uint8_t *packed, uint32_t len, const uint8_t *r)
{
	static const uint8_t zeros[IMAGE_ALIGN];
	uint64_t number = htole64(image.n_records++);
	size_t at = image.bytes.n;

	h->len = htole32(len);
	append(&image.bytes, h, sizeof(*h));
	append(&image.bytes, len == 0 ? zeros : packed, len);
	append(&image.bytes, zeros, -len % IMAGE_ALIGN);
	size_t n = image.bytes.n - at;
	uint8_t *changed = image.bytes.at + at + (r == NULL ? 0 : (r[0] & 16) != 0 && len > 0 ? sizeof(*h) + r[3] * UINT64_C(97) % len : r[3] % sizeof(*h));
	bool behind = r != NULL && (r[0] & 8) != 0;
	if (r != NULL && r[4] != 0) {
		judge(behind ? BAD : ANY);
		*changed ^= r[4];
	}
	if (behind)
		*changed ^= r[4];
	uint32_t crc = htole32(crc32c(crc32c(0, &number, sizeof(number)), image.bytes.at + at + 4, n - 4));
	memcpy(image.bytes.at + at, &crc, sizeof(crc));
	if (behind)
		*changed ^= r[4];
}

static void add_content(uint32_t key, uint32_t content, bool packed, bool numbered, const uint8_t *r)
{
	struct quire_tmem_key k = key_of(key);
	struct image_record_le h = {.kind = IMAGE_CONTENT, .numbered = numbered, .index = htole32(k.index)};
	struct said *s = say(false, content);
	uint32_t len = 0;

	for (unsigned i = 0; i < 3; i++)
		h.object[i] = htole64(k.object[i]);
	model_fill(content, page, image.page_bytes);
	if (packed)
		len = codec_pack(workspace, page, image.page_bytes);
	h.codec = len > 0 ? IMAGE_LZ4 : IMAGE_RAW;
	add(&h, len > 0 ? workspace->packed : page, len > 0 ? len : image.page_bytes, r);
	set_page(key, s);
	if (numbered)
		image.numbers[image.n_numbered++] = s;
}

static void add_other(uint32_t key, enum what what, uint64_t value, const uint8_t *r)
{
	static const uint8_t kinds[] = {[AGAIN] = IMAGE_AGAIN, [WORD] = IMAGE_WORD, [GONE] = IMAGE_GONE};
	struct quire_tmem_key k = key_of(key);
	struct image_record_le h = {.kind = kinds[what], .index = htole32(k.index), .value = what == GONE ? 0 : htole64(value)};

	for (unsigned i = 0; i < 3; i++)
		h.object[i] = htole64(k.object[i]);
	if (what == AGAIN && value >= image.n_numbered)
		judge(BAD);
	add(&h, NULL, 0, r);
	if (what == AGAIN)
		set_page(key, value < image.n_numbered ? image.numbers[value] : NULL);
	else
		set_page(key, what == WORD ? say(true, (uint32_t)value) : NULL);
}

static void add_record(const uint8_t *r)
{
	enum what what = r[0] & 7;

	if (what == MANY_PACKED)
		for (uint32_t i = 0; i < MANY; i++)
			add_content((r[1] * 4u + i) % N_KEYS, r[2] * 256u + i, true, false, NULL);
	else if (what <= PACKED_NUMBERED)
		add_content(r[1], r[2], (what & 1) != 0, what >= RAW_NUMBERED, r);
	else
		add_other(r[1], what, r[2], r);
}

static void make_head(const uint8_t *in)
{
	static const uint32_t sizes[] = {4096, 4096, 4096, 8192, 65536};
	struct image_head_le h = {.magic = IMAGE_MAGIC, .version = htole32(IMAGE_VERSION), .name = "pool"};
	uint8_t *bytes = (uint8_t *)&h;

	image.page_bytes = sizes[(in[1] & 127) % 5];
	image.flags = (in[2] & IMAGE_FLAGS & ~IMAGE_FLAG_SPILL) | ((in[1] & 128) != 0 ? IMAGE_FLAG_SPILL : 0);
	h.page_bytes = htole32(image.page_bytes);
	h.flags = htole32(image.flags);
	h.cap_bytes = htole64(in[5] * UINT64_C(16384));
	h.uuid[3] = (image.flags & IMAGE_FLAG_SHARED) != 0;
	if (in[4] != 0)
		judge(ANY);
	bytes[in[3] % sizeof(h)] ^= in[4];
	h.crc = htole32(crc32c(0, &h.version, sizeof(h) - offsetof(struct image_head_le, version)));
	append(&image.bytes, &h, sizeof(h));
}

/* Its own memory is kept from input to input. */
static void make_image(const uint8_t *in, size_t n_bytes)
{
	struct bytes bytes = {.at = image.bytes.at, .capacity = image.bytes.capacity, .fail_after = -1};
	struct image_record_le end = {.kind = IMAGE_END};

	memset(&image, 0, sizeof(image));
	image.bytes = bytes;
	make_head(in);
	for (size_t at = HEAD_BYTES; at + RECORD_BYTES <= n_bytes && image.n_records + MANY < MOST_RECORDS && image.bytes.n < MOST_BYTES; at += RECORD_BYTES)
		add_record(in + at);
	end.value = htole64(image.n_records);
	end.object[0] = htole64(image.n_pages);
	if ((in[0] & 2) == 0)
		add(&end, NULL, 0, NULL);
	if ((in[0] & 4) != 0)
		append(&image.bytes, "", 1);
	if ((in[0] & 6) != 0)
		judge(BAD);
}

/* ---- what became of it ---- */

static void expect(const struct said *s, const uint8_t *bytes)
{
	if (s->is_word)
		codec_fill(page, image.page_bytes, s->content);
	else
		model_fill(s->content, page, image.page_bytes);
	quire_assert(memcmp(page, bytes, image.page_bytes) == 0);
}

static void look_at_said(struct quire_tmem_pool *pool)
{
	for (uint32_t i = 0; i < N_KEYS; i++) {
		struct quire_tmem_key k = key_of(i);
		int rc = quire_tmem_get(pool, &k, other, QUIRE_TMEM_GET_KEEP);
		quire_assert(rc == (image.pages[i] != NULL ? 0 : -ENOENT));
		if (image.pages[i] != NULL)
			expect(image.pages[i], other);
	}
}

/* All of it can be read, whatever it is; how much there is. */
static uint64_t look_at_all(struct quire_tmem_pool *pool)
{
	struct quire_tmem_pool_stat s;
	struct quire_tmem_copy *c;
	struct quire_tmem_key k;
	uint64_t n = 0;
	int rc;

	quire_tmem_pool_stat(pool, &s);
	quire_assert(quire_tmem_copy_begin(pool, NULL, &c) == 0);
	while ((rc = quire_tmem_copy_next(c, &k, other)) > 0)
		n++;
	quire_assert(rc == 0 && n == s.n_pages);
	quire_tmem_copy_end(c);
	return n;
}

static void expect_reason(int rc, const struct quire_error *err)
{
	quire_assert(err->text[0] != '\0');
	quire_assert(rc == -EBADMSG || rc == -EUCLEAN || rc == -ENOTSUP || rc == -ENOSPC || rc == -EINVAL || rc == -ENOMEM);
}

/* Saved again and restored, it is the same. */
static void save_again(struct quire_tmem *t, struct quire_tmem_pool *pool)
{
	struct quire_error err = {.text = ""};
	struct quire_tmem_pool *back = NULL;
	struct bytes b = write_image(pool, "again");
	uint64_t n = look_at_all(pool);

	quire_tmem_pool_destroy(pool);
	int rc = read_image(t, &b, NULL, &back, &err);
	quire_assert(rc == 0 || rc == -ENOSPC || rc == -ENOMEM);
	if (rc == 0)
		quire_assert(look_at_all(back) == n);
	if (rc == 0 && image.verdict == GOOD)
		look_at_said(back);
	quire_tmem_pool_destroy(back);
	free(b.at);
}

static void restore(struct quire_tmem *t)
{
	struct quire_error err = {.text = ""};
	struct quire_tmem_pool *pool = NULL;
	int rc = read_image(t, &image.bytes, NULL, &pool, &err);

	if (rc < 0) {
		expect_reason(rc, &err);
		quire_assert(image.verdict != GOOD || rc == -ENOSPC || rc == -ENOMEM || rc == -EINVAL);
	} else {
		quire_assert(image.verdict != BAD);
		if (image.verdict == GOOD)
			look_at_said(pool);
		for (unsigned i = 0; i < 5; i++)
			(void)quire_tmem_recompress(t, UINT32_MAX);
		(void)sums_stat(t);
		save_again(t, pool);
	}
	struct quire_tmem_stat s = sums_stat(t);
	quire_assert(s.n_pages + s.content_bytes + s.n_shared + s.spilled_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct fake_backing backing;
	bool is_tight = n_bytes > 0 && (data[0] & 1) != 0;

	if (n_bytes < HEAD_BYTES)
		return 0;
	if (workspace == NULL)
		workspace = workspace_new(65536);
	quire_assert(workspace != NULL);
	make_image(data, n_bytes);
	struct quire_tmem *t = make(is_tight ? 2 * MIB : 8 * MIB);
	if (is_tight) {
		fake_backing_init(&backing, N_SEGMENTS, SEGMENT_BYTES);
		quire_assert(fake_backing_set(&backing, t, 65536) == 0);
	}
	restore(t);
	quire_tmem_destroy(t);
	if (is_tight)
		fake_backing_fini(&backing);
	return 0;
}
