/* Metadata containers, as mpool's own tests use them. */
#include "blob_env.h"

#define CONTAINER_BYTES (1 * MIB)

struct heard {
	unsigned n;
	uint64_t first;
	bool wrong;
};

/* Record n is 8 bytes of its number and n % 500 more. */
static int hear(void *arg, const void *record, size_t len_bytes)
{
	struct heard *h = arg;
	uint64_t no;

	if (len_bytes < sizeof(no))
		return -EILSEQ;
	memcpy(&no, record, sizeof(no));
	h->wrong |= no != h->first + h->n || len_bytes != sizeof(no) + no % 500;
	h->n++;
	return 0;
}

static int append_no(struct quire_mdc *m, uint64_t no, bool sync)
{
	char record[1024] = {0};

	memcpy(record, &no, sizeof(no));
	return quire_mdc_append(m, record, sizeof(no) + no % 500, sync);
}

static struct quire_mdc *open_expecting(uint64_t id, uint64_t first, unsigned n)
{
	struct heard h = {.first = first};
	struct quire_mdc *m = NULL;

	assert_int_equal(quire_mdc_open(store, id, hear, &h, &m, &err), 0);
	assert_false(h.wrong);
	assert_int_equal(h.n, n);
	return m;
}

static uint64_t make(void)
{
	uint64_t id;

	assert_int_equal(quire_mdc_create(store, QUIRE_CLASS_CAPACITY, CONTAINER_BYTES, &id), 0);
	return id;
}

static void reopened_between_every_32_records(void **state)
{
	uint64_t id = make();

	for (uint64_t no = 0; no < 20 * 32;) {
		struct quire_mdc *m = open_expecting(id, 0, (unsigned)no);
		for (unsigned i = 0; i < 32; i++, no++)
			assert_int_equal(append_no(m, no, i == 31), 0);
		assert_int_equal(quire_mdc_close(m), 0);
		if (no % 128 == 0)
			env_reopen();
	}
	assert_int_equal(check(), 0);
}

static void four_side_by_side(void **state)
{
	struct quire_mdc *m[4];
	uint64_t ids[4];

	for (unsigned k = 0; k < 4; k++) {
		ids[k] = make();
		m[k] = open_expecting(ids[k], k * 1000, 0);
	}
	for (uint64_t no = 0; no < 200; no++)
		for (unsigned k = 0; k < 4; k++)
			assert_int_equal(append_no(m[k], k * 1000 + no, false), 0);
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(quire_mdc_close(m[k]), 0);
	env_reopen();
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(quire_mdc_close(open_expecting(ids[k], k * 1000, 200)), 0);
	assert_int_equal(quire_mdc_destroy(store, ids[1]), 0);
	env_reopen();
	assert_int_equal(quire_mdc_open(store, ids[1], NULL, NULL, &m[1], &err), -ESTALE);
	assert_int_equal(quire_mdc_destroy(store, ids[1]), -ESTALE);
	assert_int_equal(quire_mdc_close(open_expecting(ids[2], 2000, 200)), 0);
	assert_int_equal(check(), 0);
}

static void too_full_then_compacted(void **state)
{
	struct quire_mdc_usage usage;
	uint64_t id = make(), no = 0;
	struct quire_mdc *m = open_expecting(id, 0, 0);
	struct heard h = {0};
	int rc;

	while ((rc = append_no(m, no, false)) == 0)
		no++;
	assert_int_equal(rc, -EFBIG);
	assert_int_equal(quire_mdc_usage(m, &usage), 0);
	assert_true(usage.used_bytes >= CONTAINER_BYTES * 9 / 10);
	assert_int_equal(quire_mdc_read(m, hear, &h), 0);
	assert_false(h.wrong);
	assert_int_equal(h.n, no);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(quire_mdc_cstart(m), 0);
		assert_int_equal(quire_mdc_cstart(m), -EBUSY);
		for (uint64_t i = no - 10; i < no; i++)
			assert_int_equal(append_no(m, i, false), 0);
		assert_int_equal(quire_mdc_cend(m), 0);
	}
	assert_int_equal(quire_mdc_cend(m), -EINVAL);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(append_no(m, no + i, false), 0);
	assert_int_equal(quire_mdc_close(m), 0);
	env_reopen();
	assert_int_equal(quire_mdc_close(open_expecting(id, no - 10, 110)), 0);
}

