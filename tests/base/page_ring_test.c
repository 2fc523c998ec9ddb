/* The ring against an array that never wraps. */
#include "../../src/base/page_ring.h"
#include "cmocka_env.h"

#include <stdlib.h>

static void gives_back_in_order_across_growth(void **state)
{
	struct page_ring ring;
	assert_int_equal(page_ring_init(&ring), 0);
	size_t first = ring.capacity;
	/* The head is moved first, so that growth meets a ring that wraps. */
	for (size_t i = 0; i < first; i++)
		page_ring_push(&ring, i);
	for (size_t i = 0; i < first / 3; i++)
		assert_int_equal(page_ring_pop(&ring), i);
	for (size_t i = first; i < 9 * first; i++)
		assert_int_equal(page_ring_push(&ring, i), 0);
	for (size_t i = first / 3; i < 9 * first; i++)
		assert_int_equal(page_ring_pop(&ring), i);
	assert_int_equal(ring.count, 0);
	page_ring_fini(&ring);
}

static void trim_gives_memory_back_and_keeps_order(void **state)
{
	struct page_ring ring;
	assert_int_equal(page_ring_init(&ring), 0);
	size_t smallest = ring.capacity;
	for (size_t i = 0; i < 64 * smallest; i++)
		page_ring_push(&ring, i);
	for (size_t i = 0; i < 63 * smallest; i++)
		page_ring_pop(&ring);
	size_t before = page_ring_bytes(&ring);
	page_ring_trim(&ring);
	assert_true(page_ring_bytes(&ring) <= before / 16);
	for (size_t i = 63 * smallest; i < 64 * smallest; i++)
		assert_int_equal(page_ring_pop(&ring), i);
	page_ring_trim(&ring);
	assert_int_equal(ring.capacity, smallest);
	page_ring_fini(&ring);
}

static void rotating_a_full_ring_goes_round(void **state)
{
	struct page_ring ring;
	assert_int_equal(page_ring_init(&ring), 0);
	size_t n = ring.capacity;
	for (size_t i = 0; i < n; i++)
		page_ring_push(&ring, i);
	for (size_t i = 0; i < 3 * n + 5; i++)
		page_ring_rotate(&ring);
	assert_int_equal(page_ring_oldest(&ring), 5);
	assert_int_equal(ring.count, n);
	page_ring_fini(&ring);
}

static void random_steps_match_a_plain_array(void **state)
{
	enum { N_STEPS = 200000 };
	uint64_t *model = malloc((2 * N_STEPS + 1) * sizeof(*model));
	size_t head = 0, tail = 0;
	struct page_ring ring;
	assert_int_equal(page_ring_init(&ring), 0);
	srand(7);
	for (unsigned i = 0; i < N_STEPS; i++) {
		int dice = rand() % 100;
		int pushes = i / 20000 % 2 == 0 ? 70 : 20; /* grows for a while, then shrinks */
		if (dice < pushes) {
			model[tail++] = i;
			page_ring_push(&ring, i);
		} else if (dice < 95 && head < tail) {
			assert_int_equal(page_ring_pop(&ring), model[head++]);
		} else if (dice < 99 && head < tail) {
			model[tail++] = model[head++];
			page_ring_rotate(&ring);
		} else {
			page_ring_trim(&ring);
		}
		assert_int_equal(ring.count, tail - head);
	}
	while (head < tail)
		assert_int_equal(page_ring_pop(&ring), model[head++]);
	page_ring_fini(&ring);
	free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_in_order_across_growth),
		cmocka_unit_test(trim_gives_memory_back_and_keeps_order),
		cmocka_unit_test(rotating_a_full_ring_goes_round),
		cmocka_unit_test(random_steps_match_a_plain_array),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
