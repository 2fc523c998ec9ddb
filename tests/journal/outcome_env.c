/* outcome_env.c - see outcome_env.h. */
#include "outcome_env.h"

uint64_t first;
struct journal_recovery recovery;
uint8_t image[SEGMENT];

static void append_all(struct journal *j, struct step *s)
{
	uint64_t no = 0;

	for (unsigned i = 0; i < s->n && s->rc == 0; i++) {
		s->rc = record_append(j, s->ids[i], &no);
		if (s->rc == 0 && s->sync_each)
			s->rc = journal_sync(j, no, NULL);
	}
	for (uint32_t id = s->fill_from; s->n_segments != 0 && s->rc == 0 && e.n_gets < s->n_segments; id++)
		s->rc = record_append(j, id, &no);
	if (s->rc == 0 && (s->n != 0 || s->n_segments != 0))
		s->rc = journal_sync(j, no, NULL);
}

void run_begin(void *arg)
{
	struct step *s = arg;
	struct journal_options o = env_options(&e);
	struct journal *j;

	s->rc = journal_create(&o, first, &j, NULL);
	assert_int_equal(s->rc, 0);
	append_all(j, s);
	journal_close(j);
}

void run_open(void *arg)
{
	struct step *s = arg;
	struct journal_options o = env_options(&e);
	struct journal *j;

	seen.n = seen.n_wrong = 0;
	s->rc = journal_open(&o, first, s->read_only, seen_add, &seen, &recovery, &j, NULL);
	if (s->rc < 0)
		return;
	append_all(j, s);
	journal_close(j);
}

void forget_log(void)
{
	env_forget(&e);
	e.o.log_no++;
	e.n_gets = 0;
	first = env_extent(&e);
}

void begin_with(unsigned n, bool sync_each)
{
	struct step s = {.n = n, .sync_each = sync_each};

	for (unsigned i = 0; i < n; i++)
		s.ids[i] = i;
	env_run(&e, run_begin, &s);
	assert_int_equal(s.rc, 0);
}

int look(void)
{
	struct step s = {.read_only = true};

	env_run(&e, run_open, &s);
	assert_int_equal(seen.n_wrong, 0);
	return s.rc;
}

int open_and_append(unsigned n, uint32_t from)
{
	struct step s = {.n = n};

	for (unsigned i = 0; i < n; i++)
		s.ids[i] = from + i;
	env_run(&e, run_open, &s);
	return s.rc;
}

uint64_t place_of(unsigned record)
{
	return seen.places[record].segment + seen.places[record].offset;
}

void damage(uint64_t at)
{
	uint8_t byte;

	sim_peek(e.sim, at, &byte, 1);
	byte ^= 0x10;
	sim_poke(e.sim, at, &byte, 1);
}

void zero(uint64_t at, uint32_t n_bytes)
{
	static const uint8_t zeros[SEGMENT];

	sim_poke(e.sim, at, zeros, n_bytes);
}

void expect_end(enum journal_outcome end, uint64_t n, uint64_t segment, uint32_t offset)
{
	int rc = look();

	assert_int_equal(rc, end == JOURNAL_CORRUPT ? -EBADMSG : 0);
	assert_int_equal(recovery.end, end);
	assert_int_equal(seen.n, n);
	assert_int_equal(recovery.n_records, n);
	assert_int_equal(recovery.at.segment, segment);
	assert_int_equal(recovery.at.offset, offset);
	assert_int_equal(recovery.at.record_no, n);
}

uint32_t find_own(uint64_t segment, uint16_t type)
{
	struct frame_segment s;
	struct frame_record r;

	sim_peek(e.sim, segment, image, sizeof(image));
	assert_int_equal(frame_segment_decode(&e.o, segment, (void *)image, &s, NULL), 0);
	for (uint32_t at = DEVICE_BLOCK_BYTES; at + 32 <= SEGMENT; at += 8)
		if (frame_record_decode(&s, at, SEGMENT, image + at, &r) == FRAME_VALID && r.type == type)
			return at;
	fail_msg("no record of type %u", type);
	return 0;
}

int set_up(void **state)
{
	(void)state;
	fixture_make(16, 7, NULL);
	first = env_extent(&e);
	return 0;
}
