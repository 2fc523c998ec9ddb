/* damage_test.c - segments missing, doubled, exchanged, another's, by accident and forged; a check while a log is in use, and of one
 * that is open; and that a store says that it has logs. What each byte does is in mutate_test.c. */
#include "log_env.h"

#include "../../src/base/crc32c.h"
#include "../../src/journal/frame.h"
#include "../../src/store/logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SALT 5

static struct env e;

static void append_to(struct env *env, uint64_t n, bool durable)
{
	for (uint64_t lsn = quire_log_visible(env->log); lsn < n; lsn++)
		assert_int_equal(env_append(env, SALT, lsn, durable), 0);
}

/* ---- a log of three segments that are sealed, and a tail ---- */

#define TAIL 3u

static struct store_log_segment chain[8];
static uint64_t n_records;

static void list_segments(struct env *env)
{
	struct store_log_info info;
	struct store_log *space;

	assert_int_equal(env_open_store(env, true), 0);
	assert_int_equal(store_log_find(env->store, NAME, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	assert_true(store_log_segments(space, chain, 8) > TAIL);
	store_log_close(space);
	assert_int_equal(env_close(env), 0);
}

static void build(struct env *env, void *arg)
{
	struct quire_log_segment s[8];

	assert_int_equal(env_format(env), 0);
	assert_int_equal(env_open(env), 0);
	while (quire_log_segments(env->log, s, 8) <= TAIL)
		append_to(env, quire_log_visible(env->log) + 1, true);
	append_to(env, quire_log_visible(env->log) + 10, true);
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0); /* all that can be is sealed */
	assert_int_equal(quire_log_segments(env->log, s, 8), TAIL + 1);
	assert_true(s[TAIL - 1].sealed);
	n_records = quire_log_visible(env->log);
	assert_int_equal(env_close(env), 0);
	list_segments(env);
}

static uint32_t extent_bytes(void)
{
	return format_log_extent_units(SEGMENT) * FORMAT_UNIT_BYTES;
}

static uint8_t *extent_of(unsigned segment)
{
	uint8_t *extent = malloc(extent_bytes());

	sim_peek(e.sim, chain[segment].offset, extent, extent_bytes());
	return extent;
}

static void put(unsigned segment, uint8_t *extent)
{
	sim_poke(e.sim, chain[segment].offset, extent, extent_bytes());
	free(extent);
}

static void forge_crc(uint8_t *block, uint32_t *crc)
{
	*crc = crc32c(0, block + 12, FORMAT_UNIT_BYTES - 12);
}

/* As if it had been made there; but for its checksums, which nobody needs to open it. */
static void put_forged(unsigned segment, uint8_t *extent)
{
	struct frame_segment_le *header = (struct frame_segment_le *)extent;
	struct log_footer_le *footer = (struct log_footer_le *)(extent + extent_bytes() - FORMAT_UNIT_BYTES);

	header->offset = footer->offset = chain[segment].offset;
	footer->id = chain[segment].id;
	forge_crc(extent, &header->crc);
	if (segment != TAIL)
		forge_crc((uint8_t *)footer, &footer->crc);
	put(segment, extent);
}

/* ---- refused, by check too ---- */

static void refused(struct env *env, void *arg)
{
	const struct store_log_segment *named = arg;
	char place[32];

	assert_int_equal(env_open_store(env, false), 0);
	assert_true(env_check(env, false) > 0);
	int rc = quire_log_open(store_public(env->store), NAME, NULL, &env->log, &env->err);
	assert_true(rc == -EBADMSG || rc == -EUCLEAN);
	snprintf(place, sizeof(place), "at %llu", (unsigned long long)named->offset);
	if (strstr(env->err.text, place) == NULL)
		fail_msg("%s: does not name the one %s", env->err.text, place);
	assert_int_equal(env_close(env), 0);
}

static void test_the_first_segment_is_missing(void **state)
{
	put(0, calloc(1, extent_bytes()));
	env_run(&e, refused, &chain[0]);
}

static void test_a_middle_segment_is_missing(void **state)
{
	put(1, calloc(1, extent_bytes()));
	env_run(&e, refused, &chain[1]);
}

static void test_the_tail_is_missing(void **state)
{
	put(TAIL, calloc(1, extent_bytes()));
	env_run(&e, refused, &chain[TAIL]);
}

static void test_a_segment_in_anothers_place(void **state)
{
	put(1, extent_of(0));
	env_run(&e, refused, &chain[1]);
}

static void test_a_segment_in_the_place_of_the_tail(void **state)
{
	put(TAIL, extent_of(0));
	env_run(&e, refused, &chain[TAIL]);
}

static void test_two_segments_have_one_number(void **state)
{
	put_forged(1, extent_of(0));
	env_run(&e, refused, &chain[1]);
}

static void test_two_segments_have_changed_places(void **state)
{
	uint8_t *first = extent_of(0);

	put_forged(0, extent_of(1));
	put_forged(1, first);
	env_run(&e, refused, &chain[1]);
}

static void test_a_tail_has_the_number_of_an_older_segment(void **state)
{
	uint8_t *tail = extent_of(TAIL);
	struct frame_segment_le *header = (struct frame_segment_le *)tail;

	header->segment_no = 1;
	put_forged(TAIL, tail);
	env_run(&e, refused, &chain[TAIL]);
}

static void test_a_tail_begins_with_another_record(void **state)
{
	uint8_t *tail = extent_of(TAIL);
	struct frame_segment_le *header = (struct frame_segment_le *)tail;

	header->first_record_no++;
	put_forged(TAIL, tail);
	env_run(&e, refused, &chain[TAIL]);
}

/* ---- others are at it as well ---- */

static int make_and_open_another(void *arg, uint64_t done, uint64_t all)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT};
	struct quire_store *s = store_public(e.store);
	struct quire_log *log;

	assert_int_equal(quire_log_open(s, NAME, NULL, &log, NULL), 0);
	assert_int_equal(quire_log_close(log), 0);
	if (quire_log_create(s, "other", &o, NULL) == -EEXIST)
		assert_int_equal(quire_log_rm(s, "other", NULL), 0);
	++*(unsigned *)arg;
	return 0;
}

