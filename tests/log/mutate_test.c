/* mutate_test.c - a log of two sealed segments, one that is full and not sealed, and a tail: one byte after the other of all of
 * them is changed. What lies at the byte says what must come of it:
 *
 *   sealed: page of records    check names the page; records on it can't be read, all others can
 *           checksums          check names them; no record of the segment can be read, all others can
 *           marks, footer      check names the footer; opening makes it anew, all can be read
 *   not sealed: first header   check names the segment: -EBADMSG, or -EUCLEAN where it is no header any more; opening makes it anew, all can be read.
 *                              Where it is another's, whole, opening names it too
 *           the journal's own  (the other header, NEXT, LINK) check says that there is something; opening makes it anew, all can be read
 *           record             check names it; it can't be read, all others can, and it is so for good
 *           the last group     it is torn from there on: nobody can tell, and nobody complains
 *   anything else              nothing
 *
 * and never are there other bytes than were appended. A sample; all with QUIRE_TEST_LONG. */
#include "log_env.h"

#include "../../src/journal/frame.h"
#include "../../src/store/logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SALT 5
#define N_SEGMENTS 5u /* the last is a spare */
#define FULL 2u
#define TAIL 3u
#define N_LAST 3u     /* records of the last group */
#define MAX_RECORDS 2000u
#define MAX_REGIONS 4000u

static struct env e;
static struct sim *initial;
static struct store_log_segment segments[N_SEGMENTS];
static uint64_t n_records;

enum kind { PAGE, SUMS, FOOTER, HEADER, OWN, RECORD, LAST_GROUP, NOTHING, N_KINDS };

/* Bytes of which what lies at them is one thing. */
static struct region {
	enum kind kind;
	unsigned segment;
	uint32_t from, to;
	uint32_t place;  /* that is to be named */
	uint64_t lsn;    /* RECORD: which; LAST_GROUP: the first that is lost */
	bool hidden;     /* FOOTER: it is none any more, and nobody missed it */
} regions[MAX_REGIONS];
static unsigned n_regions;

static struct record {
	unsigned segment;
	uint32_t from, to, mark; /* mark: where a walk to it may begin */
} records[MAX_RECORDS];

/* ---- the image ---- */

