/* The owner's fill hook: verifies, decrypts, refuses; and what a refused page is to each reader. */
#include "../support/stalled.h"
#include "../support/trap.h"

#include <stdatomic.h>

#define N_PAGES 40u
#define LEN (pages(N_PAGES) - 100)

/* What the hook does, and what it has seen. */
static struct {
	_Atomic uint64_t bad_offset; /* the page there is refused */
	_Atomic int error;
	_Atomic unsigned n_calls, n_wrong;
	char key;
} hook;

#define NO_PAGE UINT64_MAX

static int verify(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	atomic_fetch_add(&hook.n_calls, 1);
	if (arg != &hook || offset % page_size() != 0 || raw == page || len_bytes > page_size() ||
	    !bytes_are_zero(page, page_size()))
		atomic_fetch_add(&hook.n_wrong, 1);
	if (offset == atomic_load(&hook.bad_offset))
		return atomic_load(&hook.error);
	for (size_t i = 0; i < len_bytes; i++)
		((char *)page)[i] = (char)(((const char *)raw)[i] ^ hook.key);
	return 0;
}

static struct quire_map *map_checked(uint64_t bad_offset, int error)
{
	file_write("f", 1, LEN);
	atomic_store(&hook.bad_offset, bad_offset);
	atomic_store(&hook.error, error);
	atomic_store(&hook.n_calls, 0);
	atomic_store(&hook.n_wrong, 0);
	hook.key = 0;
	file_write("before", 2, pages(1));
	const struct quire_item items[] = {
		{.path = file_path("before")},
		{.path = file_path("f"), .fill = verify, .fill_arg = &hook},
	};
	return map_items(items, 2);
}

static void every_page_passes_once(void **state)
{
	struct quire_map *m = map_checked(NO_PAGE, 0);
	const char *p = item_ptr(m, 1);

	read_and_compare(m, p, 1, 0, LEN);
	assert_int_equal(pin(m, p, LEN), 0);
	assert_true(bytes_are_zero(p + LEN, 100));
	assert_int_equal(unpin(m, p, LEN), 0);
	assert_int_equal(atomic_load(&hook.n_calls), N_PAGES);
	assert_int_equal(atomic_load(&hook.n_wrong), 0);
	assert_int_equal(quire_map_item_state(m, 1), QUIRE_ITEM_VERIFIED);
	assert_int_equal(quire_map_item_state(m, 0), 0);
	assert_int_equal(map_stat(m).unverified, 0);
	assert_int_equal(want(m, item_ptr(m, 0), 1), 0);
	assert_int_equal(map_stat(m).unverified, page_size());
	quire_map_purge(m, item_ptr(m, 0), 1);
	assert_int_equal(map_stat(m).unverified, 0);
	map_end(m);
}

static void decrypts(void **state)
{
	struct quire_map *m = map_checked(NO_PAGE, 0);
	const char *p = item_ptr(m, 1);

	hook.key = 0x5a;
	assert_int_equal(pin(m, p, LEN), 0);
	for (uint64_t i = 0; i < LEN; i++)
		assert_true(p[i] == (char)(file_byte(1, i) ^ 0x5a));
	assert_int_equal(unpin(m, p, LEN), 0);
	map_end(m);
}

/* A page in the middle of one read. */
static void refused_page_is_named_and_its_neighbours_spared(void **state)
{
	struct quire_map *m = map_checked(pages(7), -EBADMSG);
	const char *p = item_ptr(m, 1);
	struct iovec v = io(p, pages(20));
	struct quire_op op;

	quire_op_init(&op);
	assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &op), 0);
	assert_int_equal(quire_await(&op), -EBADMSG);
	assert_int_equal(op.error_item, 1);
	assert_int_equal(op.error_offset, pages(7));
	assert_int_equal(map_stat(m).pinned, 0);
	assert_false(quire_map_resident(m, p + pages(7), 1));
	read_and_compare(m, p, 1, 0, pages(7));
	read_and_compare(m, p + pages(8), 1, pages(8), pages(12));
	assert_int_equal(want(m, p + pages(7), 1), -EBADMSG);
	assert_true(map_stat(m).n_errors >= 2);
	assert_int_equal(quire_map_item_state(m, 1), QUIRE_ITEM_VERIFIED); /* no medium failed */
	map_end(m);
}

static void whatever_the_hook_says(void **state)
{
	struct quire_map *m = map_checked(pages(3), -EKEYREJECTED);

	assert_int_equal(want(m, item_ptr(m, 1), LEN), -EKEYREJECTED);
	atomic_store(&hook.error, -EIO); /* stands for a medium that fails */
	assert_int_equal(want(m, item_ptr(m, 1), LEN), -EIO);
	assert_int_equal(quire_map_item_state(m, 1), QUIRE_ITEM_VERIFIED | QUIRE_ITEM_FAILED);
	assert_int_equal(quire_map_item_state(m, 0), 0);
	map_end(m);
}