static int skip_catalogue(void *arg, uint64_t done, uint64_t all)
{
	/* While the catalogue is read nobody may change it. */
	return done > all ? make_and_open_another(arg, done, all) : 0;
}

static void checked(struct env *env, void *arg)
{
	unsigned n = 0;
	struct store_check how = {.progress = skip_catalogue, .arg = &n};

	assert_int_equal(env_open_store(env, false), 0);
	assert_int_equal(store_check(env->store, &how), 0);
	assert_true(n > 0);
	assert_int_equal(env_close(env), 0);
}

static void test_a_check_keeps_nobody_out_of_a_log(void **state)
{
	env_run(&e, checked, NULL);
}

static void damaged_while_open(struct env *env, void *arg)
{
	uint8_t byte;

	assert_int_equal(env_open(env), 0);
	assert_int_equal(env_check(env, true), 0);
	for (unsigned i = 1; i <= TAIL; i += TAIL - 1) { /* a sealed one, the tail */
		sim_peek(e.sim, chain[i].offset + 5000, &byte, 1);
		byte ^= 1;
		sim_poke(e.sim, chain[i].offset + 5000, &byte, 1);
		append_to(env, quire_log_visible(env->log) + 3, true);
		assert_int_equal(env_check(env, false), 1);
		sim_peek(e.sim, chain[i].offset + 5000, &byte, 1);
		byte ^= 1;
		sim_poke(e.sim, chain[i].offset + 5000, &byte, 1);
		assert_int_equal(env_check(env, true), 0);
	}
	assert_int_equal(env_close(env), 0);
}

static void test_a_check_finds_damage_of_a_log_that_is_open(void **state)
{
	env_run(&e, damaged_while_open, NULL);
}

/* ---- the catalogue ---- */

static struct {
	uint64_t at;   /* its segment */
	uint32_t last; /* its last record: that it was closed */
	uint32_t end;
} catalogue;

static void learn_catalogue(struct sim *image)
{
	struct superblock_le sb;
	struct frame_record_le r;

	sim_peek(image, 0, &sb, sizeof(sb));
	catalogue.at = sb.catalogue_first[0];
	catalogue.end = FRAME_BLOCK_BYTES;
	for (sim_peek(image, catalogue.at + catalogue.end, &r, sizeof(r)); r.salt != 0;
	     sim_peek(image, catalogue.at + catalogue.end, &r, sizeof(r))) {
		catalogue.last = catalogue.end;
		catalogue.end += (uint32_t)frame_bytes(r.len_bytes);
	}
	assert_true(catalogue.last > FRAME_BLOCK_BYTES);
}

static void look_with_catalogue(struct env *env, void *arg)
{
	uint32_t offset = *(const uint32_t *)arg;
	int rc = env_open_store(env, false);

	if ((rc < 0) != (offset < catalogue.last) || (rc < 0 && ((rc != -EBADMSG && rc != -EUCLEAN) || env->err.text[0] == 0)))
		fail_msg("byte %u of the catalogue: %d, %s", offset, rc, env->err.text);
	if (rc < 0)
		return;
	assert_int_equal(env_check(env, true), 0);
	assert_int_equal(quire_log_open(store_public(env->store), NAME, NULL, &env->log, NULL), 0);
	assert_int_equal(env_read_all(env, SALT), n_records);
	assert_int_equal(env_close(env), 0);
}

