/* damage_test.c - a corpus of damaged images: each structure of a store, each region of it, is flipped, zeroed, written over, cut off, laid
 * over with another block, exchanged with one. Each image opens, is repaired, or is refused with a reason; never a crash, a
 * hang, a wild allocation (under AddressSanitizer none of over 256 MiB), nor a byte that was not written.
 *
 * Of each image, where it opens:
 *   - what is read is right, an error, or, where the end of a chain of records was hit, as it was before;
 *   - if a check finds nothing, all of it is right (or as it was);
 *   - a plan of a repair writes nothing;
 *   - after the repair everything that could be read reads the same, a second one finds nothing to rebuild, and the store takes writes.
 *
 * Image i depends on i alone: QUIRE_TEST_SEED=I QUIRE_TEST_COUNT=1 repeats it. QUIRE_TEST_LONG: ten thousand, and more.
 */
#include "corpus.h"

#include "../../src/store/format.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK FORMAT_UNIT_BYTES
#define HANGS_S 600u

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "max_allocation_size_mb=256";
}

enum blow { BLOW_FLIP, BLOW_BYTE, BLOW_ZEROS, BLOW_NOISE, BLOW_CUT_OFF, BLOW_DUPLICATE, BLOW_SWAP, N_BLOWS };

struct image {
	struct corpus *corpus;
	uint64_t no, random;
	enum place_kind kind;
	bool hits_end, hits_volumes; /* of any place that was hit */
	bool refused;
	int64_t n_found;
	unsigned n_rebuilt, n_reopen, n_lost; /* by the plan */
	struct view before, after;
};

static struct {
	struct corpus corpus;
	struct place places[CORPUS_MOST_PLACES];
	unsigned n_places;
	unsigned n_images[PLACE_N_KINDS], n_refused[PLACE_N_KINDS], n_rebuilt[PLACE_N_KINDS], n_lost[PLACE_N_KINDS], n_unnoticed[PLACE_N_KINDS];
	unsigned n_blows[N_BLOWS];
	uint64_t trying; /* 1 + which image; 0: none */
} all;

/* ---- blows ---- */

static void note(struct image *m, unsigned class_no, uint64_t at, uint64_t n)
{
	for (uint64_t byte = at; byte < at + n; byte = (byte / BLOCK + 1) * BLOCK) {
		const struct place *p = corpus_place_at(all.places, all.n_places, class_no, byte);
		m->hits_end |= p != NULL && p->is_end;
		m->hits_volumes |= p != NULL && p->is_volumes;
	}
}

static void put(struct image *m, unsigned class_no, uint64_t at, const void *bytes, uint64_t n)
{
	note(m, class_no, at, n);
	sim_poke(*corpus_sim(m->corpus, class_no), at, bytes, n);
}

static bool is_empty(struct image *m, unsigned class_no, uint64_t at)
{
	static const uint8_t zeros[BLOCK];
	uint8_t block[BLOCK];

	sim_peek(*corpus_sim(m->corpus, class_no), at & ~(uint64_t)(BLOCK - 1), block, BLOCK);
	return memcmp(block, zeros, BLOCK) == 0;
}

/* A place of that kind; the fields at its beginning as often as all the rest, and of that rather what was written. */
static const struct place *choose(struct image *m, enum place_kind kind, uint64_t *ret_at)
{
	const struct place *found = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < all.n_places; i++)
		n += all.places[i].kind == kind;
	assert_true(n > 0);
	n = (unsigned)(random_next(&m->random) % n);
	for (unsigned i = 0; i < all.n_places && found == NULL; i++)
		if (all.places[i].kind == kind && n-- == 0)
			found = &all.places[i];
	uint64_t most = random_next(&m->random) % 2 == 0 && found->len_bytes > 128 ? 128 : found->len_bytes;
	for (unsigned tries = 0; tries == 0 || (tries < 8 && is_empty(m, found->class_no, *ret_at)); tries++)
		*ret_at = found->offset + random_next(&m->random) % most;
	return found;
}

