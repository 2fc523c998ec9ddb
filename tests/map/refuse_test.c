/* What can't be mapped, and what is said of it: nothing is mapped, and the error names the item. */
#include "../support/maps.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Refused as the second of three items, the others being good. */
static void refused(struct quire_item bad, int code, const char *word)
{
	file_write("good", 1, pages(1));
	const struct quire_item items[] = {
		{.path = file_path("good")}, bad, {.path = file_path("good")}};
	struct quire_map *m = NULL;
	struct quire_error err = {0};
	struct quire_cache_stat before = cache_stat();
	int rc = map_try(items, 3, &m, &err);

	if (rc == -ENOTSUP && code != rc)
		skip_because("no userfaultfd");
	assert_int_equal(rc, code);
	assert_null(m);
	assert_int_equal(err.code, code);
	if (strstr(err.text, word) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, word);
	assert_int_equal(cache_stat().used, before.used);
	assert_int_equal(cache_stat().n_maps, 0);
}

static void missing(void **state)
{
	refused((struct quire_item){.path = file_path("no-such-file")}, -ENOENT, "no-such-file");
	refused((struct quire_item){.path = file_path("no-such-dir/f")}, -ENOENT, "no-such-dir");
	refused((struct quire_item){.path = ""}, -ENOENT, "");
}

static void directory(void **state)
{
	refused((struct quire_item){.path = file_path("")}, -EISDIR, "irectory");
	int fd = open(file_path(""), O_RDONLY | O_CLOEXEC);
	refused((struct quire_item){.fd = fd}, -EISDIR, "irectory");
	close(fd);
}

static void fifo_does_not_hang(void **state)
{
	assert_true(mkfifo(file_path("fifo"), 0600) == 0 || errno == EEXIST);
	refused((struct quire_item){.path = file_path("fifo")}, -EINVAL, "fifo");
}

static void device(void **state)
{
	refused((struct quire_item){.path = "/dev/zero"}, -EINVAL, "/dev/zero");
}

static void socket_file(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(file_path("socket")) >= sizeof(at.sun_path))
		skip_because("the path is too long for a socket");
	memcpy(at.sun_path, file_path("socket"), strlen(file_path("socket")));
	unlink(at.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	refused((struct quire_item){.path = file_path("socket")}, -EINVAL, "socket");
	refused((struct quire_item){.fd = fd}, -EINVAL, "");
	close(fd);
}

static void unreadable(void **state)
{
	unlink(file_path("secret"));
	file_write("secret", 1, 10);
	assert_int_equal(chmod(file_path("secret"), 0), 0);
	if (access(file_path("secret"), R_OK) == 0)
		skip_because("this user may read anything");
	refused((struct quire_item){.path = file_path("secret")}, -EACCES, "secret");
}

static void bad_descriptor(void **state)
{
	refused((struct quire_item){.fd = -1}, -EBADF, "");
	refused((struct quire_item){.fd = 987654}, -EBADF, "");
}

static void range_past_the_end(void **state)
{
	file_write("f", 1, pages(2) + 10);
	const char *f = file_path("f");

	refused((struct quire_item){.path = f, .offset = pages(3)}, -EINVAL, "item 1");
	refused((struct quire_item){.path = f, .len_bytes = pages(2) + 11}, -EINVAL, "item 1");
	refused((struct quire_item){.path = f, .offset = pages(2), .len_bytes = 11}, -EINVAL, "item 1");
	refused((struct quire_item){.path = f, .offset = pages(1), .len_bytes = UINT64_MAX}, -EINVAL,
	        "item 1");
}

static void offset_within_a_page(void **state)
{
	file_write("f", 1, pages(2));
	refused((struct quire_item){.path = file_path("f"), .offset = 100}, -EINVAL, "item 1");
}

static void reserves(void **state)
{
	file_write("f", 1, pages(2));
	const char *f = file_path("f");

	refused((struct quire_item){.path = f, .reserve_bytes = pages(9)}, -EINVAL, "item 1");
	refused((struct quire_item){.path = f, .flags = QUIRE_ITEM_APPEND, .reserve_bytes = pages(1)},
	        -EINVAL, "item 1");
	refused((struct quire_item){
			.path = f, .flags = QUIRE_ITEM_APPEND, .reserve_bytes = UINT64_MAX - 5},
	        -EINVAL, "item 1");
	refused((struct quire_item){
			.path = f, .flags = QUIRE_ITEM_APPEND, .reserve_bytes = UINT64_C(1) << 60},
	        -ENOMEM, "");
}

static void unknown_flags(void **state)
{
	file_write("f", 1, pages(2));
	refused((struct quire_item){.path = file_path("f"), .flags = 1u << 20}, -EINVAL, "item 1");
}

