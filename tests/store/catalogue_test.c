/* catalogue_test.c - records of the catalogue that are whole, and say what can't be: the store is refused, and told why. And the page that is written
 * at the same time as its record, and never came.
 *
 * A record is written as words: a letter for each struct of format.h, then its fields, in their order, but for those that don't matter here:
 *   t n_objects n_removed              transaction_le
 *   o id len_bytes n_extents class     object_le
 *   e start n_units                    extent_le
 *   i id                               next_id_le
 *   c id segment_bytes n_extents class container_le
 *   l id n_segments segment_bytes class flags   log_le
 *   s id place                         log_segment_le
 *   h log n_added n_removed            log_change_le
 *   m log old                          log_moved_le
 *   b n                                so many bytes more
 */
#include "store_env.h"

#include "../../src/store/store_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_UNITS 600u
#define RECORD_BYTES 512u

/* ---- records ---- */

static uint32_t put(uint8_t *to, const void *from, size_t n)
{
	memcpy(to, from, n);
	return (uint32_t)n;
}

static uint32_t put_log(uint8_t *to, const uint64_t f[5])
{
	struct log_le le = {.id = htole64(f[0]), .n_segments = htole32((uint32_t)f[1]), .segment_bytes = htole32((uint32_t)f[2]),
	                    .class_no = (uint8_t)f[3], .flags = (uint8_t)f[4], .name = "log"};

	return put(to, &le, sizeof(le));
}

static uint32_t put_struct(uint8_t *to, char letter, const uint64_t f[5])
{
	const struct transaction_le t = {.n_objects = htole32((uint32_t)f[0]), .n_removed = htole32((uint32_t)f[1])};
	const struct object_le o = {.id = htole64(f[0]), .len_bytes = htole64(f[1]), .n_extents = htole16((uint16_t)f[2]),
	                            .class_shift = (uint8_t)f[3]};
	const struct container_le c = {.id = htole64(f[0]), .segment_bytes = htole32((uint32_t)f[1]), .n_extents = htole16((uint16_t)f[2]),
	                               .class_no = (uint8_t)f[3]};
	const struct log_change_le h = {.id = htole64(f[0]), .n_added = htole32((uint32_t)f[1]), .n_removed = htole32((uint32_t)f[2])};
	const uint64_t words[2] = {htole64(f[0]), htole64(f[1])}; /* extent_le, next_id_le, log_segment_le, log_moved_le */

	switch (letter) {
	case 't':
		return put(to, &t, sizeof(t));
	case 'o':
		return put(to, &o, sizeof(o));
	case 'c':
		return put(to, &c, sizeof(c));
	case 'h':
		return put(to, &h, sizeof(h));
	case 'l':
		return put_log(to, f);
	case 'i':
		return put(to, words, sizeof(words[0]));
	case 'b':
		memset(to, 0, f[0]);
		return (uint32_t)f[0];
	default:
		assert_non_null(strchr("esm", letter));
		return put(to, words, sizeof(words));
	}
}

static uint32_t spell(const char *words, uint8_t ret[RECORD_BYTES])
{
	uint32_t len = 0;

	while (*words != '\0') {
		uint64_t fields[5] = {0};
		char letter = *words++, *end;
		for (unsigned i = 0; *words == ' ' && words[1] >= '0' && words[1] <= '9'; i++, words = end)
			fields[i] = strtoull(words, &end, 10);
		words += *words == ' ';
		len += put_struct(ret + len, letter, fields);
		assert_true(len < RECORD_BYTES - 128);
	}
	return len;
}

/* ---- a store with such records ---- */

struct told {
	uint16_t type;
	const char *words;
};

/* Those that nothing is wrong with, in each store: an object, a container, a log with a segment. */
static const struct told right[] = {
	{FORMAT_NEXT_ID, "i 5000"},
	{FORMAT_TRANSACTION, "t 1 0 o 1000 4096 1 0 e 500 1"},
	{FORMAT_CONTAINER, "c 1001 65536 1 0 e 520 32"},
	{FORMAT_LOG, "l 1002 1 65536 0 0 s 1003 560"},
};

struct scene {
	struct env e;
	struct told last;
	bool closes; /* properly, with what that writes; else the process dies */
};

