/* keep_test.c - pools that a service keeps in a store. */
#include "keep_env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_kept_pool_lives_without_clients(void **state)
{
	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *kept = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1), *other = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 2);
	assert_int_equal(quire_tmem_remote_save(kept), 0);
	assert_int_equal(env_put(kept, 1, 11), 0);
	assert_int_equal(env_put(other, 1, 11), 0);
	assert_int_equal(env_stat(&keep_env).n_kept, 1);
	assert_int_equal(env_stat(&keep_env).n_saved, 1);
	quire_tmem_disconnect(c);
	env_await_clients(&keep_env, 0);
	c = env_connect(&keep_env, NULL);
	assert_int_equal(keep_try_pool(c, 2), -ENOENT);
	assert_int_equal(env_get(keep_open_pool(c, 1), 1, 11), 1);
	quire_tmem_disconnect(c);
	keep_down();
	keep_unmake();
}

static void a_stopped_service_saves_all_that_is_shared(void **state)
{
	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL), *gone = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *kept = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1), *never = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 2);
	(void)keep_make_pool(c, QUIRE_TMEM_EPHEMERAL, 3);
	(void)keep_make_pool(gone, QUIRE_TMEM_PERSISTENT, 4);
	assert_int_equal(quire_tmem_remote_save(kept), 0);
	assert_int_equal(env_put(kept, 1, 11), 0);
	assert_int_equal(env_put(never, 1, 12), 0);
	quire_tmem_disconnect(gone);
	env_await_clients(&keep_env, 1);
	keep_down();
	assert_int_equal(keep_n_told, 0);
	quire_tmem_disconnect(c);
	keep_up(0);
	c = env_connect(&keep_env, NULL);
	assert_int_equal(env_get(keep_open_pool(c, 1), 1, 11), 1);
	assert_int_equal(env_get(keep_open_pool(c, 2), 1, 12), 1);
	assert_int_equal(keep_try_pool(c, 3), -ENOENT);
	assert_int_equal(keep_try_pool(c, 4), -ENOENT);
	quire_tmem_disconnect(c);
	keep_down();
	keep_unmake();
}

/* The last save needs some of it. */
static void a_full_budget_is_no_reason_to_lose_a_pool(void **state)
{
	struct quire_tmem_service_options so = {.client_bytes = 128 * MIB};
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .page_bytes = 65536};
	static uint8_t page[65536];
	struct quire_tmem_remote *fill;

	keep_make();
	keep_up_with(&so);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1);
	assert_int_equal(env_put(pool, 1, 1), 0);
	assert_int_equal(quire_tmem_remote_create(c, &o, &fill, NULL), 0);
	env_noise(page, sizeof(page), 1);
	int rc = 0;
	for (uint32_t i = 0; rc == 0; i++) {
		const struct quire_tmem_key key = env_key(1, i);
		memcpy(page, &i, sizeof(i));
		rc = quire_tmem_remote_put(fill, &key, page);
	}
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(quire_tmem_remote_save(pool), -ENOMEM);
	keep_down();
	assert_int_equal(keep_n_told, 0);
	quire_tmem_disconnect(c);
	keep_up(0);
	c = env_connect(&keep_env, NULL);
	assert_int_equal(env_get(keep_open_pool(c, 1), 1, 1), 1);
	quire_tmem_disconnect(c);
	keep_down();
	keep_unmake();
}

static void what_is_forgotten_is_gone(void **state)
{
	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1);
	assert_int_equal(quire_tmem_remote_forget(pool), -ENOENT);
	assert_int_equal(quire_tmem_remote_save(pool), 0);
	assert_int_equal(env_put(pool, 1, 11), 0);
	assert_int_equal(quire_tmem_remote_forget(pool), 0);
	assert_int_equal(env_stat(&keep_env).n_kept, 0);
	assert_int_equal(env_get(pool, 1, 11), 1);
	quire_tmem_remote_destroy(pool);
	assert_int_equal(keep_try_pool(c, 1), -ENOENT);
	keep_down();
	quire_tmem_disconnect(c);
	keep_up(0);
	assert_int_equal(env_stat(&keep_env).n_kept, 0);
	keep_down();
	keep_unmake();
}

