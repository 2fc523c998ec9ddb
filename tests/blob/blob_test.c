/* Blobs: their life, their errors, their bytes. */
#include "blob_env.h"

#define ALIGNED __attribute__((aligned(4096)))

static void lengths(void **state)
{
	static const uint64_t lens[] = {0, 1, 4095, 4096, 4097, 65535, 65536, 65537, MIB - 1, MIB, 1023 * 4096, 1024 * 4096 + 5};
	uint64_t ids[sizeof(lens) / sizeof(lens[0])];

	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		ids[i] = put(lens[i]);
	for (unsigned again = 0; again < 2; again++) {
		for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			assert_int_equal(verify(ids[i], lens[i]), 0);
		env_reopen();
	}
	assert_int_equal(check(), 0);
}

static void large(void **state)
{
	uint64_t len = (SANITIZED ? 20 : 50) * MIB + 17, id = put(len);

	assert_int_equal(verify(id, len), 0);
	env_reopen();
	assert_int_equal(verify(id, len), 0);
}

static void many_writes_of_odd_lengths(void **state)
{
	uint64_t id = begin(0), at = 0, random = 7;

	for (unsigned i = 0; i < 200; i++) {
		uint64_t n = random_next(&random) % 9000;
		assert_int_equal(append(id, at, n), 0);
		at += n;
	}
	assert_int_equal(commit(id), 0);
	assert_int_equal(verify(id, at), 0);
}

static void many_small_ones(void **state)
{
	enum { N = SANITIZED ? 500 : 2000 };
	static uint64_t ids[N], listed[N + 1];

	for (unsigned i = 0; i < N; i++) {
		ids[i] = begin(0);
		assert_int_equal(append(ids[i], 0, i), 0);
	}
	assert_int_equal(quire_blob_list(store, 0, listed, N), 0);
	for (unsigned i = 0; i < N; i += N / 4)
		assert_int_equal(quire_blob_commit(store, ids + i, N / 4, NULL), 0);
	env_reopen();
	assert_int_equal(quire_blob_list(store, 0, listed, N + 1), N);
	assert_memory_equal(listed, ids, sizeof(ids));
	assert_int_equal(quire_blob_list(store, ids[N - 3], listed, N), 2);
	for (unsigned i = 0; i < N; i += 7)
		assert_int_equal(verify(ids[i], i), 0);
}

/* ---- what is refused ---- */

static void committed_twice(void **state)
{
	uint64_t id = put(10), twice[2] = {begin(0), 0};

	assert_int_equal(commit(id), -EROFS);
	assert_int_equal(append(id, 10, 10), -EROFS);
	assert_int_equal(quire_blob_abort(store, id), -EROFS);
	twice[1] = twice[0];
	assert_int_equal(quire_blob_commit(store, twice, 2, NULL), -EINVAL);
	assert_int_equal(commit(twice[0]), 0);
	assert_int_equal(verify(id, 10), 0);
}

static void committed_after_its_end(void **state)
{
	uint64_t id = put(10), other = begin(0);
	struct quire_blob_props props;

	assert_int_equal(delete(id), 0);
	assert_int_equal(quire_blob_abort(store, other), 0);
	for (unsigned i = 0; i < 2; i++, id = other) {
		assert_int_equal(commit(id), -ESTALE);
		assert_int_equal(delete(id), -ESTALE);
		assert_int_equal(append(id, 0, 1), -ESTALE);
		assert_int_equal(verify(id, 10), -ESTALE);
		assert_int_equal(quire_blob_abort(store, id), -ESTALE);
		assert_int_equal(quire_blob_props(store, id, &props), -ESTALE);
	}
	assert_int_equal(delete(0), -ESTALE);
	assert_int_equal(delete(UINT64_MAX), -ESTALE);
}

static void ids_are_never_used_again(void **state)
{
	uint64_t dead = put(10), open = begin(0), random = 3;

	assert_int_equal(append(open, 0, 100), 0);
	assert_int_equal(delete(dead), 0);
	env_reopen();
	assert_int_equal(commit(open), -ESTALE);
	for (unsigned i = 0; i < 50; i++) {
		uint64_t id = put(random_next(&random) % 100);
		assert_true(id > dead && id > open);
	}
	assert_int_equal(verify(dead, 10), -ESTALE);
	assert_int_equal(verify(open, 100), -ESTALE);
}

