/* Which engine a loop gets, as QUIRE_MASK of the environment says. */
#include "on_both.h"

static bool expect_uring;

static void auto_takes_what_is_there(void **state)
{
	struct quire_loop *loop;
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	if (expect_uring && quire_loop_engine(loop) == QUIRE_ENGINE_THREADS) {
		destroy(loop);
		print_message("skipped: io_uring is not to be had here\n");
		skip();
	}
	assert_int_equal(quire_loop_engine(loop), expect_uring ? QUIRE_ENGINE_URING : QUIRE_ENGINE_THREADS);
	destroy(loop);
}

static void forcing_io_uring_tells_at_once(void **state)
{
	struct quire_loop_options o = {.size = sizeof(o), .engine = QUIRE_ENGINE_URING};
	struct quire_loop *loop = NULL;
	struct quire_error err;
	int rc = quire_loop_create(&o, &loop, &err);
	if (!expect_uring) {
		assert_int_equal(rc, -ENOTSUP);
		assert_int_equal(err.code, -ENOTSUP);
		assert_null(loop);
	} else if (rc == 0) {
		destroy(loop);
	} else {
		assert_int_equal(rc, -ENOTSUP);
	}
}

static void threads_are_always_there(void **state)
{
	struct quire_loop_options o = {.size = sizeof(o), .engine = QUIRE_ENGINE_THREADS};
	struct quire_loop *loop;
	assert_int_equal(quire_loop_create(&o, &loop, NULL), 0);
	assert_int_equal(quire_loop_engine(loop), QUIRE_ENGINE_THREADS);
	destroy(loop);
}

static void the_service_follows(void **state)
{
	struct quire_loop *loop, *other;
	assert_int_equal(quire_loop_create(NULL, &other, NULL), 0);
	assert_int_equal(service_get(&loop, NULL), 0);
	assert_int_equal(quire_loop_engine(loop), quire_loop_engine(other));
	service_put();
	destroy(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(auto_takes_what_is_there),
		cmocka_unit_test(forcing_io_uring_tells_at_once),
		cmocka_unit_test(threads_are_always_there),
		cmocka_unit_test(the_service_follows),
	};
	const char *mask = getenv("QUIRE_MASK");
	expect_uring = mask == NULL || strstr(mask, "io_uring") == NULL;
	return cmocka_run_group_tests_name("choice", tests, NULL, NULL);
}
