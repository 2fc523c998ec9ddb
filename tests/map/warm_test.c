/* Warm restart: what was hot is listed when a map ends, and back when it is made again. */
#include "../../src/map/warm_list.h"
#include "../support/maps.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#define N_PAGES 256
#define LIST "hot"

static struct quire_map *warm_map_of(const struct quire_item *items, size_t n, unsigned seconds)
{
	struct quire_map_options o = {
		.size = sizeof(o), .fault = fault, .warm_path = file_path(LIST), .warm_seconds = seconds};
	struct quire_map *m = NULL;
	struct quire_error err = {0};
	int rc = quire_map_create(cache, items, n, &o, &m, &err);

	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	if (rc < 0)
		fail_msg("%s", err.text);
	return m;
}

static struct quire_map *warm_map(void)
{
	struct quire_item item = {.path = file_path("f")};

	return warm_map_of(&item, 1, 0);
}

static struct quire_map_warm_stat warm_stat(struct quire_map *m)
{
	struct quire_map_warm_stat s;

	assert_int_equal(quire_map_warm_stat(m, &s), 0);
	return s;
}

/* After the replay has come to its end. */
static struct quire_map_warm_stat warmed(struct quire_map *m)
{
	struct quire_map_warm_stat s;

	while ((s = warm_stat(m)).replaying)
		sched_yield();
	return s;
}

static void fresh_file(void)
{
	unlink(file_path(LIST));
	file_write("f", 1, pages(N_PAGES));
}