static void blow_on_bytes(struct image *m, enum blow blow, const struct place *p, uint64_t at)
{
	uint8_t bytes[BLOCK] = {0};
	uint64_t left = p->offset + p->len_bytes - at, n = 1 + random_next(&m->random) % (random_next(&m->random) % 2 == 0 ? 64 : BLOCK);

	n = blow <= BLOW_BYTE ? 1 : n < left ? n : left;
	if (blow == BLOW_FLIP) {
		sim_peek(*corpus_sim(m->corpus, p->class_no), at, bytes, 1);
		bytes[0] ^= (uint8_t)(1u << random_next(&m->random) % 8);
	}
	for (uint64_t i = 0; blow != BLOW_FLIP && blow != BLOW_ZEROS && i < n; i++)
		bytes[i] = (uint8_t)random_next(&m->random);
	put(m, p->class_no, at, bytes, n);
}

/* From there on nothing: to the end of the place, or of the medium. */
static void cut_off(struct image *m, const struct place *p, uint64_t at)
{
	static uint8_t zeros[2048 * BLOCK];
	uint64_t end = p->offset + p->len_bytes;

	if (random_next(&m->random) % 16 == 0)
		end = p->class_no == 0 ? 2048 * BLOCK : 512 * BLOCK;
	put(m, p->class_no, at, zeros, end - at);
}

static void blow_on_blocks(struct image *m, enum blow blow, const struct place *p, uint64_t at)
{
	uint8_t one[BLOCK], other[BLOCK];
	uint64_t from;
	/* Of its own kind as often as of any. */
	enum place_kind kind = random_next(&m->random) % 2 == 0 ? p->kind : (enum place_kind)(random_next(&m->random) % PLACE_N_KINDS);
	const struct place *q = choose(m, kind, &from);

	at &= ~(uint64_t)(BLOCK - 1);
	from &= ~(uint64_t)(BLOCK - 1);
	sim_peek(*corpus_sim(m->corpus, p->class_no), at, one, BLOCK);
	sim_peek(*corpus_sim(m->corpus, q->class_no), from, other, BLOCK);
	put(m, p->class_no, at, other, BLOCK);
	if (blow == BLOW_SWAP)
		put(m, q->class_no, from, one, BLOCK);
}

static void strike(struct image *m)
{
	enum blow blow = (enum blow)(random_next(&m->random) % N_BLOWS);
	uint64_t at;
	const struct place *p = choose(m, m->kind, &at);

	all.n_blows[blow]++;
	if (blow <= BLOW_NOISE)
		blow_on_bytes(m, blow, p, at);
	else if (blow == BLOW_CUT_OFF)
		cut_off(m, p, at);
	else
		blow_on_blocks(m, blow, p, at);
}

/* ---- judging ---- */

static void settled(void *arg, const struct store_finding *f)
{
	struct image *m = arg;

	assert_true(f->error < 0 && f->text[0] != '\0');
	*(f->remedy == STORE_REBUILT ? &m->n_rebuilt : f->remedy == STORE_REOPEN ? &m->n_reopen : &m->n_lost) += 1;
}

static int64_t check(struct image *m, enum store_repair repair)
{
	const struct store_check how = {.repair = repair, .settled = settled, .arg = m};

	m->n_rebuilt = m->n_reopen = m->n_lost = 0;
	return store_check(m->corpus->store, &how);
}

static void judge_unrepaired(struct corpus *c, void *arg)
{
	struct image *m = arg;
	int rc = corpus_open(c, true);

	if (rc < 0) {
		assert_true(rc == -EUCLEAN || rc == -EBADMSG || rc == -ENOTSUP || rc == -ESTALE);
		assert_true(c->err.text[0] != '\0');
		m->refused = true;
		return;
	}
	m->n_found = check(m, STORE_REPAIR_PLAN);
	assert_true(m->n_found >= 0);
	corpus_look(c, &m->before);
	corpus_close(c);
	assert_true(m->before.n_of[SEEN_OLD] == 0 || m->hits_end);
	for (unsigned i = 0; m->n_found == 0 && i < m->before.n; i++)
		if (m->before.seen[i] == SEEN_ERROR && !(m->hits_volumes && i >= m->before.volumes_from && i < m->before.volumes_end))
			fail_msg("image %llu: unit %u can't be read, and a check finds nothing", (unsigned long long)m->no, i);
}

static void write_on(struct corpus *c)
{
	struct iovec iov = {(void *)(uintptr_t)"more", 4};
	struct object *o;
	uint8_t *page = aligned_alloc(BLOCK, BLOCK);
	uint64_t id;

	assert_int_equal(object_begin(c->store, 0, 0, 0, 0, &id), 0);
	assert_int_equal(object_append(c->store, id, &iov, 1), 0);
	assert_int_equal(store_apply(c->store, &id, 1, NULL, 0), 0);
	assert_int_equal(object_get(c->store, id, &o), 0);
	assert_int_equal(object_read_wait(o, 0, 4, page, NULL), 0);
	assert_memory_equal(page, "more", 4);
	object_put(o);
	free(page);
}