static void list_segments(struct env *env)
{
	struct store_log_info info;
	struct store_log *space;

	assert_int_equal(store_log_find(env->store, NAME, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	assert_int_equal(store_log_segments(space, segments, N_SEGMENTS), N_SEGMENTS);
	store_log_close(space);
}

static void build(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
	assert_int_equal(env_open(env), 0);
	while (quire_log_segments(env->log, NULL, 0) <= TAIL)
		assert_int_equal(env_append(env, SALT, n_records++, true), 0);
	/* As far as a spare is got. */
	struct quire_log_segment s[N_SEGMENTS];
	do {
		assert_int_equal(env_append(env, SALT, n_records++, true), 0);
		(void)quire_log_segments(env->log, s, N_SEGMENTS);
	} while (s[TAIL].len_bytes < SEGMENT / 8 * 7);
	for (unsigned i = 0; i < N_LAST; i++)
		assert_int_equal(env_append(env, SALT, n_records++, false), 0);
	assert_int_equal(quire_log_sync(env->log, n_records - 1, NULL), 0);
	assert_int_equal(quire_log_segments(env->log, NULL, 0), TAIL + 1);
	assert_int_equal(env_close_log(env), 0);
	list_segments(env);
	assert_int_equal(env_close(env), 0);
}

/* ---- what lies where ---- */

static uint32_t extent_bytes(void)
{
	return format_log_extent_units(SEGMENT) * FORMAT_UNIT_BYTES;
}

static void peek(unsigned segment, uint32_t offset, void *to, uint32_t n)
{
	sim_peek(initial, segments[segment].offset + offset, to, n);
}

static void region(enum kind kind, unsigned segment, uint32_t from, uint32_t to, uint32_t place)
{
	assert_true(n_regions < MAX_REGIONS);
	if (from < to)
		regions[n_regions++] = (struct region){.kind = kind, .segment = segment, .from = from, .to = to, .place = place};
}

/* Records, one after the other: fn of each; returns where they end. */
static uint32_t walk(unsigned segment, uint64_t *lsn, void (*fn)(unsigned segment, uint32_t from, uint32_t to, uint64_t lsn))
{
	struct frame_record_le r;
	uint32_t at = FRAME_BLOCK_BYTES;

	do {
		peek(segment, at, &r, sizeof(r));
		if (r.salt == 0)
			break;
		uint32_t to = at + (uint32_t)frame_bytes(r.len_bytes);
		fn(segment, at, to, *lsn);
		*lsn += r.type >= FRAME_FIRST_FOREIGN_TYPE;
		at = to;
	} while (r.type != FRAME_LINK && *lsn < n_records);
	return at;
}

static void note_record(unsigned segment, uint32_t from, uint32_t to, uint64_t lsn)
{
	struct frame_record_le r;
	struct record *before = lsn > 0 && records[lsn - 1].segment == segment ? &records[lsn - 1] : NULL;

	peek(segment, from, &r, sizeof(r));
	if (r.type < FRAME_FIRST_FOREIGN_TYPE)
		return;
	bool marked = before == NULL || from - before->mark >= format_log_stride(SEGMENT);
	records[lsn] = (struct record){.segment = segment, .from = from, .to = to, .mark = marked ? from : before->mark};
}

static void region_of_record(unsigned segment, uint32_t from, uint32_t to, uint64_t lsn)
{
	struct frame_record_le r;

	note_record(segment, from, to, lsn);
	peek(segment, from, &r, sizeof(r));
	if (r.type < FRAME_FIRST_FOREIGN_TYPE) {
		region(OWN, segment, from, to, 0);
		return;
	}
	region(segment == TAIL && lsn >= n_records - N_LAST ? LAST_GROUP : RECORD, segment, from, to, from);
	regions[n_regions - 1].lsn = lsn;
}

static void learn_sealed(unsigned segment, uint64_t *lsn)
{
	uint32_t end = walk(segment, lsn, note_record), pages_end = (end + 4095) & ~4095u, footer = extent_bytes() - 4096;
	struct log_footer_le le;

	for (uint32_t at = 0; at < pages_end; at += 4096)
		region(PAGE, segment, at, at + 4096, at);
	region(NOTHING, segment, pages_end, SEGMENT, 0);
	region(SUMS, segment, SEGMENT, SEGMENT + 4096, SEGMENT);
	peek(segment, footer, &le, sizeof(le));
	assert_memory_equal(le.magic, FORMAT_LOG_FOOTER_MAGIC, 8);
	uint32_t marks = SEGMENT + 4096, marks_end = marks + le.n_marks * (uint32_t)sizeof(struct log_mark_le);
	region(FOOTER, segment, marks, marks_end, footer);
	region(NOTHING, segment, marks_end, footer, 0);
	/* Whose it is: of the last one nobody then knows that it was sealed. */
	region(FOOTER, segment, footer, footer + 8, footer);
	regions[n_regions - 1].hidden = segment + 1 == FULL;
	region(FOOTER, segment, footer + 8, footer + 16, footer);
	region(FOOTER, segment, footer + 16, footer + 56, footer);
	regions[n_regions - 1].hidden = segment + 1 == FULL;
	region(FOOTER, segment, footer + 56, footer + 4096, footer);
}

static void learn(void)
{
	uint64_t lsn = 0;

	for (unsigned i = 0; i < FULL; i++)
		learn_sealed(i, &lsn);
	for (unsigned i = FULL; i <= TAIL; i++) {
		region(i == FULL ? HEADER : OWN, i, 0, FRAME_BLOCK_BYTES, 0);
		uint32_t end = walk(i, &lsn, region_of_record);
		region(NOTHING, i, end, extent_bytes(), 0);
	}
	region(NOTHING, TAIL + 1, 0, extent_bytes(), 0);
	assert_int_equal(lsn, n_records);
}

/* ---- what comes of it ---- */

struct look {
	const struct region *r;  /* NULL: nothing was changed */
	uint32_t offset;
	bool anothers;           /* what was put there is whole, and another segment's */
	unsigned n_found;
	int error;               /* of the findings, the first */
	uint64_t id, place;
	char text[160];          /* of what is wrong */
};

static void wrong(const struct look *l, const char *what, long long value)
{
	fprintf(stderr, "segment %u, offset %u (kind %d, %u to %u): %s: %lld; %s\n", l->r->segment, l->offset, l->r->kind, l->r->from,
	        l->r->to, what, value, e.err.text);
	abort();
}

static void hear(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	struct look *l = arg;

	if (l->n_found++ != 0)
		return;
	l->error = error;
	l->id = id;
	l->place = offset;
	snprintf(l->text, sizeof(l->text), "%s", text);
}

static void check(struct env *env, struct look *l, bool open)
{
	const struct region *r = l->r;
	struct store_check how = {.found = hear, .arg = l};
	bool mended = r->kind == FOOTER || r->kind == OWN || r->kind == HEADER;
	bool says = r->kind != NOTHING && r->kind != LAST_GROUP && !r->hidden && !(mended && open);

	l->n_found = 0;
	int64_t n = store_check(env->store, &how);
	if (n != says)
		wrong(l, open ? "findings while it is open" : "findings", n);
	if (says && (l->id != segments[r->segment].id || l->place != segments[r->segment].offset + r->place))
		wrong(l, "place found", (long long)l->place - (long long)segments[r->segment].offset);
	if (says && l->error != -EBADMSG && !(r->kind == HEADER && l->error == -EUCLEAN))
		wrong(l, "found", l->error);
}

static bool overlaps(uint32_t from, uint32_t to, uint32_t page)
{
	return from < page + 4096 && to > page;
}

/* Must it be readable: 1; must it not: -1; either: 0. */
static int readable(const struct region *r, uint64_t lsn)
{
	const struct record *record = &records[lsn];

	if (r->kind == RECORD)
		return lsn == r->lsn ? -1 : 1;
	if (record->segment != r->segment || (r->kind != PAGE && r->kind != SUMS))
		return 1;
	if (r->kind == SUMS || overlaps(record->from, record->to, r->place))
		return -1;
	return overlaps(record->mark, record->to, r->place) ? 0 : 1;
}

static void read_each(struct env *env, struct look *l, uint64_t n, bool back)
{
	struct quire_log_cursor *c;
	struct quire_log_record record;

	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	if (back)
		assert_int_equal(quire_log_seek(c, UINT64_MAX), 0);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t lsn = back ? n - 1 - i : i;
		int64_t rc = back ? quire_log_prev(c, &record, NULL) : quire_log_next(c, &record, NULL);
		int must = readable(l->r, lsn);
		if (rc == 1 && (record.lsn != lsn || !record_is(SALT, &record)))
			wrong(l, "other bytes than were appended", (long long)lsn);
		if ((rc == 1 && must < 0) || (rc != 1 && (rc != -EBADMSG || must > 0)))
			wrong(l, back ? "read back" : "read", rc);
		/* It stays where the damage is. */
		if (rc < 0 && quire_log_cursor_lsn(c) != (back ? lsn + 1 : lsn))
			wrong(l, "the cursor has moved", (long long)quire_log_cursor_lsn(c));
		if (rc < 0)
			assert_int_equal(quire_log_seek(c, back ? lsn : lsn + 1), 0);
	}
	assert_int_equal(back ? quire_log_prev(c, &record, NULL) : quire_log_next(c, &record, NULL), 0);
	quire_log_cursor_close(c);
}

/* The segment is named. */
static void judge_refusal(struct look *l, int rc)
{
	const struct region *r = l->r;
	char segment[32];

	if (r->kind != HEADER || !l->anothers || rc != -EUCLEAN)
		wrong(l, "open", rc);
	snprintf(segment, sizeof(segment), "at %llu", (unsigned long long)segments[r->segment].offset);
	if (strstr(e.err.text, segment) == NULL)
		wrong(l, "the error names another place", 0);
}

static void open_again(struct env *env, struct look *l, uint64_t n)
{
	assert_int_equal(env_open_store(env, true), 0);
	check(env, l, true);
	int rc = quire_log_open(store_public(env->store), NAME, NULL, &env->log, &env->err);
	if (rc < 0 || quire_log_visible(env->log) != n)
		wrong(l, "opened again", rc);
	read_each(env, l, n, false);
	assert_int_equal(env_close(env), 0);
}

static void look(struct env *env, void *arg)
{
	struct look *l = arg;

	int rc = env_open_store(env, l->offset % 3 == 0);
	bool read_only = l->offset % 3 == 0;
	if (rc < 0)
		wrong(l, "opening the store", rc);
	check(env, l, false);
	rc = quire_log_open(store_public(env->store), NAME, NULL, &env->log, &env->err);
	if (rc < 0) {
		judge_refusal(l, rc);
		(void)env_close(env);
		return;
	}
	if (l->r->kind == HEADER && l->anothers)
		wrong(l, "open", rc);
	uint64_t n = quire_log_visible(env->log);
	if (n != (l->r->kind == LAST_GROUP ? l->r->lsn : n_records))
		wrong(l, "records", (long long)n);
	read_each(env, l, n, false);
	read_each(env, l, n, true);
	/* What can be mended is, and stays so. */
	if (!read_only)
		check(env, l, true);
	assert_int_equal(env_close(env), 0);
	if (!read_only && (l->r->kind == RECORD || l->r->kind == OWN || l->r->kind == HEADER))
		open_again(env, l, n);
}

/* False: it is that already. */
static bool try(const struct region *r, uint32_t offset, const uint8_t *bytes, uint32_t n, bool anothers)
{
	struct look l = {.r = r, .offset = offset, .anothers = anothers};
	uint8_t *was = malloc(n);

	peek(r->segment, offset, was, n);
	bool same = memcmp(was, bytes, n) == 0;
	free(was);
	if (same)
		return false;
	assert_int_equal(sim_clone(initial, 1, &e.sim), 0);
	sim_poke(e.sim, segments[r->segment].offset + offset, bytes, n);
	env_run(&e, look, &l);
	sim_destroy(e.sim);
	e.sim = NULL;
	return true;
}

static bool try_byte(const struct region *r, uint32_t offset, unsigned how)
{
	uint8_t byte = how == 1 ? 0 : 0xff;

	if (how == 0) {
		peek(r->segment, offset, &byte, 1);
		byte = (uint8_t)(byte ^ (1u << offset % 8));
	}
	return try(r, offset, &byte, 1, false);
}

/* All of it: zeros; the second half only; noise; what is at that place of another segment. */
static bool try_whole(const struct region *r, unsigned how)
{
	uint32_t n = r->to - r->from, half = n / 2 & ~7u;
	uint8_t *bytes = malloc(n);

	peek(how == 3 ? r->segment == 0 : r->segment, r->from, bytes, n);
	if (how < 2)
		memset(bytes + (how == 1 ? half : 0), 0, n - (how == 1 ? half : 0));
	else if (how == 2)
		memset(bytes, 0xa5, n);
	bool changed = try(r, r->from, bytes, n, how == 3);
	free(bytes);
	return changed;
}

/* ---- the tests ---- */

static void tell(const uint64_t n[N_KINDS], double begin_s)
{
	print_message("%llu in sealed pages, %llu in their checksums, %llu in marks and footers; %llu in headers, %llu in records, "
	              "%llu in the last group; %llu elsewhere; %.1f s\n",
	              (unsigned long long)n[PAGE], (unsigned long long)n[SUMS], (unsigned long long)n[FOOTER],
	              (unsigned long long)n[HEADER], (unsigned long long)n[RECORD], (unsigned long long)n[LAST_GROUP],
	              (unsigned long long)n[NOTHING], seconds_now() - begin_s);
	for (unsigned i = 0; i < N_KINDS; i++)
		assert_true(n[i] > 0);
}

/* In one of the three ways, another from seed to seed. Of what means nothing a sample will do. */
static void test_each_byte(void **state)
{
	uint64_t seed = random_seed(), n[N_KINDS] = {0};
	double begin_s = seconds_now();

	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < n_regions; i++) {
		const struct region *r = &regions[i];
		for (uint32_t at = r->from; at < r->to; at += r->kind == NOTHING ? 61 : 1)
			n[r->kind] += try_byte(r, at, (unsigned)((at + seed) % 3));
	}
	tell(n, begin_s);
}

