/* Slots of many sizes: what is in them stays, what is free goes back, and the account is right. */
#include "../../src/tmem/storage.h"
#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define N 4000u

struct scene {
	struct budget budget;
	struct storage s;
	uint32_t place[N], n_bytes[N];
	uint64_t random;
};

static struct scene *begin(uint64_t limit_bytes)
{
	struct scene *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	budget_init(&t->budget, limit_bytes);
	storage_init(&t->s, &t->budget);
	memset(t->place, 0xff, sizeof(t->place));
	return t;
}

static void end(struct scene *t)
{
	storage_fini(&t->s);
	assert_int_equal(budget_used(&t->budget), 0);
	free(t);
}

/* The owner's number stands at both ends of what is in a slot. */
static void fill(struct scene *t, uint32_t i)
{
	uint8_t *at = storage_at(&t->s, t->place[i]);

	memset(at, (int)(i & 0xff), t->n_bytes[i]);
	memcpy(at, &i, sizeof(i));
	memcpy(at + t->n_bytes[i] - sizeof(i), &i, sizeof(i));
}

static void assert_filled(struct scene *t, uint32_t i)
{
	const uint8_t *at = storage_at(&t->s, t->place[i]);

	assert_memory_equal(at, &i, sizeof(i));
	assert_memory_equal(at + t->n_bytes[i] - sizeof(i), &i, sizeof(i));
	for (uint32_t k = sizeof(i); k < t->n_bytes[i] - sizeof(i); k += 61)
		assert_int_equal(at[k], i & 0xff);
}

static bool put(struct scene *t, uint32_t i, uint32_t n_bytes)
{
	t->n_bytes[i] = n_bytes;
	t->place[i] = storage_alloc(&t->s, n_bytes);
	if (t->place[i] == PLACE_NONE)
		return false;
	fill(t, i);
	return true;
}

static void drop(struct scene *t, uint32_t i)
{
	storage_free(&t->s, t->place[i]);
	t->place[i] = PLACE_NONE;
}

static void moved(void *arg, uint32_t from, uint32_t to)
{
	struct scene *t = arg;
	uint32_t i;

	memcpy(&i, storage_at(&t->s, to), sizeof(i));
	assert_true(i < N);
	assert_int_equal(t->place[i], from);
	t->place[i] = to;
}

static void classes_hold_their_sizes(void **state)
{
	for (uint32_t n = 1; n <= STORAGE_MOST_BYTES; n += n < 20000 ? 1 : 977) {
		uint32_t slot = storage_slot_bytes(n);
		assert_true(slot >= n && slot >= STORAGE_LEAST_BYTES);
		if (n > STORAGE_LEAST_BYTES)
			assert_true(slot - n < 16 || slot - n <= n / 64);
	}
	assert_true(storage_slot_bytes(STORAGE_MOST_BYTES) >= STORAGE_MOST_BYTES);
}

static void random_slots_keep_what_is_in_them(void **state)
{
	struct scene *t = begin(UINT64_MAX);

	for (unsigned step = 0; step < 60000; step++) {
		uint32_t i = (uint32_t)(random_next(&t->random) % N), kind = (uint32_t)(random_next(&t->random) % 100);
		uint32_t n_bytes = kind < 90 ? 16 + (uint32_t)(random_next(&t->random) % 4200)
		                             : 16 + (uint32_t)(random_next(&t->random) % (kind < 99 ? 70000 : STORAGE_MOST_BYTES / 4));
		if (t->place[i] != PLACE_NONE) {
			assert_filled(t, i);
			drop(t, i);
		} else if (step % 8192 < 6000) {
			assert_true(put(t, i, n_bytes));
		}
		while (storage_is_loose(&t->s) && storage_compact(&t->s, 16, moved, t))
			;
		if (step % 4096 == 0)
			assert_true(storage_check(&t->s));
	}
	for (uint32_t i = 0; i < N; i++)
		if (t->place[i] != PLACE_NONE) {
			assert_filled(t, i);
			drop(t, i);
		}
	while (storage_compact(&t->s, 16, moved, t))
		;
	assert_true(storage_check(&t->s));
	assert_int_equal(t->s.live_bytes, 0);
	assert_int_equal(t->s.resident_bytes, 0);
	end(t);
}

static void the_budget_holds(void **state)
{
	struct scene *t = begin(1 << 20);
	uint32_t n = 0;

	while (n < N && put(t, n, 2000))
		n++;
	assert_true(n > 400 && n < N);
	assert_true(budget_used(&t->budget) <= 1 << 20);
	assert_int_equal(budget_used(&t->budget), t->s.resident_bytes + t->s.meta_bytes);
	/* What comes free is had again. */
	drop(t, 7);
	t->place[7] = storage_alloc_resident(&t->s, 1900);
	assert_int_not_equal(t->place[7], PLACE_NONE);
	assert_int_equal(storage_alloc_resident(&t->s, 2001), PLACE_NONE);
	assert_true(storage_check(&t->s));
	end(t);
}

