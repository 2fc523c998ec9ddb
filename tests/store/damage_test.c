/* damage_test.c - bytes of a small store are flipped, one at a time: either the byte was in use, and opening or a check
 * names it, and reads give an error and never other bytes; or it was not, and nothing changes. Never a crash.
 *
 * Each position where something is told apart by its bytes, a sample elsewhere; QUIRE_TEST_LONG: fifteen times as many; under a
 * sanitizer a third.
 */
#include "store_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_UNITS 300u
#define SEGMENT_BYTES 65536u

static const uint64_t lens[] = {100, 4096, 20000, 66000};

struct damage {
	struct env e;
	struct sim *good;
	uint64_t ids[4];
	uint8_t used[N_UNITS]; /* 1: all of its bytes are told apart; 2: a catalogue's segment */
	uint64_t catalogue_used;
	uint64_t at;
	unsigned n_named, n_refused, n_free;
};

static void build(struct env *e, void *arg)
{
	struct damage *d = arg;
	struct store_stat stat;

	assert_int_equal(env_format(e), 0);
	assert_int_equal(env_open(e), 0);
	uint64_t gone = (uint64_t)env_put(e, 0, 30000);
	for (unsigned i = 0; i < 4; i++)
		d->ids[i] = (uint64_t)env_put(e, 0, lens[i]);
	assert_int_equal(store_apply(e->store, NULL, 0, &gone, 1), 0);
	store_stat(e->store, &stat);
	d->catalogue_used = stat.catalogue_used_bytes;
	env_close(e);
}

/* What is where: found by the format alone. */
static void learn(struct damage *d)
{
	static uint8_t block[PAGE];
	uint64_t first;

	sim_peek(d->good, 0, block, PAGE);
	memcpy(&first, block + offsetof(struct superblock_le, catalogue_first), sizeof(first));
	d->used[0] = d->used[FORMAT_SUPERBLOCK_STEP / PAGE] = 1;
	for (unsigned i = 0; i < SEGMENT_BYTES / PAGE; i++)
		d->used[first / PAGE + i] = 2;
	d->used[first / PAGE] = 1;
	for (unsigned u = 0; u < N_UNITS; u++) {
		for (unsigned i = 0; i < 4; i++) {
			for (uint64_t p = 0; p < format_n_pages(lens[i]); p++) {
				static uint8_t want[PAGE];
				uint64_t n = lens[i] - p * PAGE < PAGE ? lens[i] - p * PAGE : PAGE;
				memset(want, 0, PAGE);
				env_fill(d->ids[i], p * PAGE, want, n);
				sim_peek(d->good, (uint64_t)u * PAGE, block, PAGE);
				if (memcmp(block, want, PAGE) != 0)
					continue;
				d->used[u] = 1;
				if (p + 1 == format_n_pages(lens[i]) && p > 0)
					d->used[u + 1] = 1; /* its checksums */
			}
		}
	}
}

static void look(struct env *e, void *arg)
{
	struct damage *d = arg;
	uint8_t used = d->used[d->at / PAGE];
	int rc = env_open(e);

	if (rc < 0) {
		assert_true(rc == -EUCLEAN || rc == -EBADMSG || rc == -ENOTSUP || rc == -ESTALE);
		assert_true(e->err.text[0] != 0 && used != 0);
		d->n_refused++;
		return;
	}
	int64_t n_found = env_check(e, false);
	unsigned n_bad = 0;
	for (unsigned i = 0; i < 4; i++) {
		rc = env_verify(e, d->ids[i], lens[i]);
		assert_true(rc == 0 || rc == -EBADMSG);
		n_bad += rc != 0;
	}
	assert_true(n_bad <= 1 && n_found <= 2);
	assert_true(n_bad == 0 || n_found > 0);
	if (n_found == 0 && used == 1)
		fail_msg("byte %llu: nobody noticed", (unsigned long long)d->at);
	if (n_found != 0 && used == 0)
		fail_msg("byte %llu: is in use by nobody", (unsigned long long)d->at);
	*(n_found != 0 ? &d->n_named : &d->n_free) += 1;
	env_close(e);
}

static void flip(struct damage *d, uint64_t at, uint8_t bits)
{
	uint8_t byte;

	assert_int_equal(sim_clone(d->good, 1, &d->e.sims[0]), 0);
	sim_peek(d->e.sims[0], at, &byte, 1);
	byte ^= bits;
	sim_poke(d->e.sims[0], at, &byte, 1);
	d->at = at;
	d->e.seed = 4711 + at;
	env_run(&d->e, look, d);
	sim_destroy(d->e.sims[0]);
	d->e.sims[0] = NULL;
}

/* Records of the catalogue, all but the seal: each byte of them must be missed. */
static void flip_records(struct damage *d, uint64_t segment)
{
	for (uint64_t i = 0; i + 40 < d->catalogue_used; i++) {
		unsigned n_noticed = d->n_named + d->n_refused;
		flip(d, segment + PAGE + i, (uint8_t)(1u << i % 8));
		if (d->n_named + d->n_refused == n_noticed)
			fail_msg("byte %llu of the catalogue's records: nobody noticed", (unsigned long long)i);
	}
}

static void test_flipped_bytes(void **state)
{
	static struct damage d;
	const uint64_t n_units[STORE_N_CLASSES] = {N_UNITS};
	uint64_t step = getenv("QUIRE_TEST_LONG") != NULL ? 61 : getenv("QUIRE_SANITIZED") != NULL ? 2503 : 919, segment;

	env_init(&d.e, 3, n_units, NULL);
	env_run(&d.e, build, &d);
	d.good = d.e.sims[0];
	d.e.sims[0] = NULL;
	learn(&d);
	sim_peek(d.good, offsetof(struct superblock_le, catalogue_first), &segment, sizeof(segment));
	for (uint64_t at = 0; at < N_UNITS * PAGE; at += step)
		flip(&d, at, (uint8_t)(1u << at % 8));
	for (uint64_t at = 0; at < 96; at++) {
		flip(&d, at, 0x10);
		flip(&d, FORMAT_SUPERBLOCK_STEP + at, 0x10);
		flip(&d, segment + at, 0x10);
	}
	flip_records(&d, segment);
	print_message("%u flips named by a check, %u by the open, %u in free space\n", d.n_named, d.n_refused, d.n_free);
	sim_destroy(d.good);
	env_fini(&d.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flipped_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