static void tell(struct env *e, const struct told *t)
{
	uint8_t record[RECORD_BYTES];
	uint32_t len = spell(t->words, record);

	assert_int_equal(catalogue_append(e->store, t->type, record, len), 0);
}

static void write_them(struct env *e, void *arg)
{
	struct scene *s = arg;
	struct sim *left;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	for (unsigned i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		tell(e, &right[i]);
	tell(e, &s->last);
	assert_int_equal(sim_clone(e->sims[0], 1, &left), 0);
	env_close(e);
	if (!s->closes) {
		sim_destroy(e->sims[0]);
		e->sims[0] = left;
		left = NULL;
	}
	sim_destroy(left);
}

static void begin(struct scene *s, uint16_t type, const char *words, bool closes)
{
	static const uint64_t n_units[STORE_N_CLASSES] = {N_UNITS};

	*s = (struct scene){.last = {type, words}, .closes = closes};
	env_init(&s->e, 1, n_units, NULL);
	env_run(&s->e, write_them, s);
}

/* ---- the tests ---- */

static const struct {
	uint16_t type;
	const char *words, *why; /* NULL: it opens */
} cases[] = {
	{FORMAT_TRANSACTION, "t 1 1 o 1010 5000 1 0 e 510 3 i 1000", NULL},
	{FORMAT_TRANSACTION, "", "a short transaction"},
	{FORMAT_TRANSACTION, "t 1 0", "its record is short"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0", "its record is short"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 3 e 510 1", "a class that is not there"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 4 e 510 1", "a class that is not there"},
	{FORMAT_TRANSACTION, "t 1 0 o 0 4096 1 0 e 510 1", "impossible properties"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 2251799813685248 1 0 e 510 1", "impossible properties"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1025 0", "too many extents"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0 e 510 0", "an impossible extent"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0 e 18446744073709551615 1", "an impossible extent"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0 e 510 2", "its extents and its length differ"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0 e 500 1", "another's, or none"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0 e 600 1", "another's, or none"},
	{FORMAT_TRANSACTION, "t 1 0 o 1000 4096 1 0 e 510 1", "is there twice"},
	{FORMAT_TRANSACTION, "t 1 0 o 5000 4096 1 0 e 510 1", "never given out"},
	{FORMAT_TRANSACTION, "t 1 0 o 1010 4096 1 0 e 32 1", "its segments and an object overlap"},
	{FORMAT_TRANSACTION, "t 0 1", "a short transaction"},
	{FORMAT_TRANSACTION, "t 0 1 i 1010", "removed, and not there"},
	{FORMAT_TRANSACTION, "t 0 0 b 8", "too long"},
	{FORMAT_RACED, "t 1 0 o 1010 4096 1 0 e 510 1", NULL},
	{FORMAT_RACED, "b 4", "a short transaction"},
	{FORMAT_RACED, "t 1 0", "its record is short"},
	{FORMAT_RACED, "t 0 1 i 1000", "not of one page"},
	{FORMAT_RACED, "t 1 0 o 1010 5000 1 0 e 510 3", "not of one page"},
	{FORMAT_NEXT_ID, "i 6000 b 8", "ids"},
	{FORMAT_NEXT_ID, "i 4611686018427387905", "no id is as high"},
	{FORMAT_CONTAINER, "c 1010 65536 2 0 e 400 16 e 430 32", NULL},
	{FORMAT_CONTAINER, "b 8", "a short record of a container"},
	{FORMAT_CONTAINER, "c 1010 65536 1 0", "its record is short"},
	{FORMAT_CONTAINER, "c 1010 65536 1 0 e 400 32 b 8", "an impossible container"},
	{FORMAT_CONTAINER, "c 1010 65536 1 2 e 400 32", "an impossible container"},
	{FORMAT_CONTAINER, "c 1010 65536 1 0 e 400 16", "an impossible container"},
	{FORMAT_CONTAINER, "c 1010 32768 1 0 e 400 32", "an impossible container"},
	{FORMAT_CONTAINER, "c 1010 98304 1 0 e 400 48", "an impossible container"},
	{FORMAT_CONTAINER, "c 1010 65536 2 0 e 400 24 e 430 24", "an impossible container"},
	{FORMAT_CONTAINER, "c 1010 65536 1 0 e 520 32", "another's, or none"},
	{FORMAT_CONTAINER, "c 1001 65536 1 0 e 400 32", "is there twice"},
	{FORMAT_CONTAINER_GONE, "i 1001", NULL},
	{FORMAT_CONTAINER_GONE, "b 4", "a container"},
	{FORMAT_CONTAINER_GONE, "i 1010", "removed, and not there"},
	{FORMAT_LOG, "l 1010 0 65536 0 1", NULL},
	{FORMAT_LOG, "b 100", "a short record of a log"},
	{FORMAT_LOG, "l 0 0 65536 0 0", "an impossible log"},
	{FORMAT_LOG, "l 1010 0 65536 0 128", "an impossible log"},
	{FORMAT_LOG, "l 1010 0 65536 3 0", "an impossible log"},
	{FORMAT_LOG, "l 1010 0 98304 0 0", "an impossible log"},
	{FORMAT_LOG, "l 1002 0 65536 0 0", "is there twice"},
	{FORMAT_LOG, "l 1010 1 65536 0 0", "its record is short"},
	{FORMAT_LOG, "l 1010 1 65536 0 0 s 0 400", "an impossible segment"},
	{FORMAT_LOG, "l 1010 1 65536 0 0 s 1003 400", "an impossible segment"},
	{FORMAT_LOG, "l 1010 1 65536 0 0 s 1011 360287970189639680", "an impossible segment"}, /* of class 4 */
	{FORMAT_LOG, "l 1010 1 65536 0 0 s 1011 560", "another's, or none"},
	{FORMAT_LOG, "l 1010 0 65536 0 0 b 8", "too long"},
	{FORMAT_LOG_SEGMENTS, "h 1002 1 1 s 1011 400 i 1003", NULL},
	{FORMAT_LOG_SEGMENTS, "b 8", "a short record of a log"},
	{FORMAT_LOG_SEGMENTS, "h 1010 0 0", "a log that is not there"},
	{FORMAT_LOG_SEGMENTS, "h 1002 1 0", "its record is short"},
	{FORMAT_LOG_SEGMENTS, "h 1002 0 1", "its record is short"},
	{FORMAT_LOG_SEGMENTS, "h 1002 0 1 i 1011", "is not its oldest, or not there"},
	{FORMAT_LOG_SEGMENTS, "h 1002 1 1 s 1011 400 i 1011", "is not its oldest, or not there"},
	{FORMAT_LOG_SEGMENTS, "h 1002 0 0 b 8", "too long"},
	{FORMAT_LOG_GONE, "i 1002", NULL},
	{FORMAT_LOG_GONE, "b 4", "a log"},
	{FORMAT_LOG_GONE, "i 1010", "removed, and not there"},
	{FORMAT_LOG_MOVED, "m 1002 1003 s 1011 400", NULL},
	{FORMAT_LOG_MOVED, "b 8", "a short record of a log"},
	{FORMAT_LOG_MOVED, "m 1010 1003 s 1011 400", "a log that is not there"},
	{FORMAT_LOG_MOVED, "m 1002 1011 s 1012 400", "is moved, and not there"},
	{FORMAT_LOG_MOVED, "m 1002 1003", "its record is short"},
	{FORMAT_LOG_MOVED, "m 1002 1003 s 1011 400 b 8", "too long"},
	{FORMAT_LOG_MOVED + 1, "", "a record of type 26"},
};

static void open_it(struct env *e, void *arg)
{
	unsigned i = *(unsigned *)arg;
	int rc = env_open(e);

	if (rc != (cases[i].why == NULL ? 0 : -EUCLEAN) || (rc < 0 && strstr(e->err.text, cases[i].why) == NULL))
		fail_msg("record %u \"%s\": %d, %s", cases[i].type, cases[i].words, rc, e->err.text);
	if (rc == 0)
		env_close(e);
}

static void test_what_contradicts_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scene s;
		begin(&s, cases[i].type, cases[i].words, true);
		env_run(&s.e, open_it, &i);
		env_fini(&s.e);
	}
}

/* Its checksum says 0, which a page of zeros does not have. */
static void look_for_the_page(struct env *e, void *arg)
{
	struct object_properties p;
	struct store_stat stat[2];

	(void)arg;
	assert_int_equal(env_open_read_only(e), 0);
	assert_int_equal(object_properties(e->store, 1010, &p), -ESTALE);
	store_stat(e->store, &stat[0]);
	env_close(e);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(object_properties(e->store, 1010, &p), -ESTALE);
	assert_int_equal(object_properties(e->store, 1000, &p), 0);
	store_stat(e->store, &stat[1]);
	assert_int_equal(stat[0].classes[0].used_bytes, stat[1].classes[0].used_bytes);
	env_close(e);
	/* That was written down: the next opening has nothing to look at. */
	assert_int_equal(env_open(e), 0);
	assert_int_equal(object_properties(e->store, 1010, &p), -ESTALE);
	env_close(e);
}

static void test_a_page_that_never_came(void **state)
{
	struct scene s;

	(void)state;
	begin(&s, FORMAT_RACED, "t 1 0 o 1010 4096 1 0 e 510 1", false);
	env_run(&s.e, look_for_the_page, NULL);
	env_fini(&s.e);
}

/* Whether it came is not known: its readers are told. */
static void look_without_reading(struct env *e, void *arg)
{
	struct failing failing = {0};
	struct object_properties p;
	unsigned n_kept = 0;

	(void)arg;
	e->failing = &failing;
	for (uint64_t n = 1;; n++) {
		failing_begin(&failing, 1u << DEVICE_READ, n, false);
		int rc = env_open_read_only(e);
		if (rc == 0)
			n_kept += object_properties(e->store, 1010, &p) == 0;
		assert_true(rc == 0 || rc == -EIO);
		if (rc == 0)
			env_close(e);
		if (!failing_end(&failing))
			break;
	}
	assert_int_equal(n_kept, 1);
	e->failing = NULL;
}

static void test_a_page_that_cannot_be_looked_at(void **state)
{
	struct scene s;

	(void)state;
	begin(&s, FORMAT_RACED, "t 1 0 o 1010 4096 1 0 e 510 1", false);
	env_run(&s.e, look_without_reading, NULL);
	env_fini(&s.e);
}

struct again {
	struct failing failing;
	uint64_t n;     /* the read that fails */
	bool compacts, over;
	unsigned n_kept;
};

/* Who writes on meanwhile, and ends, doesn't settle it: the next opening does. */
static void ask_again(struct env *e, void *arg)
{
	struct again *a = arg;
	struct object_properties p;

	e->failing = &a->failing;
	failing_begin(&a->failing, 1u << DEVICE_READ, a->n, false);
	int rc = env_open(e);
	a->over = !failing_end(&a->failing);
	assert_true(rc == 0 || rc == -EIO);
	if (rc == 0 && object_properties(e->store, 1010, &p) == 0) {
		int64_t id = env_put(e, 0, PAGE);
		assert_true(id > 0);
		if (a->compacts)
			assert_int_equal(store_compact(e->store), 0);
		env_close(e);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(env_open(e), 0);
			assert_int_equal(object_properties(e->store, 1010, &p), -ESTALE);
			assert_int_equal(env_verify(e, (uint64_t)id, PAGE), 0);
			if (i == 0)
				env_close(e);
		}
		a->n_kept++;
	}
	if (rc == 0)
		env_close(e);
}

static void test_a_page_that_is_asked_for_again(void **state)
{
	(void)state;
	for (unsigned compacts = 0; compacts < 2; compacts++) {
		struct again a = {.compacts = compacts == 1};
		while (!a.over) {
			struct scene s;
			a.n++;
			begin(&s, FORMAT_RACED, "t 1 0 o 1010 4096 1 0 e 510 1", false);
			env_run(&s.e, ask_again, &a);
			env_fini(&s.e);
		}
		assert_int_equal(a.n_kept, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_contradicts_is_refused),
		cmocka_unit_test(test_a_page_that_never_came),
		cmocka_unit_test(test_a_page_that_cannot_be_looked_at),
		cmocka_unit_test(test_a_page_that_is_asked_for_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