static void memory_comes_back_by_compaction(void **state)
{
	struct scene *t = begin(UINT64_MAX);

	for (uint32_t i = 0; i < N; i++)
		assert_true(put(t, i, 1000));
	uint64_t all = t->s.resident_bytes;
	/* Three of four go: every page still has one. */
	for (uint32_t i = 0; i < N; i++)
		if (i % 4 != 0)
			drop(t, i);
	while (storage_compact(&t->s, 16, moved, t))
		;
	assert_true(t->s.resident_bytes < all / 4 + all / 32);
	assert_true(storage_check(&t->s));
	for (uint32_t i = 0; i < N; i += 4)
		assert_filled(t, i);
	end(t);
}

static void what_is_left_lies_dense_though_pages_in_between_are_gone(void **state)
{
	struct scene *t = begin(UINT64_MAX);
	uint32_t n = 0;

	for (uint32_t i = 0; i < 400; i++)
		assert_true(put(t, i, 3232));
	/* Runs of slots go, and their pages: what is left is in no page with its neighbour. */
	for (uint32_t i = 0; i < 400; i++)
		if (i % 9 != 4)
			drop(t, i);
		else
			n++;
	while (storage_compact(&t->s, 16, moved, t))
		;
	assert_true(t->s.resident_bytes <= n * UINT64_C(3232) + (UINT64_C(2) << t->s.page_shift));
	assert_true(storage_check(&t->s));
	for (uint32_t i = 4; i < 400; i += 9)
		assert_filled(t, i);
	end(t);
}

/* Where one hole's page would have to come, another's is there. */
static void holes_are_filled_though_no_page_may_come(void **state)
{
	struct scene *t = begin(UINT64_MAX);
	uint32_t n = 360; /* two blocks and most of a third */

	for (uint32_t i = 0; i < n; i++)
		assert_true(put(t, i, 1000));
	for (; (t->place[n] = storage_alloc_resident(&t->s, 1000)) != PLACE_NONE; n++) {
		t->n_bytes[n] = 1000;
		fill(t, n);
	}
	uint32_t first = t->place[0] >> PLACE_SLOT_BITS;
	for (uint32_t i = 1; i < n; i += 2)
		if (t->place[i] >> PLACE_SLOT_BITS == first)
			drop(t, i);
	budget_set_limit(&t->budget, budget_used(&t->budget));
	while (storage_compact(&t->s, 16, moved, t))
		;
	assert_true(t->s.resident_bytes <= t->s.live_bytes + (UINT64_C(3) << t->s.page_shift));
	assert_true(storage_check(&t->s));
	for (uint32_t i = 0; i < n; i++)
		if (t->place[i] != PLACE_NONE)
			assert_filled(t, i);
	end(t);
}

/* Of locked memory, too, what nobody uses goes back to the kernel. */
static void locked_or_not_it_gives_back_what_is_idle(void **state)
{
	for (int locks = 0; locks < 2; locks++) {
		struct scene *t = begin(UINT64_MAX);

		t->s.locks = locks;
		for (uint32_t i = 0; i < 1000; i++)
			assert_true(put(t, i, 1200));
		for (uint32_t i = 1; i < 1000; i++)
			drop(t, i);
		storage_trim(&t->s, true);
		assert_true(t->s.resident_bytes <= UINT64_C(2) << t->s.page_shift);
		assert_filled(t, 0);
		for (uint32_t i = 1; i < 1000; i++)
			assert_true(put(t, i, 1200));
		for (uint32_t i = 0; i < 1000; i++)
			assert_filled(t, i);
		end(t);
	}
}

static void what_is_pinned_stays(void **state)
{
	struct scene *t = begin(UINT64_MAX);

	assert_true(put(t, 0, 3000) && put(t, 1, 3000) && put(t, 2, 3000));
	uint32_t place = t->place[0];
	storage_pin(&t->s, place);
	drop(t, 0);
	/* Nobody else gets it, nor does it move, until the pin is gone. */
	assert_true(put(t, 3, 3000));
	assert_int_not_equal(t->place[3], place);
	while (storage_compact(&t->s, 16, moved, t))
		;
	uint32_t number;
	memcpy(&number, storage_at(&t->s, place), sizeof(number));
	assert_int_equal(number, 0);
	storage_unpin(&t->s, place);
	assert_true(put(t, 0, 3000));
	assert_int_equal(t->place[0], place);
	assert_true(storage_check(&t->s));
	end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_hold_their_sizes),
		cmocka_unit_test(random_slots_keep_what_is_in_them),
		cmocka_unit_test(the_budget_holds),
		cmocka_unit_test(memory_comes_back_by_compaction),
		cmocka_unit_test(what_is_left_lies_dense_though_pages_in_between_are_gone),
		cmocka_unit_test(holes_are_filled_though_no_page_may_come),
		cmocka_unit_test(locked_or_not_it_gives_back_what_is_idle),
		cmocka_unit_test(what_is_pinned_stays),
	};
	return cmocka_run_group_tests_name("tmem-storage", tests, NULL, NULL);
}
