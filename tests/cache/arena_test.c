/* An arena by its contract: regions and what they charge, space, pages that come, leave, or are
 * poisoned. On each kind that this process may have. */
#include "../support/maps.h"
#include "../support/trap.h"

#include "../../src/base/feature.h"
#include "../../src/cache/arena.h"

static struct arena *a;
static struct budget budget;
static const enum arena_kind kinds[] = {ARENA_SERVICE, ARENA_SIGNAL, ARENA_PINNED};

static uint64_t used(void)
{
	return budget_used(&budget);
}

static int make_arena(void **state)
{
	enum arena_kind kind = *(const enum arena_kind *)*state;

	a = NULL;
	budget_init(&budget, CACHE_BUDGET);
	if (kind != ARENA_PINNED && !feature_have(FEATURE_USERFAULTFD))
		return 0;
	return arena_create(kind, 8 * GIB, &budget, &a, NULL);
}

static int drop_arena(void **state)
{
	arena_destroy(a);
	return 0;
}

static uint64_t region_pages(void)
{
	if (a == NULL)
		skip_because("no userfaultfd");
	return (uint64_t)1 << a->region_shift;
}

/* The first page of n. */
static uint64_t space_of(uint64_t n_pages)
{
	uint64_t first = 0;

	if (a == NULL)
		skip_because("no userfaultfd");
	trap_install(); /* here, since cmocka installs its own before each test */
	assert_int_equal(arena_space_get(a, n_pages, &first), 0);
	return first;
}

static void size_and_place(void **state)
{
	uint64_t first = space_of(1);

	assert_int_equal(a->bytes, 8 * GIB);
	assert_true(arena_holds(a, first));
	assert_true(arena_holds(a, a->first_page + a->bytes / page_size() - 1));
	assert_false(arena_holds(a, a->first_page + a->bytes / page_size()));
	assert_false(arena_holds(a, a->first_page - 1));
	assert_ptr_equal(arena_address(a, first), a->base + (first - a->first_page) * page_size());
	arena_space_put(a, first, 1);
}

static void first_page_of_a_region_pays_and_the_last_is_paid_back(void **state)
{
	uint64_t first = space_of(2 * region_pages()), before;

	/* Upper levels stay charged: so the second time counts. */
	assert_int_equal(arena_region_enter(a, first, 1, false), 0);
	arena_region_leave(a, first, 1);
	arena_space_put(a, first, 2 * region_pages());
	first = space_of(2 * region_pages());
	before = used();
	assert_int_equal(arena_region_enter(a, first, 1, false), 0);
	assert_int_equal(used(), before + 3 * page_size());
	assert_int_equal(arena_region_enter(a, first + 1, 5, false), 0);
	assert_int_equal(used(), before + 3 * page_size());
	assert_int_equal(arena_region_count(a, first), 6);
	assert_int_equal(arena_region_enter(a, first + region_pages(), 1, false), 0);
	assert_int_equal(used(), before + 6 * page_size());
	arena_region_leave(a, first + region_pages(), 1);
	arena_region_leave(a, first, 6);
	assert_int_equal(arena_region_count(a, first), 0);
	if (a->reclaims)
		assert_int_equal(used(), before);
	arena_space_put(a, first, 2 * region_pages());
	assert_int_equal(used(), before);
}

static void no_budget_for_a_region(void **state)
{
	uint64_t first = space_of(1), before = used();

	budget_set_limit(&budget, before + 2 * page_size());
	assert_int_equal(arena_region_enter(a, first, 1, false), -ENOMEM);
	assert_int_equal(used(), before);
	assert_int_equal(arena_region_count(a, first), 0);
	assert_int_equal(arena_region_enter(a, first, 1, true), 0);
	assert_true(used() > before + 2 * page_size());
	arena_region_leave(a, first, 1);
	arena_space_put(a, first, 1);
}

static void pages_come_and_leave(void **state)
{
	uint64_t first = space_of(8);
	char *src = aligned_alloc(page_size(), pages(8));

	for (unsigned i = 0; i < pages(8); i++)
		src[i] = (char)file_byte(1, i);
	assert_int_equal(arena_region_enter(a, first, 8, false), 0);
	assert_int_equal(arena_install(a, first, 8, src), 0);
	assert_bytes(arena_address(a, first), 1, 0, pages(8));
	struct page_run gone[] = {{first + 6, 1}, {first + 2, 1}, {first + 3, 1}};
	arena_zap(a, gone, 3);
	memset(src, 0x77, pages(8));
	/* Those that are there stay as they are; the others come. */
	assert_int_equal(arena_install(a, first + 2, 2, src), 0);
	assert_int_equal(arena_install(a, first + 6, 1, src), 0);
	assert_bytes(arena_address(a, first), 1, 0, pages(2));
	assert_int_equal(arena_address(a, first + 3)[5], 0x77);
	assert_bytes(arena_address(a, first + 4), 1, pages(4), pages(2));
	assert_int_equal(arena_address(a, first + 6)[5], 0x77);
	if (a->kind != ARENA_PINNED) {
		assert_int_equal(arena_install(a, first + 1, 4, src), 0);
		assert_bytes(arena_address(a, first + 1), 1, pages(1), pages(1));
	}
	for (unsigned i = 0; i < 8; i++)
		arena_zap_page(a, first + i);
	arena_region_leave(a, first, 8);
	arena_space_put(a, first, 8);
	free(src);
}