static void test_some_bytes(void **state)
{
	uint64_t seed = random_seed(), random = seed, n[N_KINDS] = {0};
	double begin_s = seconds_now();

	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < n_regions; i++) {
		const struct region *r = &regions[i];
		/* Every fifth record, its header among them; of the rest each region's ends, and some between. */
		if (r->kind == RECORD && random_next(&random) % 5 != 0)
			continue;
		uint32_t len = r->to - r->from, first = r->kind == RECORD && len > 32 ? 32 : len;
		n[r->kind] += try_byte(r, r->from + (uint32_t)(random_next(&random) % first), i % 3);
		n[r->kind] += try_byte(r, r->from, 0);
		n[r->kind] += try_byte(r, r->to - 1, 0);
		for (unsigned k = 0; k < 4; k++)
			n[r->kind] += try_byte(r, r->from + (uint32_t)(random_next(&random) % len), k % 3);
	}
	tell(n, begin_s);
}

/* Zeroed, torn, another's, anything: records and headers in every position, the last record, footers, checksums. */
static void test_everything_damaged_as_a_whole(void **state)
{
	uint64_t seed = random_seed(), random = seed, n[N_KINDS] = {0};
	uint64_t one_in = random_count(getenv("QUIRE_SANITIZED") != NULL ? 24 : 8, 1);
	double begin_s = seconds_now();

	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < n_regions; i++)
		for (unsigned how = 0; how < 4; how++)
			if (regions[i].kind != RECORD || random_next(&random) % one_in == 0)
				n[regions[i].kind] += try_whole(&regions[i], how);
	tell(n, begin_s);
}

static int begin(void **state)
{
	record_max_len = 2000;
	env_init(&e, 5, 600, NULL);
	env_run(&e, build, NULL);
	initial = e.sim;
	e.sim = NULL;
	/* Sealed it was; a crash may come before that. */
	static const uint8_t zeros[4096];
	sim_poke(initial, segments[FULL].offset + extent_bytes() - 4096, zeros, sizeof(zeros));
	learn();
	return 0;
}

static int end(void **state)
{
	sim_destroy(initial);
	env_fini(&e);
	return 0;
}

int main(void)
{
	const bool all = getenv("QUIRE_TEST_LONG") != NULL;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_damaged_as_a_whole),
		{all ? "test_each_byte" : "test_some_bytes", all ? test_each_byte : test_some_bytes, NULL, NULL, NULL},
	};

	return cmocka_run_group_tests(tests, begin, end);
}