static void who_may_not_save_is_told(void **state)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SPILL};
	struct quire_tmem_remote *spills;

	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = env_pool(c, QUIRE_TMEM_PERSISTENT);
	assert_int_equal(quire_tmem_remote_save(pool), -EPERM);
	assert_int_equal(quire_tmem_remote_forget(pool), -EPERM);
	assert_int_equal(quire_tmem_remote_save(keep_make_pool(c, QUIRE_TMEM_EPHEMERAL, 1)), -EPERM);
	assert_int_equal(quire_tmem_remote_create(c, &o, &spills, NULL), -EPERM);
	quire_tmem_disconnect(c);
	keep_down();
	keep_unmake();
	/* Where nothing is kept. */
	env_start(&keep_env, NULL);
	c = env_connect(&keep_env, NULL);
	pool = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1);
	assert_int_equal(quire_tmem_remote_save(pool), -EOPNOTSUPP);
	assert_int_equal(quire_tmem_remote_forget(pool), -EOPNOTSUPP);
	quire_tmem_disconnect(c);
	env_stop(&keep_env);
}

static void kept_pools_have_a_cap(void **state)
{
	keep_make();
	keep_up(10 * MIB);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	for (uint8_t i = 1; i <= 3; i++)
		assert_int_equal(quire_tmem_remote_save(keep_make_pool(c, QUIRE_TMEM_PERSISTENT, i)), i < 3 ? 0 : -ENOSPC);
	assert_int_equal(env_stat(&keep_env).n_kept, 2);
	keep_down();
	assert_int_equal(keep_n_told, 1);
	assert_string_equal(keep_told, "saved pool 03000000000000000000000000000000: not saved: as many are kept as may be");
	quire_tmem_disconnect(c);
	/* And what is more than that is not restored, nor lost. */
	keep_up(4 * MIB);
	assert_int_equal(env_stat(&keep_env).n_kept, 1);
	assert_int_equal(keep_n_told, 1);
	keep_down();
	keep_up(0);
	assert_int_equal(env_stat(&keep_env).n_kept, 2);
	assert_int_equal(keep_n_told, 0);
	keep_down();
	keep_unmake();
}

/* A bit of what lies furthest in the store, of n things that are there. */
static void flip(const uint8_t (*things)[32], unsigned n)
{
	char path[256];
	struct stat st;

	keep_in_dir(path, "store/capacity");
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	uint8_t *last = map;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = memmem(map, (size_t)st.st_size, things[i], sizeof(things[i]));
		assert_non_null(at);
		last = at > last ? at : last;
	}
	*last ^= 1;
	assert_int_equal(msync(map, (size_t)st.st_size, MS_SYNC), 0);
	munmap(map, (size_t)st.st_size);
	close(fd);
}

static void a_damaged_image_is_told_and_left_alone(void **state)
{
	uint8_t page[PAGE], begins[20][32];

	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *good = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1), *bad = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 2);
	for (uint32_t i = 0; i < 20; i++) {
		const struct quire_tmem_key key = env_key(1, i);
		env_noise(page, PAGE, 100 + i);
		memcpy(begins[i], page, sizeof(begins[i]));
		assert_int_equal(quire_tmem_remote_put(bad, &key, page), 0);
	}
	assert_int_equal(env_put(good, 1, 1), 0);
	keep_down();
	quire_tmem_disconnect(c);
	flip(begins, 20);

	keep_up(0);
	assert_int_equal(keep_n_told, 1);
	assert_memory_equal(keep_told, "saved pool 02000000000000000000000000000000: ", 45);
	c = env_connect(&keep_env, NULL);
	assert_int_equal(env_get(keep_open_pool(c, 1), 1, 1), 1);
	assert_int_equal(keep_try_pool(c, 2), -ENOENT);
	keep_down();
	quire_tmem_disconnect(c);
	/* It stays, until another takes its place. */
	keep_up(0);
	assert_int_equal(keep_n_told, 1);
	c = env_connect(&keep_env, NULL);
	bad = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 2);
	assert_int_equal(quire_tmem_remote_save(bad), 0);
	keep_down();
	quire_tmem_disconnect(c);
	keep_up(0);
	assert_int_equal(keep_n_told, 0);
	assert_int_equal(env_stat(&keep_env).n_kept, 2);
	keep_down();
	keep_unmake();
}