static int never(void *arg, const void *raw, size_t len_bytes, uint64_t offset, void *page)
{
	return -EIO;
}

static void fill_hook_where_the_kernel_maps(void **state)
{
	file_write("f", 1, pages(2));
	refused((struct quire_item){.path = file_path("f"), .fill = never}, -ENOTSUP, "item 1");
}

static void options(void **state)
{
	struct quire_map_options o = {.size = 0};
	struct quire_map *m = NULL;

	assert_int_equal(quire_map_create(cache, NULL, 0, &o, &m, NULL), -EINVAL);
	o.size = sizeof(o) + 1;
	assert_int_equal(quire_map_create(cache, NULL, 0, &o, &m, NULL), -EINVAL);
	o = (struct quire_map_options){.size = sizeof(o), .fault = (enum quire_fault)77};
	assert_int_equal(quire_map_create(cache, NULL, 0, &o, &m, NULL), -EINVAL);
	assert_int_equal(quire_map_create(cache, NULL, 5, NULL, &m, NULL), -EINVAL);
	assert_null(m);
}

static void signal_faults_not_asked_for(void **state)
{
	struct quire_map_options o = {.size = sizeof(o), .fault = QUIRE_FAULT_SIGNAL};
	struct quire_map *m = NULL;
	int rc;

	cache_anew(&(struct quire_cache_options){.signal_faults = false});
	rc = quire_map_create(cache, NULL, 0, &o, &m, NULL);
	assert_true(rc == -EINVAL || rc == -ENOTSUP);
}

static void close_while_mapped(void **state)
{
	file_write("f", 1, pages(1));
	struct quire_map *m = map_name("f");

	assert_int_equal(quire_cache_close(cache), -EBUSY);
	read_and_compare(m, item_ptr(m, 0), 1, 0, pages(1));
	map_end(m);
}

/* ---- few descriptors ---- */

static struct rlimit before;

static unsigned highest_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return (unsigned)fd;
}

static void leave_descriptors(unsigned n)
{
	struct rlimit few = {highest_descriptor() + n, 0};

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
}

static void restore_descriptors(void)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void many_files_and_few_descriptors(void **state)
{
	enum { N = 200 };
	static struct quire_item items[N];
	char name[16];

	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		file_write(name, i, pages(2));
		items[i] = (struct quire_item){.path = strdup(file_path(name))};
	}
	/* The kernel's mappings take a descriptor for a moment beside those that are kept. */
	cache_anew(&(struct quire_cache_options){.max_open_files = 4, .signal_faults = true});
	/* What is open for good comes first: the arena's. */
	struct quire_map *first = map_name("d0");
	leave_descriptors(8);
	struct quire_map *m = NULL;
	int rc = map_try(items, N, &m, NULL);
	int bad = 0;
	for (unsigned i = 0; i < N && rc == 0 && bad == 0; i++)
		bad = pin(m, item_ptr(m, i), pages(2));
	restore_descriptors();
	assert_int_equal(rc, 0);
	assert_int_equal(bad, 0);
	for (unsigned i = 0; i < N; i++) {
		assert_bytes(item_ptr(m, i), i, 0, pages(2));
		assert_int_equal(unpin(m, item_ptr(m, i), pages(2)), 0);
		free((char *)(uintptr_t)items[i].path);
	}
	map_end(m);
	map_end(first);
}

static void held_descriptors_run_out(void **state)
{
	enum { N = 40 };
	struct quire_item items[N];
	struct quire_map *m = NULL;
	struct quire_error err = {0};

	file_write("f", 1, pages(1));
	struct quire_map *first = map_name("f");
	for (unsigned i = 0; i < N; i++)
		items[i] = (struct quire_item){.path = file_path("f"), .flags = QUIRE_ITEM_HOLD};
	leave_descriptors(20);
	int rc = map_try(items, N, &m, &err);
	restore_descriptors();
	assert_int_equal(rc, -EMFILE);
	assert_int_equal(err.code, -EMFILE);
	assert_int_equal(map_try(items, N, &m, &err), 0);
	map_end(m);
	map_end(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(missing),
		ON_EACH(directory),
		ON_EACH(fifo_does_not_hang),
		ON_EACH(device),
		ON_EACH(socket_file),
		ON_EACH(unreadable),
		ON_EACH(bad_descriptor),
		ON_EACH(range_past_the_end),
		ON_EACH(offset_within_a_page),
		ON_CHECKED(reserves),
		ON_EACH(unknown_flags),
		ON_KERNEL(fill_hook_where_the_kernel_maps),
		ON_AUTO(options),
		ON_AUTO(signal_faults_not_asked_for),
		ON_EACH(close_while_mapped),
		ON_EACH(many_files_and_few_descriptors),
		ON_EACH(held_descriptors_run_out),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