/* A list of pages 3, 4, 5 and 100 of file f, the last used most. */
static void leave_list(void)
{
	fresh_file();
	struct quire_map *m = warm_map();
	const char *p = item_ptr(m, 0);

	assert_int_equal(warmed(m).load_error.code, -ENOENT);
	assert_int_equal(want(m, p + pages(3), pages(3)), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(want(m, p + pages(100), 1), 0);
	map_end(m);
}

static void brings_back_what_was_there(void **state)
{
	leave_list();
	struct quire_map *m = warm_map();
	struct quire_map_warm_stat s = warmed(m);
	const char *p = item_ptr(m, 0);

	assert_int_equal(s.load_error.code, 0);
	assert_int_equal(s.n_listed, 4);
	assert_int_equal(s.n_stale, 0);
	assert_int_equal(s.n_replayed, 4);
	assert_int_equal(map_stat(m).resident, pages(4));
	assert_true(quire_map_resident(m, p + pages(3), pages(3)));
	assert_true(quire_map_resident(m, p + pages(100), 1));
	assert_bytes(p + pages(100), 1, pages(100), pages(1));
	map_end(m);
}

static void read_list(struct warm_list *l, struct warm_run *runs, int n)
{
	struct warm_identity id;
	struct quire_error err = {0};
	int dir = open(file_path("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(warm_list_open(l, dir, LIST, &err), 0);
	assert_int_equal(warm_list_get_item(l, &id), 1);
	assert_int_equal(warm_list_get_item(l, &id), 0);
	for (int i = 0; i < n; i++)
		assert_int_equal(warm_list_get_run(l, &runs[i]), 1);
	assert_int_equal(warm_list_get_run(l, &runs[0]), 0);
	warm_list_close(l);
	close(dir);
}

static void hottest_come_first(void **state)
{
	struct warm_list *l = malloc(sizeof(*l));
	struct warm_run runs[3];
	const uint32_t units = (uint32_t)(page_size() >> WARM_UNIT_SHIFT);

	leave_list();
	read_list(l, runs, 2);
	assert_int_equal(runs[0].first, 100 * units);
	assert_int_equal(runs[0].n, units);
	assert_true(runs[0].uses > runs[1].uses);
	assert_int_equal(runs[1].first, 3 * units);
	assert_int_equal(runs[1].n, 3 * units);
	free(l);
}

static void uses_come_back_too(void **state)
{
	struct warm_list *l = malloc(sizeof(*l));
	struct warm_run first[2], second[2];

	leave_list();
	read_list(l, first, 2);
	struct quire_map *m = warm_map();
	warmed(m);
	map_end(m);
	read_list(l, second, 2);
	assert_memory_equal(first, second, sizeof(first));
	free(l);
}

static void each_item_by_itself(void **state)
{
	const char *names[] = {"a", "b", "c"};
	struct quire_item items[3] = {{0}};

	unlink(file_path(LIST));
	for (unsigned i = 0; i < 3; i++) {
		file_write(names[i], i, pages(40));
		items[i].path = file_path(names[i]);
	}
	struct quire_map *m = warm_map_of(items, 3, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(want(m, item_ptr(m, i) + pages(10 + i), pages(5)), 0);
	warmed(m);
	map_end(m);

	file_write("b", 7, pages(40)); /* another time of change */
	m = warm_map_of(items, 3, 0);
	struct quire_map_warm_stat s = warmed(m);
	assert_int_equal(s.n_listed, 15);
	assert_int_equal(s.n_stale, 5);
	assert_int_equal(s.n_replayed, 10);
	assert_true(quire_map_resident(m, item_ptr(m, 0) + pages(10), pages(5)));
	assert_false(quire_map_resident(m, item_ptr(m, 1) + pages(11), 1));
	assert_true(quire_map_resident(m, item_ptr(m, 2) + pages(12), pages(5)));
	map_end(m);
}

static void fewer_items_than_listed(void **state)
{
	struct quire_item items[2] = {{.path = file_path("f")}, {.path = file_path("f")}};

	fresh_file();
	struct quire_map *m = warm_map_of(items, 2, 0);
	warmed(m);
	assert_int_equal(want(m, item_ptr(m, 0), pages(2)), 0);
	assert_int_equal(want(m, item_ptr(m, 1), pages(3)), 0);
	map_end(m);

	m = warm_map();
	struct quire_map_warm_stat s = warmed(m);
	assert_int_equal(s.n_replayed, 2);
	assert_int_equal(s.n_stale, 3);
	map_end(m);
}

static void file_that_shrank(void **state)
{
	struct quire_item item = {.path = file_path("f"), .flags = QUIRE_ITEM_APPEND};

	fresh_file();
	struct quire_map *m = warm_map_of(&item, 1, 0);
	warmed(m);
	assert_int_equal(want(m, item_ptr(m, 0), pages(3)), 0);
	map_end(m);

	file_truncate("f", pages(N_PAGES - 1));
	m = warm_map_of(&item, 1, 0);
	assert_int_equal(warmed(m).n_stale, 3);
	assert_int_equal(map_stat(m).resident, 0);
	map_end(m);
}

static void file_that_grew(void **state)
{
	struct quire_item item = {.path = file_path("f"), .flags = QUIRE_ITEM_APPEND};

	fresh_file();
	struct quire_map *m = warm_map_of(&item, 1, 0);
	warmed(m);
	assert_int_equal(want(m, item_ptr(m, 0), pages(3)), 0);
	map_end(m);

	file_append("f", 1, pages(N_PAGES), pages(10));
	m = warm_map_of(&item, 1, 0);
	assert_int_equal(warmed(m).n_replayed, 3);
	map_end(m);
}

/* ---- files that are no list ---- */

static char *list_bytes(size_t *ret_len)
{
	struct stat st;
	int fd = file_fd(LIST);

	assert_int_equal(fstat(fd, &st), 0);
	char *bytes = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_len = (size_t)st.st_size;
	return bytes;
}

static void put_list(const char *bytes, size_t len)
{
	int fd = open(file_path(LIST), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static void map_is_made_beside_a_damaged_list(void **state)
{
	size_t len;

	leave_list();
	char *bytes = list_bytes(&len);
	bytes[len - 1] ^= 1;
	put_list(bytes, len);
	free(bytes);
	struct quire_map *m = warm_map();
	struct quire_map_warm_stat s = warmed(m);
	assert_int_equal(s.load_error.code, -EBADMSG);
	assert_int_equal(s.n_replayed, 0);
	assert_int_equal(want(m, item_ptr(m, 0), pages(2)), 0);
	map_end(m);

	m = warm_map(); /* and the list is a good one again */
	assert_int_equal(warmed(m).n_replayed, 2);
	map_end(m);
}

static void no_plain_file(void **state)
{
	fresh_file();
	assert_int_equal(mkfifo(file_path(LIST), 0600), 0);
	struct quire_map *m = warm_map();
	assert_int_equal(warmed(m).load_error.code, -EUCLEAN);
	map_end(m);
	unlink(file_path(LIST));
	assert_int_equal(mkdir(file_path(LIST), 0700), 0);
	m = warm_map();
	assert_int_equal(warmed(m).load_error.code, -EUCLEAN);
	map_end(m);
	assert_int_equal(rmdir(file_path(LIST)), 0);
}

/* ---- writing ---- */

static void directory_that_is_gone(void **state)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = fault, .warm_path = file_path("gone/hot")};
	struct quire_map *m = NULL;
	struct quire_error err = {0};
	struct quire_item item = {.path = file_path("f")};

	fresh_file();
	int rc = quire_map_create(cache, &item, 1, &o, &m, &err);
	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(mkdir(file_path("gone"), 0700), 0);
	assert_int_equal(quire_map_create(cache, &item, 1, &o, &m, &err), 0);
	assert_int_equal(rmdir(file_path("gone")), 0);
	map_end(m); /* its list has nowhere to be, which stops nobody */
}

static void written_now_and_then(void **state)
{
	struct quire_item item = {.path = file_path("f")};

	fresh_file();
	struct quire_map *m = warm_map_of(&item, 1, 1);
	assert_int_equal(want(m, item_ptr(m, 0), pages(7)), 0);
	while (warm_stat(m).n_saves == 0)
		usleep(10000);
	assert_int_equal(warm_stat(m).n_saved, 7);
	assert_int_equal(access(file_path(LIST), F_OK), 0);
	map_end(m);
}

static void ends_in_the_middle_of_a_replay(void **state)
{
	fresh_file();
	for (int i = 0; i < 10; i++) {
		struct quire_map *m = warm_map();

		if (i == 0) {
			warmed(m);
			assert_int_equal(want(m, item_ptr(m, 0), pages(N_PAGES)), 0);
		} else if (i % 2) {
			while (warm_stat(m).replaying && warm_stat(m).n_replayed < 4)
				sched_yield();
		}
		map_end(m);
	}
	struct quire_map *m = warm_map(); /* no list was cut short */
	assert_int_equal(warmed(m).n_replayed, N_PAGES);
	map_end(m);
}

static void leaves_memory_free(void **state)
{
	uint64_t budget = 8 * MIB, n;

	unlink(file_path(LIST));
	file_sparse("big", budget);
	struct quire_item item = {.path = file_path("big")};
	struct quire_map *m = warm_map_of(&item, 1, 0);
	warmed(m);
	assert_int_equal(want(m, item_ptr(m, 0), budget), 0);
	map_end(m);

	cache_anew(&(struct quire_cache_options){.budget_bytes = budget, .signal_faults = true});
	uint64_t free_before = budget - cache_stat().used;
	m = warm_map_of(&item, 1, 0);
	n = warmed(m).n_replayed;
	assert_true(n > 0 && n < budget / page_size());
	assert_int_equal(cache_stat().n_evictions, 0);
	assert_true(budget - cache_stat().used > free_before / 20);
	map_end(m);
}

/* ---- how it is asked for ---- */

static void refused(void **state)
{
	const struct quire_item item = {.path = file_path("f")};
	struct quire_map_options o = {.size = sizeof(o), .fault = fault, .warm_share = 101, .warm_path = file_path(LIST)};
	struct quire_map *m;

	fresh_file();
	int rc = quire_map_create(cache, &item, 1, &o, &m, NULL);
	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	assert_int_equal(rc, -EINVAL);
	o.warm_share = 0;
	const char *bad[] = {"", "/", "/tmp/", "..", "."};
	for (unsigned i = 0; i < 5; i++) {
		o.warm_path = bad[i];
		assert_int_equal(quire_map_create(cache, &item, 1, &o, &m, NULL), -EINVAL);
	}
	m = map_name("f");
	assert_int_equal(quire_map_warm_stat(m, &(struct quire_map_warm_stat){0}), -EINVAL);
	map_end(m);
}

static void options_of_before(void **state)
{
	struct quire_map_options o = {.size = offsetof(struct quire_map_options, warm_path), .fault = fault,
	                              .warm_path = "not looked at"};
	const struct quire_item item = {.path = file_path("f")};
	struct quire_map *m = NULL;

	fresh_file();
	int rc = quire_map_create(cache, &item, 1, &o, &m, NULL);
	if (rc == -ENOTSUP)
		skip_because("no userfaultfd");
	assert_int_equal(rc, 0);
	map_end(m);
}

static void share_of_one_page(void **state)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = fault, .warm_share = 1, .warm_path = file_path(LIST)};
	const struct quire_item item = {.path = file_path("f")};
	struct quire_map *m = NULL;

	leave_list();
	assert_int_equal(quire_map_create(cache, &item, 1, &o, &m, NULL), 0);
	assert_int_equal(warmed(m).n_replayed, 4);
	map_end(m);
}

static void destroyed_by_an_operation(void **state)
{
	leave_list();
	struct quire_map *m = warm_map();
	struct quire_op op;

	warmed(m);
	quire_op_init(&op);
	assert_int_equal(quire_map_destroy(m, &op), 0);
	assert_int_equal(quire_await(&op), 0);
	m = warm_map();
	assert_int_equal(warmed(m).n_replayed, 4);
	map_end(m);
}

static void pinned_pages_keep_map_and_thread(void **state)
{
	leave_list();
	struct quire_map *m = warm_map();

	assert_int_equal(pin(m, item_ptr(m, 0), 1), 0);
	assert_int_equal(quire_map_destroy(m, NULL), -EBUSY);
	assert_int_equal(warmed(m).n_replayed, 4);
	assert_int_equal(unpin(m, item_ptr(m, 0), 1), 0);
	map_end(m);
}

static void where_the_kernel_maps(void **state)
{
	fresh_file();
	struct quire_map *m = warm_map();
	struct quire_map_warm_stat s = warm_stat(m);

	assert_false(s.replaying);
	assert_int_equal(s.load_error.code, -ENOTSUP);
	map_end(m);
	assert_int_equal(access(file_path(LIST), F_OK), -1);
}

static void map_of_nothing(void **state)
{
	unlink(file_path(LIST));
	struct quire_map *m = warm_map_of(NULL, 0, 0);

	assert_int_equal(warm_stat(m).load_error.code, -ENOTSUP);
	map_end(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_CHECKED(brings_back_what_was_there),
		ON_SERVICE(hottest_come_first),
		ON_SERVICE(uses_come_back_too),
		ON_CHECKED(each_item_by_itself),
		ON_SERVICE(fewer_items_than_listed),
		ON_SERVICE(file_that_shrank),
		ON_SERVICE(file_that_grew),
		ON_CHECKED(map_is_made_beside_a_damaged_list),
		ON_PINNED(no_plain_file),
		ON_PINNED(directory_that_is_gone),
		ON_PINNED(written_now_and_then),
		ON_CHECKED(ends_in_the_middle_of_a_replay),
		ON_CHECKED(leaves_memory_free),
		ON_PINNED(refused),
		ON_PINNED(options_of_before),
		ON_SERVICE(share_of_one_page),
		ON_CHECKED(destroyed_by_an_operation),
		ON_CHECKED(pinned_pages_keep_map_and_thread),
		ON_KERNEL(where_the_kernel_maps),
		ON_CHECKED(map_of_nothing),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