static void test_each_byte_of_the_catalogue(void **state)
{
	uint32_t step = (uint32_t)random_count(11, 1);
	struct sim *image = e.sim;
	uint8_t byte;

	learn_catalogue(image);
	for (uint32_t at = 0; at < catalogue.end + 64; at += at < 96 || at + 32 > catalogue.last ? 1 : at < 4096 ? 8 * step : step) {
		assert_int_equal(sim_clone(image, 1, &e.sim), 0);
		sim_peek(image, catalogue.at + at, &byte, 1);
		byte = (uint8_t)(byte ^ (1u << at % 8));
		sim_poke(e.sim, catalogue.at + at, &byte, 1);
		env_run(&e, look_with_catalogue, &at);
		sim_destroy(e.sim);
	}
	e.sim = image;
}

/* ---- libraries that know no logs ---- */

static uint32_t features(unsigned copy)
{
	struct superblock_le sb;

	sim_peek(e.sim, (uint64_t)copy * FORMAT_SUPERBLOCK_STEP, &sb, sizeof(sb));
	return sb.incompat;
}

static void no_log_yet(struct env *env, void *arg)
{
	struct store_media media = {{NULL}};
	struct store_config config = {.budget = &env->cache->budget, .service = env->loop, .seed = 3, .segment_bytes = SEGMENT};

	assert_int_equal(sim_open(env->sim, env->loop, &media.classes[0]), 0);
	assert_int_equal(store_format(&media, &config, &env->err), 0);
	device_close(media.classes[0]);
}

static void make_first(struct env *env, void *arg)
{
	struct quire_log_options o = {.size = sizeof(o), .segment_bytes = SEGMENT};

	if (env_open_store(env, false) < 0)
		return;
	(void)quire_log_create(store_public(env->store), NAME, &o, &env->err);
	assert_int_equal(env_close(env), 0);
}

static void look_for_first(struct env *env, void *arg)
{
	struct quire_log_info info;

	/* One copy may be newer than the other: opening sees to that. */
	assert_int_equal(env_open_store(env, false), 0);
	bool there = quire_log_find(store_public(env->store), NAME, &info) == 0;
	assert_true(!there || (features(0) == FORMAT_INCOMPAT_LOGS && features(1) == FORMAT_INCOMPAT_LOGS));
	assert_int_equal(features(0), features(1));
	*(bool *)arg = there;
	assert_int_equal(env_close(env), 0);
}

static void test_a_store_with_logs_says_so_before_it_has_one(void **state)
{
	static const struct sim_faults none = {.cut_ends_io = true};
	struct sim *fresh;
	bool there = false;

	sim_destroy(e.sim);
	assert_int_equal(sim_create(400 * FORMAT_UNIT_BYTES, 5, &none, &e.sim), 0);
	env_run(&e, no_log_yet, NULL);
	fresh = e.sim;
	for (uint64_t event = 0; !there; event++) {
		assert_int_equal(sim_clone(fresh, event, &e.sim), 0);
		assert_int_equal(features(0), 0);
		sim_cut_at(e.sim, event, event % 3);
		env_run(&e, make_first, NULL);
		sim_cut_at(e.sim, UINT64_MAX, 0);
		env_run(&e, look_for_first, &there);
		sim_destroy(e.sim);
		assert_true(event < 100);
	}
	e.sim = fresh;
}

static int set_up(void **state)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	record_max_len = 2000;
	env_init(&e, 5, 600, &none);
	env_run(&e, build, NULL);
	return 0;
}

static int tear_down(void **state)
{
	env_fini(&e);
	return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_the_first_segment_is_missing),
		T(test_a_middle_segment_is_missing),
		T(test_the_tail_is_missing),
		T(test_a_segment_in_anothers_place),
		T(test_a_segment_in_the_place_of_the_tail),
		T(test_two_segments_have_one_number),
		T(test_two_segments_have_changed_places),
		T(test_a_tail_has_the_number_of_an_older_segment),
		T(test_a_tail_begins_with_another_record),
		T(test_a_check_keeps_nobody_out_of_a_log),
		T(test_a_check_finds_damage_of_a_log_that_is_open),
		T(test_each_byte_of_the_catalogue),
		T(test_a_store_with_logs_says_so_before_it_has_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
