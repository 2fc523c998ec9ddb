/* keyed_hash_test.c - the hash against the vectors that its authors published, and what it must not depend on. */
#include "cmocka_env.h"

#include "../../src/base/keyed_hash.h"

#include <string.h>

static uint8_t secret[16], data[64];

static int begin(void **state)
{
	for (uint8_t i = 0; i < 16; i++)
		secret[i] = i;
	for (uint8_t i = 0; i < 64; i++)
		data[i] = i;
	return 0;
}

static void test_published_vectors(void **state)
{
	assert_true(keyed_hash(secret, data, 0) == 0x726fdb47dd0e0e31u);
	assert_true(keyed_hash(secret, data, 1) == 0x74f839c593dc67fdu);
	assert_true(keyed_hash(secret, data, 8) == 0x93f5f5799a932462u);
	assert_true(keyed_hash(secret, data, 15) == 0xa129ca6149be45e5u);
}

static void test_alignment_does_not_matter(void **state)
{
	uint8_t moved[80];

	for (unsigned shift = 0; shift < 8; shift++) {
		memcpy(moved + shift, data, sizeof(data));
		for (size_t n = 0; n <= sizeof(data); n++)
			assert_true(keyed_hash(secret, moved + shift, n) == keyed_hash(secret, data, n));
	}
}

static void test_secret_and_each_byte_matter(void **state)
{
	uint64_t h = keyed_hash(secret, data, 20);

	for (unsigned i = 0; i < 20; i++) {
		data[i] ^= 1;
		assert_true(keyed_hash(secret, data, 20) != h);
		data[i] ^= 1;
	}
	for (unsigned i = 0; i < 16; i++) {
		secret[i] ^= 1;
		assert_true(keyed_hash(secret, data, 20) != h);
		secret[i] ^= 1;
	}
	assert_true(keyed_hash(secret, data, 19) != h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published_vectors),
		cmocka_unit_test(test_alignment_does_not_matter),
		cmocka_unit_test(test_secret_and_each_byte_matter),
	};

	return cmocka_run_group_tests(tests, begin, NULL);
}
