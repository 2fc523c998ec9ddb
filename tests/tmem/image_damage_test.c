/* Saved pools that were damaged: refused with a reason, or, under checksums that were made right again, harmless. */
#include "image_env.h"
#include "../../src/base/crc32c.h"

/* Refused, with a reason, and nothing is left of it. */
static void refused(struct quire_tmem *t, struct bytes *b, const char *what, size_t where)
{
	struct quire_tmem_pool *back = NULL;
	struct quire_error err = {0};
	struct quire_tmem_stat s;
	int rc = read_image(t, b, NULL, &back, &err);

	if (rc != -EBADMSG && rc != -EUCLEAN && rc != -ENOTSUP)
		fail_msg("%s %zu: %d", what, where, rc);
	assert_true(err.text[0] != 0);
	assert_null(back);
	quire_tmem_stat(t, &s);
	assert_int_equal(s.n_pages + s.content_bytes, 0);
}

static struct bytes small_image(struct quire_tmem *t)
{
	struct quire_tmem_pool *pool = make_pool(t, 0, 4096);

	put(pool, 1, 1, 1);
	put(pool, 1, 70000, 1);
	put(pool, 2, 3, 7);
	put(pool, 2, 4, 6);
	struct bytes b = write_image(pool, "small");
	quire_tmem_pool_destroy(pool);
	return b;
}

static void each_byte_changed_is_refused(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct bytes b = small_image(t);
	struct quire_tmem_pool *back;

	for (size_t i = 0; i < b.n; i++) {
		b.at[i] ^= (uint8_t)(1 + i % 255);
		refused(t, &b, "byte", i);
		b.at[i] ^= (uint8_t)(1 + i % 255);
	}
	size_t n = b.n;
	for (b.n = 0; b.n < n; b.n++)
		refused(t, &b, "length", b.n);
	b.at = realloc(b.at, n + 8);
	memset(b.at + n, 0, 8);
	b.n = n + 8;
	refused(t, &b, "length", b.n);
	b.n = n;
	assert_int_equal(read_image(t, &b, NULL, &back, NULL), 0);
	free(b.at);
	quire_tmem_destroy(t);
	(void)state;
}

/* Sums are made right again: so it is the structure that has to be seen through. */
static void repair(struct bytes *b)
{
	struct image_head_le *h = (struct image_head_le *)b->at;
	uint64_t number = 0;

	h->crc = crc32c(0, &h->version, sizeof(*h) - 12);
	for (size_t at = sizeof(*h); at + sizeof(struct image_record_le) <= b->n; number++) {
		struct image_record_le *r = (struct image_record_le *)(b->at + at);
		size_t n = sizeof(*r) + ((r->len + 7) & ~(size_t)7);
		if (n > b->n - at)
			break;
		r->crc = crc32c(crc32c(0, &number, 8), &r->kind, n - 4);
		at += n;
	}
}

static void each_byte_changed_under_right_sums_harms_nobody(void **state)
{
	struct quire_tmem *t = make(8 * MIB);
	struct bytes b = small_image(t), c = {.n = b.n, .at = malloc(b.n), .fail_after = -1};
	unsigned n_refused = 0, n_read = 0;

	for (size_t i = 0; i < b.n; i++)
		for (unsigned bit = 0; bit < 8; bit += 3) {
			struct quire_tmem_pool *back = NULL;
			memcpy(c.at, b.at, b.n);
			c.at[i] ^= (uint8_t)(1u << bit);
			repair(&c);
			if (read_image(t, &c, NULL, &back, NULL) < 0)
				n_refused++;
			else
				n_read++;
			quire_tmem_pool_destroy(back);
		}
	/* Keys and contents may be any; all else is looked at. */
	assert_true(n_refused > 500 && n_read > 500);
	free(b.at);
	free(c.at);
	quire_tmem_destroy(t);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_changed_is_refused),
		cmocka_unit_test(each_byte_changed_under_right_sums_harms_nobody),
	};
	return cmocka_run_group_tests_name("tmem-image-damage", tests, NULL, NULL);
}
