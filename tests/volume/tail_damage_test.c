/* Damage behind the last checkpoint: each block of the log in turn (each fourth of them, if there is not more time), on a medium whose process
 * died. The group opens; who reads the block gets an error, and nobody else; what a head said is told by the next one. So it is of several heads
 * in a row, alone or with all that is between them. What the journal itself has written is made again. */
#include "volume_env.h"

#include "../../src/journal/frame.h"
#include "../../src/volume/volume_format.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_BLOCKS 24u
#define N_NAMES 4u

static const struct sim_faults dying = {.cut_ends_io = true};
static const char *const names[N_NAMES] = {"a", "a@1", "c", "z"};
/* What each block of each holds; of z, which is written last, nothing is asked: its end leaves no witness. */
static uint64_t model[N_NAMES - 1][N_BLOCKS];

struct damage {
	struct sim *medium;  /* as the process left it */
	uint64_t unit;
	unsigned at;         /* byte that is changed */
	bool is_head;
	unsigned most_bad;   /* blocks of a volume that may be damaged */
	bool refused;        /* it is to be */
	struct sim *later;   /* as it is when it was opened once, and the process died again */
	unsigned n_tried[2]; /* data, heads */
	unsigned n_bad;      /* blocks that could not be read, the last time */
	unsigned n_were_bad, n_found; /* tries: some could not be read; and a check found that, as they were sealed */
};

/* One request, of n blocks. */
static void write_each(struct env *e, unsigned which, uint64_t first, unsigned n, uint64_t what)
{
	struct quire_volume *v = open_volume(e, names[which]);
	uint8_t *bytes = malloc(n * BLOCK);
	struct iovec iov = {bytes, n * BLOCK};

	for (unsigned i = 0; i < n; i++) {
		fill(bytes + i * BLOCK, BLOCK, what + i);
		if (which < N_NAMES - 1)
			model[which][first + i] = what + i;
	}
	assert_int_equal(quire_volume_write(v, first * BLOCK, &iov, 1, QUIRE_VOLUME_FUA, NULL), 0);
	quire_volume_close(v);
	free(bytes);
}

static void make(struct env *e, void *arg)
{
	struct damage *d = arg;
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = VOLUME_BYTES};

	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "z", &o), 0);
	write_each(e, 0, 0, 8, 100);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	write_each(e, 0, 4, 1, 200);
	write_each(e, 0, 5, 7, 210);
	assert_int_equal(quire_volume_snapshot(e->volumes, "a", "a@1"), 0);
	memcpy(model[1], model[0], sizeof(model[1]));
	write_each(e, 0, 6, 1, 300);
	assert_int_equal(quire_volume_clone(e->volumes, "a@1", "c"), 0);
	memcpy(model[2], model[1], sizeof(model[2]));
	for (unsigned i = 0; i < 12; i++) { /* so that there is more than one segment */
		write_each(e, 0, 12, 1, 400 + i);
		write_each(e, 2, i, 2, 500 + 2 * i);
	}
	struct quire_volume *v = open_volume(e, "c");
	assert_int_equal(quire_volume_discard(v, 3 * BLOCK, BLOCK, QUIRE_VOLUME_FUA, NULL), 0);
	quire_volume_close(v);
	model[2][3] = 0;
	write_each(e, 3, 0, 1, 600);
	write_each(e, 3, 1, 1, 601);
	assert_int_equal(sim_clone(e->sim, 9, &d->medium), 0);
	assert_int_equal(env_close(e), 0);
}

static void make_medium(struct damage *d)
{
	struct env e;

	memset(model, 0, sizeof(model));
	env_init(&e, 21, ENV_UNITS, &dying);
	env_run(&e, make, d);
	env_fini(&e);
}

/* ---- looking ---- */

static void read_all(struct env *e, struct damage *d)
{
	uint8_t block[BLOCK];
	struct iovec iov = {block, BLOCK};

	d->n_bad = 0;
	for (unsigned i = 0; i < N_NAMES - 1; i++) {
		struct quire_volume *v = open_volume(e, names[i]);
		int64_t n_bad = 0;
		for (uint64_t k = 0; k < N_BLOCKS; k++) {
			int rc = quire_volume_read(v, k * BLOCK, &iov, 1, NULL);
			assert_true(rc == 0 || rc == -EBADMSG);
			if (rc == 0)
				assert_true(holds(v, k * BLOCK, BLOCK, model[i][k]));
			n_bad += rc < 0;
		}
		assert_true(n_bad <= d->most_bad);
		assert_int_equal(quire_volume_scrub(v, NULL), n_bad * BLOCK);
		d->n_bad += (unsigned)n_bad;
		quire_volume_close(v);
	}
}