static void not_committed_yet(void **state)
{
	struct quire_blob_props props;
	uint64_t id = begin(0);

	assert_int_equal(append(id, 0, 70000), 0);
	assert_int_equal(verify(id, 70000), -EAGAIN);
	assert_int_equal(delete(id), -EAGAIN);
	assert_int_equal(quire_blob_props(store, id, &props), 0);
	assert_false(props.committed);
	assert_int_equal(props.len_bytes, 70000);
	assert_int_equal(commit(id), 0);
	assert_int_equal(verify(id, 70000), 0);
}

static void wrong_hints(void **state)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .page_shift = 13};
	uint64_t id = 99;

	assert_int_equal(quire_blob_alloc(store, &hints, &id), -EINVAL);
	hints = (struct quire_blob_hints){.size = sizeof(hints) + 1};
	assert_int_equal(quire_blob_alloc(store, &hints, &id), -EINVAL);
	hints = (struct quire_blob_hints){.size = sizeof(hints), .cls = QUIRE_CLASS_PMEM};
	assert_int_equal(quire_blob_alloc(store, &hints, &id), -ENOENT);
	assert_int_equal(id, 99);
	assert_int_equal(quire_blob_alloc(store, NULL, &id), 0);
}

/* ---- transactions ---- */

static void all_or_none(void **state)
{
	uint64_t ids[3], gone = put(5), old = put(6);

	assert_int_equal(delete(gone), 0);
	for (unsigned i = 0; i < 3; i++) {
		ids[i] = i == 2 ? gone : begin(0);
		if (i < 2)
			assert_int_equal(append(ids[i], 0, 100 + i), 0);
	}
	assert_int_equal(quire_blob_commit(store, ids, 3, NULL), -ESTALE);
	assert_int_equal(quire_blob_apply(store, ids, 2, &gone, 1, NULL), -ESTALE);
	assert_int_equal(verify(ids[0], 100), -EAGAIN);
	assert_int_equal(quire_blob_apply(store, ids, 2, &old, 1, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(verify(ids[i], 100 + i), 0);
	assert_int_equal(verify(old, 6), -ESTALE);
	assert_int_equal(quire_blob_apply(store, NULL, 0, NULL, 0, NULL), 0);
	assert_int_equal(quire_blob_commit(store, ids, 100000, NULL), -EMSGSIZE);
}

/* ---- reading ---- */

static void reads_at_any_alignment(void **state)
{
	uint64_t len = 3 * MIB + 100, id = put(len), random = 11;
	static char buf[300000] ALIGNED, want[300000];

	for (unsigned i = 0; i < 200; i++) {
		uint64_t offset = random_next(&random) % len, n = random_next(&random) % 250000, skip = random_next(&random) % 5000;
		if (i % 3 == 0) {
			offset &= ~4095ull;
			skip = 0;
		}
		uint64_t expected = n < len - offset ? n : len - offset;
		memset(buf, 0x5a, sizeof(buf));
		assert_int_equal(read_at(id, offset, buf + skip, n), expected);
		fill(id, offset, want, expected);
		assert_memory_equal(buf + skip, want, expected);
		/* Not a byte beyond. */
		assert_true(skip == 0 || buf[skip - 1] == 0x5a);
		assert_true(buf[skip + n] == 0x5a);
	}
}

static void reads_into_many_pieces(void **state)
{
	uint64_t len = 200000, id = put(len);
	static char buf[200100] ALIGNED, want[200000];
	struct iovec iov[6] = {{buf, 8192}, {buf + 8192, 0}, {buf + 8192, 1}, {buf + 8193, 99999}, {NULL, 0},
	                       {buf + 108192, 91900}};

	assert_int_equal(quire_blob_read(store, id, 0, iov, 6, NULL), len);
	fill(id, 0, want, len);
	assert_memory_equal(buf, want, len);
	assert_int_equal(quire_blob_read(store, id, 4096, iov, 3, NULL), 8193);
	assert_memory_equal(buf, want + 4096, 8193);
}

static void reads_past_the_end(void **state)
{
	uint64_t lens[] = {0, 1, 4096, 5000, 70000};
	char buf[16];

	for (unsigned i = 0; i < 5; i++) {
		uint64_t id = put(lens[i]);
		assert_int_equal(read_at(id, lens[i], buf, 16), 0);
		assert_int_equal(read_at(id, lens[i] + 1, buf, 16), 0);
		assert_int_equal(read_at(id, UINT64_MAX, buf, 16), 0);
		assert_int_equal(read_at(id, 0, buf, 0), 0);
		if (lens[i] > 0)
			assert_int_equal(read_at(id, lens[i] - 1, buf, 16), 1);
	}
}

/* ---- space ---- */

static void full(void **state)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .expected_bytes = 2 * CAPACITY_BYTES};
	struct quire_blob_props before, after;
	uint64_t big = begin(0), id = begin(0), at = 0;
	int rc = 0;

	assert_int_equal(quire_blob_alloc(store, &hints, &at), -ENOSPC);
	at = 0;
	while (rc == 0) {
		rc = append(big, at, MIB);
		at += rc == 0 ? MIB : 0;
	}
	assert_int_equal(rc, -ENOSPC);
	assert_in_range(at, CAPACITY_BYTES / 2, CAPACITY_BYTES);
	/* Nothing was promised, nothing was lost. */
	assert_int_equal(quire_blob_props(store, big, &before), 0);
	assert_int_equal(before.len_bytes, at);
	assert_int_equal(append(id, 0, 4 * MIB), -ENOSPC);
	assert_int_equal(quire_blob_props(store, big, &after), 0);
	assert_int_equal(after.len_bytes, at);
	assert_int_equal(commit(big), 0);
	assert_int_equal(verify(big, at), 0);
	assert_int_equal(delete(big), 0);
	assert_int_equal(quire_blob_abort(store, id), 0);
	id = put(50 * MIB);
	assert_int_equal(verify(id, 50 * MIB), 0);
	assert_int_equal(check(), 0);
}