static void one_whose_name_is_damaged_is_told_by_its_blob(void **state)
{
	uint8_t name[1][32];

	memcpy(name, "02000000000000000000000000000000", sizeof(name));
	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL);
	assert_int_equal(quire_tmem_remote_save(keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 2)), 0);
	quire_tmem_disconnect(c);
	keep_down();
	flip(name, 1);
	keep_up(0);
	assert_int_equal(keep_n_told, 1);
	assert_memory_equal(keep_told, "saved pool in blob ", 19);
	assert_int_equal(env_stat(&keep_env).n_kept, 0);
	keep_down();
	keep_unmake();
}

static void images_of_others_are_none_of_its_business(void **state)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};
	struct quire_tmem_pool *pool;

	keep_make();
	keep_up(0);
	assert_int_equal(quire_tmem_pool_create(keep_env.tmem, &o, &pool, NULL), 0);
	assert_int_equal(quire_tmem_pool_save(pool, keep_store, QUIRE_CLASS_CAPACITY, "mine", NULL), 0);
	/* Of such a name, but another pool's. */
	assert_int_equal(quire_tmem_pool_save(pool, keep_store, QUIRE_CLASS_CAPACITY, "01000000000000000000000000000000", NULL), 0);
	quire_tmem_pool_destroy(pool);
	keep_down();
	keep_up(0);
	assert_int_equal(keep_n_told, 1);
	assert_int_equal(env_stat(&keep_env).n_kept, 0);
	assert_int_equal(quire_tmem_pool_forget(keep_store, "mine"), 0);
	keep_down();
	keep_unmake();
}

/* ---- beside others ---- */

static struct saver {
	struct quire_tmem_remote *pool;
	_Atomic bool done;
	int rc;
} saver;

static void *save(void *arg)
{
	saver.rc = quire_tmem_remote_save(saver.pool);
	atomic_store(&saver.done, true);
	return NULL;
}

static void a_save_holds_nobody_up(void **state)
{
	const unsigned enough = 20;
	unsigned most = 0;

	keep_make();
	keep_up(0);
	struct quire_tmem_client *c = env_connect(&keep_env, NULL), *other = env_connect(&keep_env, NULL);
	struct quire_tmem_remote *pool = env_pool(other, QUIRE_TMEM_PERSISTENT);
	saver.pool = keep_make_pool(c, QUIRE_TMEM_PERSISTENT, 1);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(env_put(saver.pool, i, i), 0);
	assert_int_equal(env_put(pool, 1, 1), 0);
	/* A save is short, and on a busy machine its thread may not let the other in: only one of them need show it. */
	for (unsigned turn = 0; turn < 2000 && most < enough; turn++) {
		unsigned n = 0;
		pthread_t thread;
		atomic_store(&saver.done, false);
		assert_int_equal(pthread_create(&thread, NULL, save, NULL), 0);
		for (; !atomic_load(&saver.done); n++)
			assert_int_equal(env_get(pool, 1, 1), 1);
		pthread_join(thread, NULL);
		assert_int_equal(saver.rc, 0);
		most = n > most ? n : most;
	}
	assert_true(most >= enough);
	quire_tmem_disconnect(c);
	quire_tmem_disconnect(other);
	keep_down();
	keep_unmake();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kept_pool_lives_without_clients),
		cmocka_unit_test(a_stopped_service_saves_all_that_is_shared),
		cmocka_unit_test(a_full_budget_is_no_reason_to_lose_a_pool),
		cmocka_unit_test(what_is_forgotten_is_gone),
		cmocka_unit_test(who_may_not_save_is_told),
		cmocka_unit_test(kept_pools_have_a_cap),
		cmocka_unit_test(a_damaged_image_is_told_and_left_alone),
		cmocka_unit_test(one_whose_name_is_damaged_is_told_by_its_blob),
		cmocka_unit_test(images_of_others_are_none_of_its_business),
		cmocka_unit_test(a_save_holds_nobody_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