/* Whose block it was may have been written again since, so a block of data is one that somebody has, or nobody. */
static void try_one(struct env *e, void *arg)
{
	struct damage *d = arg;
	int rc = env_open(e);

	if (rc < 0)
		print_message("  unit %llu, byte %u: %s\n", (unsigned long long)d->unit, d->at, e->err.text);
	assert_int_equal(rc, 0);
	read_all(e, d);
	unsigned n_bad = d->n_bad;
	assert_true(!d->is_head || n_bad == 0);
	d->n_were_bad += n_bad > 0;
	/* Opened again, and when it was sealed, it is the same. */
	assert_int_equal(env_close(e), 0);
	assert_int_equal(env_open(e), 0);
	assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
	read_all(e, d);
	assert_int_equal(d->n_bad, n_bad);
	assert_int_equal(env_close(e), 0);
	assert_int_equal(env_open(e), 0);
	read_all(e, d);
	assert_int_equal(d->n_bad, n_bad);
	d->n_found += n_bad > 0 && env_check(e, false) > 0;
	/* It is whole again when it is written again. */
	if (n_bad > 0) {
		struct quire_volume *v = open_volume(e, "a");
		for (uint64_t k = 0; k < N_BLOCKS; k++)
			assert_int_equal(put(v, k * BLOCK, BLOCK, 7, 0), 0);
		assert_true(holds(v, 0, BLOCK, 7));
		quire_volume_close(v);
	}
	assert_int_equal(env_close(e), 0);
}

static bool is_data(const uint8_t *block)
{
	uint64_t want;

	for (uint64_t what = 200; what < 600; what++) {
		fill((uint8_t *)&want, sizeof(want), what);
		if (memcmp(block, &want, sizeof(want)) == 0)
			return true;
	}
	return false;
}

/* Of a record of the group's, but for the last: those of z. */
static bool is_head(const uint8_t *block)
{
	struct frame_record_le le;
	struct data_le data;

	memcpy(&le, block, sizeof(le));
	memcpy(&data, block + sizeof(le), sizeof(data));
	return le.salt != 0 && (le16toh(le.type) == VOLUME_DATA || le16toh(le.type) == VOLUME_TABLE) && le16toh(le.flags) <= 1 &&
	       le32toh(le.len_bytes) % BLOCK == VOLUME_HEAD_BYTES && le32toh(le.len_bytes) < (1u << 20);
}

/* Each which of what could be damaged is. */
static unsigned one_of(void)
{
	return getenv("QUIRE_TEST_LONG") != NULL ? 1 : getenv("QUIRE_SANITIZED") != NULL ? 9 : 4;
}

static void damage_each(struct damage *d, bool heads, unsigned at)
{
	uint8_t block[BLOCK];
	unsigned n_heads = 0, k = 0, n = 0, step = one_of();

	for (d->unit = 0; d->unit < ENV_UNITS; d->unit++) {
		sim_peek(d->medium, d->unit * BLOCK, block, BLOCK);
		n_heads += is_head(block);
	}
	for (d->unit = 0; d->unit < ENV_UNITS; d->unit++) {
		struct env e;
		sim_peek(d->medium, d->unit * BLOCK, block, BLOCK);
		d->is_head = is_head(block);
		if (d->is_head ? !heads : heads || !is_data(block))
			continue;
		if (d->is_head && ++k == n_heads)
			continue; /* the very last record */
		if (n++ % step != 0)
			continue;
		env_init(&e, 1, ENV_UNITS, &dying);
		sim_destroy(e.sim);
		assert_int_equal(sim_clone(d->medium, 1, &e.sim), 0);
		block[at] ^= 4;
		sim_poke(e.sim, d->unit * BLOCK, block, BLOCK);
		d->at = at;
		d->most_bad = 1;
		env_run(&e, try_one, d);
		env_fini(&e);
		d->n_tried[heads]++;
	}
}

static void run(bool heads, unsigned at)
{
	struct damage d = {.medium = NULL};

	make_medium(&d);
	damage_each(&d, heads, at);
	assert_true(d.n_tried[heads] > 3);
	assert_true(heads || (d.n_were_bad > 0 && d.n_found > 0));
	sim_destroy(d.medium);
}

/* ---- several heads in a row ---- */

#define MOST_HEADS 64u

struct record {
	uint64_t unit, order; /* as in the chain */
};

struct heads {
	struct record all[MOST_HEADS], nexts[MOST_HEADS], links[MOST_HEADS]; /* nexts: of the journal's own; links: the one behind each, or unit 0 */
	unsigned n, n_nexts;
};

static int compare(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	return (x->order > y->order) - (x->order < y->order);
}