static void what_is_expected_is_there(void **state)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .expected_bytes = 10 * MIB, .page_shift = 16};
	struct quire_blob_props props;
	uint64_t id;

	assert_int_equal(quire_blob_alloc(store, &hints, &id), 0);
	assert_int_equal(quire_blob_props(store, id, &props), 0);
	assert_true(props.allocated_bytes >= 10 * MIB);
	assert_int_equal(append(id, 0, 5000), 0);
	assert_int_equal(commit(id), 0);
	assert_int_equal(quire_blob_props(store, id, &props), 0);
	assert_int_equal(props.allocated_bytes, 3 * 4096);
	assert_int_equal(props.page_shift, 16);
	assert_int_equal(props.id, id);
	assert_true(props.committed);
	assert_int_equal(props.n_users, 0);
}

/* A mark of the owner's, which a new life of the store keeps. */
static void found_by_tag(void **state)
{
	struct quire_blob_hints hints = {.size = sizeof(hints)};
	struct quire_blob_props props;
	uint64_t ids[6], found[6];

	for (unsigned i = 0; i < 6; i++) {
		hints.tag = i % 3 == 2 ? 254 : (uint8_t)(i % 3);
		assert_int_equal(quire_blob_alloc(store, &hints, &ids[i]), 0);
	}
	hints.tag = 255; /* the store's own */
	assert_int_equal(quire_blob_alloc(store, &hints, &found[0]), -EINVAL);
	assert_int_equal(quire_blob_list_tagged(store, 1, 0, found, 6), 0);
	assert_int_equal(quire_blob_commit(store, ids, 6, NULL), 0);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(quire_blob_list_tagged(store, 254, 0, found, 6), 2);
		assert_int_equal(found[0], ids[2]);
		assert_int_equal(found[1], ids[5]);
		assert_int_equal(quire_blob_list_tagged(store, 1, ids[1], found, 6), 1);
		assert_int_equal(found[0], ids[4]);
		assert_int_equal(quire_blob_list_tagged(store, 7, 0, found, 6), 0);
		assert_int_equal(quire_blob_props(store, ids[5], &props), 0);
		assert_int_equal(props.tag, 254);
		env_reopen();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(lengths),
		WITH_STORE(large),
		WITH_STORE(many_writes_of_odd_lengths),
		WITH_STORE(many_small_ones),
		WITH_STORE(committed_twice),
		WITH_STORE(committed_after_its_end),
		WITH_STORE(ids_are_never_used_again),
		WITH_STORE(not_committed_yet),
		WITH_STORE(wrong_hints),
		WITH_STORE(all_or_none),
		WITH_STORE(reads_at_any_alignment),
		WITH_STORE(reads_into_many_pieces),
		WITH_STORE(reads_past_the_end),
		WITH_STORE(full),
		WITH_STORE(what_is_expected_is_there),
		WITH_STORE(found_by_tag),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