static void the_next_want_tries_again(void **state)
{
	struct quire_map *m = map_checked(pages(3), -EBADMSG);
	const char *p = item_ptr(m, 1);

	assert_int_equal(want(m, p, LEN), -EBADMSG);
	atomic_store(&hook.bad_offset, NO_PAGE);
	read_and_compare(m, p, 1, 0, LEN);
	map_end(m);
}

static void several_wants_of_one_bad_page(void **state)
{
	struct quire_map *m = map_checked(pages(5), -EBADMSG);
	struct quire_op ops[10];

	for (unsigned i = 0; i < 10; i++) {
		struct iovec v = io(item_ptr(m, 1) + pages(i), 1);

		quire_op_init(&ops[i]);
		assert_int_equal(quire_map_want(m, &v, 1, 0, &ops[i]), 0);
	}
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(quire_await(&ops[i]), i == 5 ? -EBADMSG : 0);
	map_end(m);
}

/* ---- raw loads ---- */

static void raw_load_of_a_refused_page(void **state)
{
	struct quire_map *m = map_checked(pages(7), -EBADMSG);
	const char *p = item_ptr(m, 1);
	uint64_t n_vmas = cache_stat().n_vmas;

	assert_true(load_traps(p + pages(7)));
	assert_true(load_traps(p + pages(7) + 99));
	assert_false(load_traps(p + pages(6)));
	assert_false(load_traps(p + pages(8)));
	assert_bytes(p, 1, 0, pages(7));
	assert_bytes(p + pages(8), 1, pages(8), LEN - pages(8));
	assert_false(quire_map_resident(m, p + pages(7), 1));
	assert_int_equal(want(m, p + pages(7), 1), -EBADMSG);
	assert_true(load_traps(p + pages(7)));

	atomic_store(&hook.bad_offset, NO_PAGE);
	assert_int_equal(want(m, p + pages(7), 1), 0);
	assert_bytes(p, 1, 0, LEN);
	assert_true(cache_stat().n_vmas <= n_vmas + 2);
	map_end(m);
}

static void many_refused_pages_and_the_end_of_their_map(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		struct quire_map *m = map_checked(NO_PAGE, 0);
		const char *p = item_ptr(m, 1);

		/* Pages are refused one after the other: none may come before its turn. */
		assert_int_equal(quire_map_stream(m, 1, QUIRE_STREAM_RANDOM), 0);
		for (unsigned i = 0; i < N_PAGES; i++) {
			atomic_store(&hook.bad_offset, pages(i));
			atomic_store(&hook.error, -EBADMSG);
			assert_true(load_traps(p + pages(i)));
		}
		map_end(m);
		/* Whoever gets the space next finds it clean. */
		m = map_checked(NO_PAGE, 0);
		assert_ptr_equal(item_ptr(m, 1), p);
		assert_bytes(p, 1, 0, LEN);
		map_end(m);
		assert_true(cache_stat().n_vmas <= 16);
	}
}

/* The thread whose loop has the page's fill under way touches it: its repeat is refused. */
static void touch_the_bad_page(struct stalled *s)
{
	*(bool *)s->arg = load_traps((char *)s->ranges[0].iov_base + pages(2));
}

static void repeat_of_an_own_fill_is_refused(void **state)
{
	for (unsigned e = 0; e < 2; e++) {
		struct quire_map *m = map_checked(pages(2), -EBADMSG);
		struct quire_op op;
		struct iovec v = io(item_ptr(m, 1), pages(10));
		bool trapped = false;
		struct stalled s = {.map = m, .ops = &op, .ranges = &v, .n = 1,
		                    .body = touch_the_bad_page, .arg = &trapped};

		quire_op_init(&op);
		stalled_start(&s, both_engines[e]);
		assert_true(trapped);
		stalled_end(&s);
		assert_int_equal(op.result, -EBADMSG);
		assert_int_equal(op.error_offset, pages(2));
		atomic_store(&hook.bad_offset, NO_PAGE);
		assert_int_equal(want(m, v.iov_base, LEN), 0);
		assert_bytes(v.iov_base, 1, 0, LEN);
		map_end(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(every_page_passes_once),
		ON_CHECKED(decrypts),
		ON_CHECKED(refused_page_is_named_and_its_neighbours_spared),
		ON_CHECKED(whatever_the_hook_says),
		ON_CHECKED(the_next_want_tries_again),
		ON_CHECKED(several_wants_of_one_bad_page),
		ON_FAULTING(raw_load_of_a_refused_page),
		ON_FAULTING(many_refused_pages_and_the_end_of_their_map),
		ON_FAULTING(repeat_of_an_own_fill_is_refused),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
