/* damage_test.c - each byte of a log's image is changed in turn: opening gives one of the outcomes, the right place, and
 * the records before it. By default every byte near records' borders and a sample of the rest; with QUIRE_TEST_LONG all. */
#include "journal_env.h"

#include <errno.h>
#include <string.h>

static struct env e;
static struct seen seen;
static uint64_t first, second, n_all;
static uint32_t last_group; /* of the last segment: its offset */

static void build(void *arg)
{
	struct journal_options o = env_options(&e);
	struct journal *j;
	uint64_t no = 0;

	(void)arg;
	first = env_extent(&e);
	assert_int_equal(journal_create(&o, first, &j, NULL), 0);
	for (uint32_t id = 1; e.n_gets < 1; id++) {
		assert_int_equal(record_append(j, id, &no), 0);
		assert_int_equal(journal_sync(j, no, NULL), 0);
	}
	/* Into the second segment, and two more groups there. */
	record_sizes(SIZES_EQUAL);
	for (uint32_t id = 1000; journal_used_bytes(j) < SEGMENT + 2000; id++) {
		assert_int_equal(record_append(j, id, &no), 0);
		assert_int_equal(journal_sync(j, no, NULL), 0);
	}
	for (uint32_t id = 2000; id < 2003; id++)
		assert_int_equal(record_append(j, id, &no), 0);
	assert_int_equal(journal_sync(j, no, NULL), 0);
	journal_close(j);
}

struct look {
	int rc;
	struct journal_recovery recovery;
};

/* Content is judged by the caller: the lengths' class has changed on the way. */
static int note(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	(void)payload;
	(void)len_bytes;
	(void)arg;
	seen.ids[seen.n] = record_id(type);
	seen.places[seen.n++] = *at;
	return 0;
}

static void run_look(void *arg)
{
	struct look *l = arg;
	struct journal_options o = env_options(&e);
	struct journal *j = NULL;

	seen.n = 0;
	l->rc = journal_open(&o, first, true, note, NULL, &l->recovery, &j, NULL);
	journal_close(j);
}

static struct look look(void)
{
	struct look l;

	env_run(&e, run_look, &l);
	return l;
}

/* What must be found when a byte of segment `which` at `offset` is changed. */
static void judge(unsigned which, uint32_t offset, const struct journal_place *places, const struct look *l)
{
	uint64_t segment = which == 0 ? first : second;
	uint64_t k = 0; /* the first record that ends behind the byte */

	assert_true(l->rc == 0 || l->rc == -EBADMSG || l->rc == -EUCLEAN);
	for (uint64_t i = 0; i < seen.n; i++)
		assert_memory_equal(&seen.places[i], &places[i], sizeof(places[i]));
	if (offset < DEVICE_BLOCK_BYTES) {
		assert_int_equal(l->rc, which == 0 && offset < 8 ? -EUCLEAN : -EBADMSG);
		assert_int_equal(l->recovery.at.segment, segment);
		assert_int_equal(l->recovery.at.offset, 0);
		return;
	}
	while (k < n_all && (places[k].segment != segment || places[k].offset <= offset) &&
	       (which == 1 || places[k].segment == segment))
		k++;
	if (which == 1 && offset >= last_group) {
		assert_int_equal(l->rc, 0); /* torn, or behind the end */
		assert_true(seen.n == k - 1 || seen.n == n_all);
		assert_true(l->recovery.end != JOURNAL_CORRUPT && l->recovery.end != JOURNAL_VALID);
		return;
	}
	/* In a record, or in one of the journal's own behind it, or behind the segment's last. */
	if (l->rc == 0) {
		assert_int_equal(seen.n, n_all);
		return;
	}
	assert_int_equal(l->rc, -EBADMSG);
	assert_int_equal(l->recovery.at.segment, segment);
	assert_true(l->recovery.at.offset <= offset);
	assert_true(seen.n == k - 1 || seen.n == k);
	assert_true(seen.n == n_all || seen.n != k - 1 || l->recovery.at.offset == places[k - 1].offset);
}

static void test_each_byte(void **state)
{
	static const struct sim_faults none = {.cut_ends_io = true};
	static struct journal_place places[MAX_IDS];
	uint64_t stride = random_count(getenv("QUIRE_SANITIZED") != NULL ? 47 : 23, 1), n = 0, n_corrupt = 0, n_torn = 0, n_none = 0;
	double begin_s = seconds_now();
	uint8_t byte;

	(void)state;
	env_make(&e, 4, 11, &none);
	seen_init(&seen);
	record_sizes(SIZES_MIXED);
	env_run(&e, build, NULL);
	struct look whole = look();
	assert_int_equal(whole.rc, 0);
	n_all = seen.n;
	memcpy(places, seen.places, n_all * sizeof(places[0]));
	second = places[n_all - 1].segment;
	assert_true(second != first);
	last_group = places[n_all - 3].offset;

	for (unsigned which = 0; which < 2; which++) {
		uint32_t end = which == 0 ? SEGMENT : whole.recovery.at.offset + 64;
		for (uint32_t at = 0; at < end; at += at < 128 || (at > 5000 && at < 5200) || at + 700 > end ? 1 : (uint32_t)stride) {
			uint64_t place = (which == 0 ? first : second) + at;
			sim_peek(e.sim, place, &byte, 1);
			uint8_t changed = byte ^ (uint8_t)(1u << at % 8);
			sim_poke(e.sim, place, &changed, 1);
			struct look l = look();
			judge(which, at, places, &l);
			sim_poke(e.sim, place, &byte, 1);
			n++;
			n_corrupt += l.rc < 0;
			n_torn += l.rc == 0 && seen.n < n_all;
			n_none += l.rc == 0 && seen.n == n_all;
		}
	}
	print_message("%llu bytes changed: %llu times corrupt, %llu torn, %llu behind the end; %.1f s\n", (unsigned long long)n,
	              (unsigned long long)n_corrupt, (unsigned long long)n_torn, (unsigned long long)n_none,
	              seconds_now() - begin_s);
	assert_true(n_torn > 0 && n_corrupt > n_torn);
	/* Nothing of a full segment is not covered but what is behind its LINK. */
	assert_true(n_none < 2000);
	seen_fini(&seen);
	env_end(&e);
	assert_int_equal(quire_loop_destroy(e.loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_byte)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
