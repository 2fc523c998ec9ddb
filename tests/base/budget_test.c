/* The accountant: never above its limit, whoever charges at the same time. */
#include "../../src/base/budget.h"
#include "cmocka_env.h"

#include <pthread.h>

static void charge_up_to_the_limit_exactly(void **state)
{
	struct budget b;
	budget_init(&b, 100);
	assert_true(budget_try_charge(&b, BUDGET_FRAMES, 60));
	assert_true(budget_try_charge(&b, BUDGET_TABLES, 40));
	assert_false(budget_try_charge(&b, BUDGET_FRAMES, 1));
	assert_true(budget_try_charge(&b, BUDGET_FRAMES, 0));
	assert_int_equal(budget_used(&b), 100);
	assert_int_equal(budget_kind_used(&b, BUDGET_FRAMES), 60);
	assert_int_equal(budget_kind_used(&b, BUDGET_TABLES), 40);
}

static void refused_charge_changes_nothing(void **state)
{
	struct budget b;
	budget_init(&b, 100);
	assert_false(budget_try_charge(&b, BUDGET_OTHER, 101));
	assert_false(budget_try_charge(&b, BUDGET_OTHER, UINT64_MAX));
	assert_int_equal(budget_used(&b), 0);
	assert_int_equal(budget_kind_used(&b, BUDGET_OTHER), 0);
}

static void sums_that_would_wrap_are_refused(void **state)
{
	struct budget b;
	budget_init(&b, UINT64_MAX - 1);
	assert_true(budget_try_charge(&b, BUDGET_OTHER, UINT64_MAX - 1));
	assert_false(budget_try_charge(&b, BUDGET_OTHER, 2));
	assert_false(budget_try_charge(&b, BUDGET_OTHER, UINT64_MAX));
}

static void must_have_goes_beyond_and_shows_as_excess(void **state)
{
	struct budget b;
	budget_init(&b, 100);
	budget_charge(&b, BUDGET_PAGE_TABLES, 130);
	assert_int_equal(budget_excess(&b), 30);
	assert_false(budget_try_charge(&b, BUDGET_FRAMES, 1));
	budget_uncharge(&b, BUDGET_PAGE_TABLES, 40);
	assert_int_equal(budget_excess(&b), 0);
	assert_true(budget_try_charge(&b, BUDGET_FRAMES, 10));
}

static void lowered_limit_binds_at_once(void **state)
{
	struct budget b;
	budget_init(&b, 100);
	assert_true(budget_try_charge(&b, BUDGET_FRAMES, 80));
	budget_set_limit(&b, 50);
	assert_int_equal(budget_limit(&b), 50);
	assert_int_equal(budget_excess(&b), 30);
	assert_false(budget_try_charge(&b, BUDGET_FRAMES, 1));
}

struct holder {
	struct budget budget;
	uint64_t held;
};

static bool give_back_ten(void *arg)
{
	struct holder *h = arg;
	if (h->held == 0)
		return false;
	h->held -= 10;
	budget_uncharge(&h->budget, BUDGET_FRAMES, 10);
	return true;
}

static void who_holds_what_can_leave_makes_room(void **state)
{
	struct holder h;
	budget_init(&h.budget, 100);
	assert_false(budget_reclaim(&h.budget));
	h.held = 20;
	budget_charge(&h.budget, BUDGET_FRAMES, 100);
	h.budget.reclaim = give_back_ten;
	h.budget.reclaim_arg = &h;
	assert_false(budget_try_charge(&h.budget, BUDGET_BUFFERS, 15));
	assert_true(budget_reclaim(&h.budget));
	assert_true(budget_reclaim(&h.budget));
	assert_true(budget_try_charge(&h.budget, BUDGET_BUFFERS, 15));
	assert_false(budget_reclaim(&h.budget));
}

#define N_THREADS 4
#define N_ROUNDS 50000
#define RACE_LIMIT 1000

static struct budget raced;
static _Atomic uint64_t highest;

static void *charge_and_uncharge(void *arg)
{
	uint64_t bytes = (uint64_t)(uintptr_t)arg;
	for (unsigned i = 0; i < N_ROUNDS; i++) {
		if (!budget_try_charge(&raced, BUDGET_FRAMES, bytes))
			continue;
		uint64_t used = budget_used(&raced);
		uint64_t high = atomic_load(&highest);
		while (used > high && !atomic_compare_exchange_weak(&highest, &high, used))
			continue;
		budget_uncharge(&raced, BUDGET_FRAMES, bytes);
	}
	return NULL;
}

static void racing_charges_never_pass_the_limit(void **state)
{
	pthread_t threads[N_THREADS];
	budget_init(&raced, RACE_LIMIT);
	for (unsigned i = 0; i < N_THREADS; i++)
		assert_int_equal(0, pthread_create(&threads[i], NULL, charge_and_uncharge,
		                                   (void *)(uintptr_t)(300 + 100 * i)));
	for (unsigned i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(highest <= RACE_LIMIT);
	assert_true(highest >= 300);
	assert_int_equal(budget_used(&raced), 0);
	assert_int_equal(budget_kind_used(&raced, BUDGET_FRAMES), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(charge_up_to_the_limit_exactly),
		cmocka_unit_test(refused_charge_changes_nothing),
		cmocka_unit_test(sums_that_would_wrap_are_refused),
		cmocka_unit_test(must_have_goes_beyond_and_shows_as_excess),
		cmocka_unit_test(lowered_limit_binds_at_once),
		cmocka_unit_test(who_holds_what_can_leave_makes_room),
		cmocka_unit_test(racing_charges_never_pass_the_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