static void find_heads(const struct damage *d, struct heads *h)
{
	uint8_t block[BLOCK];
	uint64_t segment_no = 0;

	*h = (struct heads){.n = 0};
	for (uint64_t unit = 0; unit < ENV_UNITS; unit++) {
		struct frame_segment_le segment;
		struct frame_record_le le;
		sim_peek(d->medium, unit * BLOCK, block, BLOCK);
		memcpy(&segment, block, sizeof(segment));
		memcpy(&le, block, sizeof(le));
		if (memcmp(segment.magic, "QuireSeg", 8) == 0)
			segment_no = le64toh(segment.segment_no);
		struct record r = {.unit = unit, .order = segment_no << 32 | unit};
		assert_true(h->n < MOST_HEADS && h->n_nexts < MOST_HEADS);
		if (is_head(block))
			h->all[h->n++] = r;
		else if (le.salt != 0 && le16toh(le.type) == FRAME_NEXT && le32toh(le.len_bytes) == VOLUME_HEAD_BYTES)
			h->nexts[h->n_nexts++] = r;
		else if (le.salt != 0 && le16toh(le.type) == FRAME_LINK && le.flags == 0 && le.len_bytes == 0 && h->n_nexts > 0)
			h->links[h->n_nexts - 1] = r;
	}
	qsort(h->all, h->n, sizeof(h->all[0]), compare);
}

static bool has_next_between(const struct heads *h, const struct record *a, const struct record *b)
{
	for (unsigned i = 0; i < h->n_nexts; i++)
		if (h->nexts[i].order > a->order && h->nexts[i].order < b->order)
			return true;
	return false;
}

static void try_run(struct env *e, void *arg)
{
	struct damage *d = arg;
	int rc = env_open(e);

	if (d->refused) {
		assert_int_equal(rc, -EBADMSG);
		assert_non_null(strstr(e->err.text, "what it said is nowhere else"));
		return;
	}
	if (rc < 0)
		print_message("  unit %llu, byte %u: %s\n", (unsigned long long)d->unit, d->at, e->err.text);
	assert_int_equal(rc, 0);
	read_all(e, d);
	assert_int_equal(sim_clone(e->sim, 9, &d->later), 0);
	assert_int_equal(env_close(e), 0);
}

/* From one head to the last of n, all there is; or a byte of each of them. */
static void damage_run(struct damage *d, struct sim *sim, const struct record *heads, unsigned n, bool all)
{
	uint8_t block[BLOCK];

	d->most_bad = 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t end = all && i < n - 1 ? heads[i + 1].unit : heads[i].unit + 1;
		for (uint64_t unit = heads[i].unit; unit < end; unit++) {
			sim_peek(sim, unit * BLOCK, block, BLOCK);
			d->most_bad += unit > heads[i].unit;
			if (all)
				memset(block, 0x33, sizeof(block));
			else
				block[d->at] ^= 4;
			sim_poke(sim, unit * BLOCK, block, BLOCK);
		}
	}
}

static void try_damaged(struct damage *d, const struct record *heads, unsigned n, bool all)
{
	struct env e;

	d->unit = heads[0].unit;
	d->later = NULL;
	for (unsigned life = 0; life < 2 && (life == 0 || !d->refused); life++) {
		env_init(&e, 1, ENV_UNITS, &dying);
		sim_destroy(e.sim);
		if (life == 0) {
			assert_int_equal(sim_clone(d->medium, 1, &e.sim), 0);
			damage_run(d, e.sim, heads, n, all);
			env_run(&e, try_run, d);
		} else {
			e.sim = d->later;
			env_run(&e, try_one, d);
		}
		env_fini(&e);
	}
	d->n_tried[1]++;
}

/* The very last bytes of a head say where what it tells of the head before it begins, and of what type that was; its checksum does not cover
 * them. So they are not believed where what they lead to isn't as long as they say. */
static void try_misled(struct env *e, void *arg)
{
	struct damage *d = arg;
	int rc = env_open(e);

	d->n_tried[1]++;
	if (rc < 0) {
		assert_true(rc == -EBADMSG || rc == -EUCLEAN);
		return;
	}
	read_all(e, d);
	assert_int_equal(env_close(e), 0);
}

static void a_head_that_misleads_is_not_believed(void **state)
{
	const unsigned n_bits = 8 * (sizeof(struct head_tail_le) - offsetof(struct head_tail_le, type_before));
	const unsigned step = one_of() | 1; /* odd: each bit has its turn */
	struct damage d = {.most_bad = 0};
	uint8_t block[BLOCK];
	struct heads h;
	struct env e;

	(void)state;
	make_medium(&d);
	find_heads(&d, &h);
	for (unsigned i = 0; i < (h.n - 2) * n_bits; i += step) {
		const struct record *lost = &h.all[i / n_bits];
		unsigned bit = i % n_bits;
		env_init(&e, 1, ENV_UNITS, &dying);
		sim_destroy(e.sim);
		assert_int_equal(sim_clone(d.medium, 1, &e.sim), 0);
		memset(block, 0, sizeof(block));
		sim_poke(e.sim, lost[0].unit * BLOCK, block, BLOCK);
		sim_peek(e.sim, lost[1].unit * BLOCK, block, BLOCK);
		block[BLOCK - n_bits / 8 + bit / 8] ^= (uint8_t)(1u << bit % 8);
		sim_poke(e.sim, lost[1].unit * BLOCK, block, BLOCK);
		env_run(&e, try_misled, &d);
		env_fini(&e);
	}
	assert_true(d.n_tried[1] > 20);
	sim_destroy(d.medium);
}