static void a_compaction_given_up(void **state)
{
	uint64_t id = make();

	for (unsigned how = 0; how < 2; how++) {
		struct quire_mdc *m = open_expecting(id, 0, how * 10);
		for (uint64_t no = 0; no < 10; no++)
			assert_int_equal(append_no(m, how * 10 + no, true), 0);
		assert_int_equal(quire_mdc_cstart(m), 0);
		assert_int_equal(append_no(m, 77, false), 0);
		if (how == 1)
			assert_int_equal(quire_mdc_cabort(m), 0);
		assert_int_equal(quire_mdc_close(m), 0);
		env_reopen();
	}
	assert_int_equal(quire_mdc_close(open_expecting(id, 0, 20)), 0);
}

static void refused(void **state)
{
	struct quire_mdc *m, *second;
	static char big[1 << 16];
	uint64_t id = make(), other;

	m = open_expecting(id, 0, 0);
	assert_int_equal(quire_mdc_open(store, id, NULL, NULL, &second, &err), -EBUSY);
	assert_int_equal(quire_mdc_destroy(store, id), -EBUSY);
	assert_int_equal(quire_store_close(store), -EBUSY);
	void *huge = calloc(1, quire_mdc_max_record(m) + 1);
	assert_int_equal(quire_mdc_append(m, huge, quire_mdc_max_record(m) + 1, false), -EMSGSIZE);
	free(huge);
	assert_int_equal(quire_mdc_append(m, big, 0, true), 0);
	assert_int_equal(verify(id, 0), -ESTALE); /* it is no blob */
	assert_int_equal(quire_mdc_close(m), 0);
	assert_int_equal(quire_mdc_open(store, 12345678, NULL, NULL, &m, &err), -ESTALE);
	assert_int_equal(quire_mdc_create(store, QUIRE_CLASS_PMEM, MIB, &other), -ENOENT);
	assert_int_equal(quire_mdc_create(store, QUIRE_CLASS_CAPACITY, 0, &other), -EINVAL);
	assert_int_equal(quire_mdc_create(store, QUIRE_CLASS_CAPACITY, TIB, &other), -EINVAL);
	assert_int_equal(quire_mdc_create(store, QUIRE_CLASS_CAPACITY, GIB / 2, &other), -ENOSPC);
	assert_int_equal(quire_mdc_close(NULL), 0);
}

static int stop_at_third(void *arg, const void *record, size_t len_bytes)
{
	return ++*(unsigned *)arg == 3 ? -EINTR : 0;
}

static void a_reader_may_stop(void **state)
{
	uint64_t id = make();
	struct quire_mdc *m = open_expecting(id, 0, 0);
	unsigned n = 0;

	for (uint64_t no = 0; no < 10; no++)
		assert_int_equal(append_no(m, no, no == 9), 0);
	assert_int_equal(quire_mdc_read(m, stop_at_third, &n), -EINTR);
	assert_int_equal(n, 3);
	assert_int_equal(quire_mdc_close(m), 0);
	n = 0;
	assert_int_equal(quire_mdc_open(store, id, stop_at_third, &n, &m, &err), -EINTR);
	assert_int_equal(quire_mdc_close(open_expecting(id, 0, 10)), 0);
}

static void synced_by_an_op(void **state)
{
	uint64_t id = make();
	struct quire_mdc *m = open_expecting(id, 0, 0);
	struct quire_op op;

	for (uint64_t no = 0; no < 10; no++) {
		quire_op_init(&op);
		assert_int_equal(quire_mdc_sync(m, &op), 0);
		assert_int_equal(quire_await(&op), 0);
		assert_int_equal(append_no(m, no, false), 0);
	}
	assert_int_equal(quire_mdc_sync(m, NULL), 0);
	assert_int_equal(quire_mdc_close(m), 0);
	env_close();
	assert_int_equal(env_open(QUIRE_STORE_READ_ONLY), 0);
	m = open_expecting(id, 0, 10);
	assert_int_equal(append_no(m, 10, false), -EROFS);
	assert_int_equal(quire_mdc_cstart(m), -EROFS);
	assert_int_equal(quire_mdc_close(m), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(reopened_between_every_32_records),
		WITH_STORE(four_side_by_side),
		WITH_STORE(too_full_then_compacted),
		WITH_STORE(a_compaction_given_up),
		WITH_STORE(refused),
		WITH_STORE(a_reader_may_stop),
		WITH_STORE(synced_by_an_op),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
