/* image_env.c - see image_env.h. */
#include "image_env.h"

int append(void *arg, const void *from, size_t n)
{
	struct bytes *b = arg;

	if (b->fail_after >= 0 && b->fail_after-- == 0)
		return -EIO;
	if (b->n + n > b->capacity) {
		b->capacity = 2 * (b->n + n);
		b->at = realloc(b->at, b->capacity);
		assert_non_null(b->at);
	}
	memcpy(b->at + b->n, from, n);
	b->n += n;
	return 0;
}

static int read_bytes(void *arg, uint64_t offset, void *buf, size_t n)
{
	struct bytes *b = arg;

	if (b->fail_after >= 0 && b->fail_after-- == 0)
		return -EIO;
	assert_true(offset % 4096 == 0 && offset + n <= b->n);
	memcpy(buf, b->at + offset, n);
	return 0;
}

struct bytes write_image(struct quire_tmem_pool *pool, const char *name)
{
	struct bytes b = {.fail_after = -1};

	assert_int_equal(tmem_image_write(pool, name, append, &b, NULL), 0);
	return b;
}

int read_image(struct quire_tmem *t, struct bytes *b, const struct quire_tmem_pool_options *o,
               struct quire_tmem_pool **ret, struct quire_error *err)
{
	struct tmem_image_source source = {.read = read_bytes, .arg = b, .n_bytes = b->n};

	return tmem_image_read(t, &source, o, ret, err);
}

struct quire_tmem *make(uint64_t budget_bytes)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = budget_bytes, .n_threads = 1};
	struct quire_tmem *t = NULL;

	assert_int_equal(quire_tmem_create(&o, &t, NULL), 0);
	return t;
}

struct quire_tmem_pool *make_pool(struct quire_tmem *t, uint32_t flags, uint32_t page_bytes)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = page_bytes, .flags = flags,
	                                    .uuid = {flags & QUIRE_TMEM_SHARED}};
	struct quire_tmem_pool *pool = NULL;

	assert_int_equal(quire_tmem_pool_create(t, &o, &pool, NULL), 0);
	return pool;
}

uint8_t page[2 << 20], other[2 << 20];

void put(struct quire_tmem_pool *pool, uint64_t object, uint32_t index, uint32_t content)
{
	struct quire_tmem_key k = {.object = {object, 2, object * 3}, .index = index};
	struct quire_tmem_pool_stat s;

	quire_tmem_pool_stat(pool, &s);
	model_fill(content, page, s.page_bytes);
	assert_int_equal(quire_tmem_put(pool, &k, page), 0);
}