/* Each n heads in a row but the last ones. Of z's two, with which the log ends, the first is missed if the header of the last one is there to
 * say that it was durable; else nobody misses them. */
static void run_of_heads(unsigned n, unsigned at, bool all)
{
	unsigned step = one_of(), n_refused = 0;
	struct damage d = {.at = at};
	struct heads h;

	make_medium(&d);
	find_heads(&d, &h);
	assert_true(h.n > 20 && h.n_nexts > 1);
	for (unsigned i = 0; i + n <= h.n; i++) {
		bool is_end = i + n == h.n, next = has_next_between(&h, &h.all[i], &h.all[i + n - 1]);
		bool crosses = (h.all[i].order ^ h.all[i + n - 1].order) >> 32 != 0;
		if ((is_end && n > 2) || (all && (crosses || is_end)))
			continue;
		d.refused = is_end ? at >= JOURNAL_RECORD_HEADER_BYTES : all && next;
		d.is_head = !all;
		if (i % step != 0 && !is_end && !(d.refused && n_refused == 0))
			continue;
		n_refused += d.refused;
		try_damaged(&d, &h.all[i], n, all);
	}
	assert_true(!all || d.n_were_bad > 0);
	assert_true(d.n_tried[1] > 3 && (n_refused > 0) == (all || at >= JOURNAL_RECORD_HEADER_BYTES));
	sim_destroy(d.medium);
}

/* Each NEXT: a byte of its header, or of what it says, and the same of the LINK behind it; or all of it, alone. */
static void run_of_nexts(bool link_too, bool sealed)
{
	enum { N_WAYS = 5 };
	static const unsigned bytes[N_WAYS] = {0, 0, 4, 14, JOURNAL_RECORD_HEADER_BYTES};
	struct damage d = {.is_head = true};
	struct heads h;

	make_medium(&d);
	if (!sealed)
		assert_true(unseal(d.medium, ENV_UNITS) > 2);
	find_heads(&d, &h);
	for (unsigned i = 0; i < h.n_nexts * N_WAYS; i++) {
		struct record both[2] = {h.nexts[i / N_WAYS], h.links[i / N_WAYS]};
		d.at = bytes[i % N_WAYS];
		if (!link_too || (i % N_WAYS != 0 && both[1].unit != 0))
			try_damaged(&d, both, 1 + link_too, i % N_WAYS == 0);
	}
	assert_true(d.n_tried[1] > 3);
	sim_destroy(d.medium);
}

static void a_next_is_made_again(void **state)
{
	(void)state;
	run_of_nexts(false, true);
	run_of_nexts(false, false);
}

static void so_is_a_next_with_the_link_behind_it(void **state)
{
	(void)state;
	run_of_nexts(true, true);
	run_of_nexts(true, false);
}

static void two_heads_in_a_row_are_told_by_the_next(void **state)
{
	(void)state;
	run_of_heads(2, 2000, false);
}

static void so_are_three_whose_headers_are_damaged(void **state)
{
	(void)state;
	run_of_heads(3, 14, false);
}

static void of_a_stretch_that_is_gone_blocks_are_lost_and_nothing_else(void **state)
{
	(void)state;
	run_of_heads(3, 0, true);
}

static void a_block_of_data_is_an_error_where_it_is(void **state)
{
	(void)state;
	run(false, 2000);
}

static void what_a_head_said_is_in_the_next(void **state)
{
	(void)state;
	run(true, 2000);
}

static void so_is_what_stood_behind_a_header_that_is_damaged(void **state)
{
	(void)state;
	run(true, 14);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_of_data_is_an_error_where_it_is),
		cmocka_unit_test(what_a_head_said_is_in_the_next),
		cmocka_unit_test(so_is_what_stood_behind_a_header_that_is_damaged),
		cmocka_unit_test(two_heads_in_a_row_are_told_by_the_next),
		cmocka_unit_test(so_are_three_whose_headers_are_damaged),
		cmocka_unit_test(of_a_stretch_that_is_gone_blocks_are_lost_and_nothing_else),
		cmocka_unit_test(a_head_that_misleads_is_not_believed),
		cmocka_unit_test(a_next_is_made_again),
		cmocka_unit_test(so_is_a_next_with_the_link_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