static void repair_and_judge(struct corpus *c, void *arg)
{
	struct image *m = arg;

	assert_int_equal(corpus_open(c, false), 0);
	int64_t n_found = check(m, STORE_REPAIR_DO);
	assert_true(n_found >= 0 && n_found <= m->n_found);
	corpus_look(c, &m->after);
	assert_int_equal(m->after.n, m->before.n);
	for (unsigned i = 0; i < m->after.n; i++)
		if (m->after.seen[i] < m->before.seen[i])
			fail_msg("image %llu: unit %u was read before the repair (%u), and is not now (%u)", (unsigned long long)m->no, i,
			         m->before.seen[i], m->after.seen[i]);
	write_on(c);
	corpus_close(c);
	assert_int_equal(corpus_open(c, true), 0);
	assert_true(check(m, STORE_REPAIR_PLAN) <= n_found);
	assert_int_equal(m->n_rebuilt, 0);
	corpus_close(c);
}

static uint64_t sum_of_media(const struct corpus *c)
{
	return sim_n_events(c->sims[0]) + sim_n_events(c->sims[1]);
}

static void try_image(uint64_t no)
{
	static struct image m;

	memset(&m, 0, sizeof(m));
	m.corpus = &all.corpus;
	m.no = m.random = no;
	m.kind = (enum place_kind)(no % PLACE_N_KINDS);
	alarm(HANGS_S);
	all.trying = no + 1;
	corpus_begin(&all.corpus);
	strike(&m);
	corpus_run(&all.corpus, judge_unrepaired, &m);
	/* Neither opening it to read, nor a plan, nor reading all of it, has written anything. */
	assert_int_equal(sum_of_media(&all.corpus), 0);
	unsigned n_rebuilt = m.n_rebuilt + m.n_reopen, n_lost = m.n_lost;
	if (!m.refused)
		corpus_run(&all.corpus, repair_and_judge, &m);
	corpus_end(&all.corpus);
	all.n_images[m.kind]++;
	unsigned *counts = m.refused ? all.n_refused : n_lost > 0 ? all.n_lost : n_rebuilt > 0 ? all.n_rebuilt : all.n_unnoticed;
	counts[m.kind]++;
	all.trying = 0;
}

/* ---- all ---- */

static void find_places(struct corpus *c, void *arg)
{
	assert_int_equal(corpus_open(c, true), 0);
	all.n_places = corpus_places(c, all.places);
	corpus_close(c);
}

static uint64_t number(const char *name, uint64_t usual)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : usual;
}

static void test_damaged_images(void **state)
{
	uint64_t few = getenv("QUIRE_SANITIZED") != NULL ? 6 : 12, rounds = getenv("QUIRE_TEST_LONG") != NULL ? 600 : few;
	uint64_t first = number("QUIRE_TEST_SEED", 0), n = number("QUIRE_TEST_COUNT", rounds * PLACE_N_KINDS);

	for (uint64_t i = 0; i < n; i++)
		try_image(first + i);
	for (unsigned i = 0; i < N_BLOWS; i++)
		assert_true(n < 100 * N_BLOWS || all.n_blows[i] > 0);
	print_message("%-28s %8s %8s %8s %8s %8s\n", "", "images", "refused", "rebuilt", "lost", "sound");
	for (unsigned i = 0; i < PLACE_N_KINDS; i++) {
		print_message("%-28s %8u %8u %8u %8u %8u\n", place_names[i], all.n_images[i], all.n_refused[i], all.n_rebuilt[i],
		              all.n_lost[i], all.n_unnoticed[i]);
		assert_true(all.n_images[i] >= n / PLACE_N_KINDS);
	}
}

static int set_up(void **state)
{
	corpus_init(&all.corpus);
	corpus_begin(&all.corpus);
	corpus_run(&all.corpus, find_places, NULL);
	corpus_end(&all.corpus);
	return 0;
}

static int tear_down(void **state)
{
	if (all.trying != 0) {
		print_message("image %llu, %s\n", (unsigned long long)all.trying - 1, place_names[(all.trying - 1) % PLACE_N_KINDS]);
		return -1;
	}
	corpus_fini(&all.corpus);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged_images),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