static void most_pages_at_once(void **state)
{
	uint64_t first = space_of(2 * ARENA_ZAP_MAX);
	struct page_run gone[ARENA_ZAP_MAX];
	char *src = aligned_alloc(page_size(), pages(1));

	memset(src, 5, pages(1));
	assert_int_equal(arena_region_enter(a, first, ARENA_ZAP_MAX, false), 0);
	for (unsigned i = 0; i < ARENA_ZAP_MAX; i++) {
		assert_int_equal(arena_install(a, first + 2 * i, 1, src), 0);
		gone[i] = (struct page_run){first + 2 * ((i * 29) % ARENA_ZAP_MAX), 1};
	}
	uint64_t before = status_bytes("VmRSS");
	arena_zap(a, gone, ARENA_ZAP_MAX);
	if (!SANITIZED)
		assert_true(status_bytes("VmRSS") <= before);
	arena_region_leave(a, first, ARENA_ZAP_MAX);
	arena_space_put(a, first, 2 * ARENA_ZAP_MAX);
	free(src);
}

static void poisoned_page_traps_alone(void **state)
{
	uint64_t first = space_of(3);
	char *src = aligned_alloc(page_size(), pages(3));

	memset(src, 9, pages(3));
	if (a->kind == ARENA_PINNED) {
		assert_int_equal(arena_poison(a, first), -ENOTSUP);
	} else {
		assert_int_equal(arena_region_enter(a, first, 3, false), 0);
		assert_int_equal(arena_install(a, first, 1, src), 0);
		assert_int_equal(arena_install(a, first + 2, 1, src), 0);
		assert_int_equal(arena_poison(a, first + 1), 0);
		assert_int_equal(arena_poison(a, first + 1), 0);
		assert_true(load_traps(arena_address(a, first + 1)));
		assert_false(load_traps(arena_address(a, first)));
		assert_false(load_traps(arena_address(a, first + 2)));
		arena_unpoison(a, first + 1);
		assert_int_equal(arena_install(a, first + 1, 1, src), 0);
		assert_false(load_traps(arena_address(a, first + 1)));
		for (unsigned i = 0; i < 3; i++)
			arena_zap_page(a, first + i);
		arena_region_leave(a, first, 3);
	}
	arena_space_put(a, first, 3);
	free(src);
}

static void stray_poison_goes_with_the_next_owner(void **state)
{
	uint64_t first = space_of(1);
	char *src = aligned_alloc(page_size(), pages(1));

	memset(src, 3, pages(1));
	arena_space_put(a, first, 1);
	if (a->kind != ARENA_PINNED) {
		arena_poison_stray(a, first);
		assert_true(load_traps(arena_address(a, first)));
	}
	assert_int_equal(space_of(1), first);
	assert_int_equal(arena_install(a, first, 1, src), 0);
	assert_int_equal(arena_address(a, first)[1], 3);
	arena_zap_page(a, first);
	arena_space_put(a, first, 1);
	free(src);
}

static void space_runs_out_and_comes_back(void **state)
{
	uint64_t all, more;

	all = space_of(8 * GIB / page_size());
	assert_int_equal(arena_space_get(a, 1, &more), -ENOMEM);
	arena_space_put(a, all, 8 * GIB / page_size());
	assert_int_equal(arena_space_get(a, 8 * GIB / page_size() + 1, &more), -ENOMEM);
	assert_int_equal(arena_space_get(a, UINT64_MAX / 2, &more), -ENOMEM);
	assert_int_equal(space_of(8 * GIB / page_size()), all);
	arena_space_put(a, all, 8 * GIB / page_size());
}

#define ON_KINDS(test)                                                                             \
	{#test " (service)", test, make_arena, drop_arena, (void *)(uintptr_t)&kinds[0]},          \
	{#test " (signal)", test, make_arena, drop_arena, (void *)(uintptr_t)&kinds[1]},           \
	{#test " (pinned)", test, make_arena, drop_arena, (void *)(uintptr_t)&kinds[2]}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_KINDS(size_and_place),
		ON_KINDS(first_page_of_a_region_pays_and_the_last_is_paid_back),
		ON_KINDS(no_budget_for_a_region),
		ON_KINDS(pages_come_and_leave),
		ON_KINDS(most_pages_at_once),
		ON_KINDS(poisoned_page_traps_alone),
		ON_KINDS(stray_poison_goes_with_the_next_owner),
		ON_KINDS(space_runs_out_and_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
