/* Stores: opened, held, renamed, changed; what is there instead of one. */
#include "blob_env.h"

#include "../../src/base/crc32c.h"
#include "../../src/store/format.h"

#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- held ---- */

/* Another process that has the store open until told to end. */
struct holder {
	pid_t pid;
	int to, from;
};

static struct holder holder_start(void)
{
	int to[2], from[2];
	char c = 0;

	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(to[1]);
		close(from[0]);
		if (env_open(0) < 0)
			_exit(1);
		(void)!write(from[1], &c, 1);
		(void)!read(to[0], &c, 1);
		_exit(quire_store_close(store) < 0 || quire_cache_close(cache) < 0);
	}
	close(to[0]);
	close(from[1]);
	assert_int_equal(read(from[0], &c, 1), 1);
	return (struct holder){pid, to[1], from[0]};
}

static void holder_end(struct holder *h)
{
	int status;

	close(h->to);
	close(h->from);
	assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
	assert_int_equal(status, 0);
}

static void another_process_holds_it(void **state)
{
	char pid[32];

	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	struct holder h = holder_start();
	snprintf(pid, sizeof(pid), "process %d", (int)h.pid);
	assert_int_equal(env_open(0), -EBUSY);
	assert_non_null(strstr(err.text, pid));
	assert_int_equal(quire_store_rename(dir, file_path("elsewhere"), &err), -EBUSY);
	assert_non_null(strstr(err.text, pid));
	assert_int_equal(env_open(QUIRE_STORE_READ_ONLY), 0);
	env_close();
	holder_end(&h);
	assert_int_equal(env_open(0), 0);
}

static void a_killed_holder_holds_nothing(void **state)
{
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	struct holder h = holder_start();
	kill(h.pid, SIGKILL);
	assert_int_equal(waitpid(h.pid, NULL, 0), h.pid);
	close(h.to);
	close(h.from);
	assert_int_equal(env_open(0), 0);
	assert_int_equal(check(), 0);
}

static void opened_twice_by_one_process(void **state)
{
	struct quire_store *second;

	assert_int_equal(quire_store_open(cache, dir, 0, &second, &err), -EBUSY);
	assert_int_equal(quire_cache_close(cache), -EBUSY);
	assert_int_equal(quire_store_open(cache, dir, 7, &second, &err), -EINVAL);
}

static void read_only_beside_a_writer(void **state)
{
	uint64_t id = put(10000), later;
	struct quire_store *reader, *writer = store;
	struct quire_store_stat st;

	assert_int_equal(quire_store_open(cache, dir, QUIRE_STORE_READ_ONLY, &reader, &err), 0);
	later = put(777);
	store = reader;
	assert_int_equal(verify(id, 10000), 0);
	assert_int_equal(verify(later, 777), -ESTALE);
	assert_int_equal(quire_blob_alloc(reader, NULL, &later), -EROFS);
	assert_int_equal(delete(id), -EROFS);
	assert_int_equal(quire_blob_abort(reader, id), -EROFS);
	assert_int_equal(quire_store_class_add(reader, QUIRE_CLASS_STAGING, NULL, MIB, &err), -EROFS);
	assert_int_equal(quire_store_class_grow(reader, QUIRE_CLASS_CAPACITY, GIB, &err), -EROFS);
	assert_int_equal(quire_store_stat(reader, &st), 0);
	assert_int_equal(st.n_objects, 1);
	assert_int_equal(check(), 0);
	assert_int_equal(quire_store_close(reader), 0);
	store = writer;
}

static void renamed(void **state)
{
	static char to[512];
	uint64_t id;

	snprintf(to, sizeof(to), "%s", file_path("renamed"));
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	assert_int_equal(env_open(0), 0);
	id = put(3);
	env_close();
	assert_int_equal(mkdir(to, 0755), 0);
	assert_int_equal(quire_store_rename(dir, to, &err), -EEXIST);
	assert_int_equal(rmdir(to), 0);
	assert_int_equal(quire_store_rename(dir, to, &err), 0);
	assert_int_equal(env_open(0), -ENOENT);
	assert_int_equal(quire_store_rename(dir, to, &err), -ENOENT);
	dir = to;
	assert_int_equal(env_open(0), 0);
	assert_int_equal(verify(id, 3), 0);
}

/* ---- classes ---- */

static void class_added(void **state)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .cls = QUIRE_CLASS_STAGING};
	struct quire_blob_props props;
	struct quire_store_stat st;
	uint64_t id;

	assert_int_equal(quire_blob_alloc(store, &hints, &id), -ENOENT);
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 4096, &err), -EINVAL);
	assert_false(exists(in_dir("staging")));
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 32 * MIB, &err), 0);
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 32 * MIB, &err), -EEXIST);
	assert_int_equal(quire_store_class_add(store, (enum quire_class)9, NULL, 32 * MIB, &err), -EINVAL);
	id = begin(QUIRE_CLASS_STAGING);
	assert_int_equal(append(id, 0, 300000), 0);
	assert_int_equal(commit(id), 0);
	env_reopen();
	assert_int_equal(verify(id, 300000), 0);
	assert_int_equal(quire_blob_props(store, id, &props), 0);
	assert_int_equal(props.cls, QUIRE_CLASS_STAGING);
	assert_int_equal(quire_store_stat(store, &st), 0);
	assert_true(st.classes[1].present);
	assert_false(st.classes[2].present);
	assert_int_equal(st.classes[1].bytes, 32 * MIB);
	assert_int_equal(check(), 0);
}

static void class_options_are_checked(void **state)
{
	struct quire_class_options o = {.bytes = 4 * MIB};

	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), -EINVAL); /* no size */
	o.size = sizeof(o) + 8;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), -EINVAL);
	o.size = sizeof(o);
	o.durable = (enum quire_durable)3;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), -EINVAL);
	o.durable = QUIRE_DURABLE_PROCESS;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_STAGING, &o, &err), -EINVAL);
	o.durable = QUIRE_DURABLE_POWER;
	o.dax = QUIRE_DAX_OFF;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), -EINVAL);
	o.durable = QUIRE_DURABLE_DEFAULT;
	o.dax = QUIRE_DAX_ON;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_STAGING, &o, &err), -EINVAL);
	o.device = "x";
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), -EINVAL);
	o.device = NULL;
	o.dax = (enum quire_dax)3;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), -EINVAL);
	assert_false(exists(in_dir("pmem")) || exists(in_dir("staging")));
}

/* Where there is DAX: tests/vm/dax_test.c. */
static void class_without_dax(void **state)
{
	struct quire_class_options o = {.size = sizeof(o), .bytes = 8 * MIB, .dax = QUIRE_DAX_ON};

	int rc = quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err);
	if (rc == 0) {
		print_message("there is DAX\n");
		skip();
	}
	assert_int_equal(rc, -ENOTSUP);
	assert_non_null(strstr(err.text, "DAX"));
	assert_false(exists(in_dir("pmem")));
	o.dax = QUIRE_DAX_OFF;
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_STAGING, &o, &err), 0);
	assert_int_equal(quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err), 0);
	env_reopen();
	assert_int_equal(check(), 0);
}

/* And again after the store was closed: what was wished is kept. */
static void class_mapped_for_the_process(void **state)
{
	const struct quire_class_options o = {.size = sizeof(o), .bytes = 8 * MIB, .durable = QUIRE_DURABLE_PROCESS};
	struct quire_store_stat st;
	uint64_t id = 0;

	int rc = quire_store_class_add_with(store, QUIRE_CLASS_PMEM, &o, &err);
	if (rc == -ENOTSUP) {
		print_message("%s\n", err.text); /* no libpmem2, or a file system without fallocate */
		skip();
	}
	assert_int_equal(rc, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(quire_store_stat(store, &st), 0);
		assert_int_equal(st.classes[QUIRE_CLASS_PMEM].medium, QUIRE_MEDIUM_PMEM);
		assert_int_not_equal(st.classes[QUIRE_CLASS_PMEM].durable, QUIRE_DURABLE_DEFAULT);
		assert_int_not_equal(st.classes[QUIRE_CLASS_CAPACITY].medium, QUIRE_MEDIUM_PMEM);
		if (i == 0) {
			id = begin(QUIRE_CLASS_PMEM);
			assert_int_equal(append(id, 0, 300000), 0);
			assert_int_equal(commit(id), 0);
		}
		assert_int_equal(verify(id, 300000), 0);
		env_reopen();
	}
	assert_int_equal(check(), 0);
}

static void leftover_of_an_addition_is_replaced(void **state)
{
	int fd = open(in_dir("staging"), O_CREAT | O_WRONLY, 0644);

	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	close(fd);
	env_reopen();
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 32 * MIB, &err), 0);
	env_reopen();
}

static void class_grown(void **state)
{
	struct quire_store_stat st;

	assert_int_equal(quire_store_class_grow(store, QUIRE_CLASS_CAPACITY, CAPACITY_BYTES / 2, &err), -EINVAL);
	assert_int_equal(quire_store_class_grow(store, QUIRE_CLASS_STAGING, GIB, &err), -ENOENT);
	assert_int_equal(quire_store_class_grow(store, (enum quire_class)3, GIB, &err), -EINVAL);
	assert_int_equal(quire_store_class_grow(store, QUIRE_CLASS_CAPACITY, 2 * CAPACITY_BYTES, &err), 0);
	env_reopen();
	assert_int_equal(quire_store_stat(store, &st), 0);
	assert_int_equal(st.classes[0].bytes, 2 * CAPACITY_BYTES);
	assert_int_equal(verify(put(100000), 100000), 0);
	assert_int_equal(check(), 0);
}

/* ---- something else instead ---- */

static void assert_refused(int code)
{
	int rc = env_open(0);

	assert_int_equal(rc, code);
	assert_int_equal(err.code, code);
	assert_true(strlen(err.text) > 0);
	assert_int_equal(env_open(QUIRE_STORE_READ_ONLY), code);
}

static void missing(void **state)
{
	env_cache();
	assert_refused(-ENOENT);
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_refused(-ENOENT);
	file_sparse("plain", 10);
	dir = file_path("plain");
	assert_refused(-ENOENT);
}

static void empty_and_truncated(void **state)
{
	env_close();
	assert_int_equal(truncate(in_dir("capacity"), CAPACITY_BYTES / 2), 0);
	assert_refused(-EUCLEAN);
	assert_int_equal(truncate(in_dir("capacity"), 1), 0);
	assert_refused(-EUCLEAN);
	assert_int_equal(truncate(in_dir("capacity"), 0), 0);
	assert_refused(-EUCLEAN);
}

static void foreign(void **state)
{
	static unsigned char noise[1 << 20];

	env_close();
	int fd = open(in_dir("capacity"), O_WRONLY);
	fill(1, 0, noise, sizeof(noise));
	assert_int_equal(pwrite(fd, noise, sizeof(noise), 0), sizeof(noise));
	close(fd);
	assert_refused(-EUCLEAN);
}

static void edit_superblocks(void (*edit)(struct superblock_le *block), unsigned n)
{
	struct superblock_le *block = malloc(sizeof(*block));
	int fd = open(in_dir("capacity"), O_RDWR);

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(pread(fd, block, sizeof(*block), i * FORMAT_SUPERBLOCK_STEP), sizeof(*block));
		edit(block);
		assert_int_equal(pwrite(fd, block, sizeof(*block), i * FORMAT_SUPERBLOCK_STEP), sizeof(*block));
	}
	close(fd);
	free(block);
}

static void newer_version(struct superblock_le *block)
{
	size_t from = offsetof(struct superblock_le, version);

	block->version = htole32(FORMAT_VERSION + 1);
	block->crc = htole32(crc32c(0, (char *)block + from, sizeof(*block) - from));
}

static void damaged(struct superblock_le *block)
{
	block->generation ^= 1;
}

static void newer_format(void **state)
{
	env_close();
	edit_superblocks(newer_version, 2);
	assert_refused(-ENOTSUP);
}

static void damaged_superblocks(void **state)
{
	uint64_t id = put(12345);

	env_close();
	edit_superblocks(damaged, 1);
	assert_int_equal(env_open(0), 0);
	assert_int_equal(verify(id, 12345), 0);
	assert_true(check() > 0);
	env_close();
	edit_superblocks(damaged, 1); /* good again */
	edit_superblocks(damaged, 2);
	assert_refused(-EBADMSG);
}

static void class_files_gone_and_swapped(void **state)
{
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, CAPACITY_BYTES, &err), 0);
	env_close();
	assert_int_equal(rename(in_dir("staging"), in_dir("kept")), 0);
	assert_refused(-ENOENT);
	assert_int_equal(rename(in_dir("capacity"), in_dir("staging")), 0);
	assert_int_equal(rename(in_dir("kept"), in_dir("capacity")), 0);
	assert_refused(-ESTALE);
}

static void class_of_another_store(void **state)
{
	static char mine[512];

	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, CAPACITY_BYTES, &err), 0);
	env_close();
	snprintf(mine, sizeof(mine), "%s", in_dir("staging"));
	env_name_setup(NULL);
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	assert_int_equal(env_open(0), 0);
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, mine, 0, &err), -EEXIST);
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, CAPACITY_BYTES, &err), 0);
	env_close();
	assert_int_equal(rename(mine, in_dir("staging")), 0);
	assert_refused(-ESTALE);
}

/* ---- check ---- */

static void count_finding(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset, const char *text)
{
	if (error == -EBADMSG && id != 0)
		*(uint64_t *)arg = id;
}

static int stop_it(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	return 1;
}

static void check_names_the_damaged(void **state)
{
	struct quire_check_options opts = {.size = sizeof(opts), .found = count_finding};
	uint64_t id = put(8 * 4096), good = put(8 * 4096), found = 0;
	static char page[4096], bytes[4096];
	int fd = open(in_dir("capacity"), O_RDWR);

	fill(id, 3 * 4096, page, sizeof(page));
	off_t at = 0;
	while (pread(fd, bytes, sizeof(bytes), at) == sizeof(bytes) && memcmp(bytes, page, sizeof(page)) != 0)
		at += 4096;
	bytes[77] ^= 4;
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), at), sizeof(bytes));
	close(fd);
	env_reopen();
	opts.arg = &found;
	assert_int_equal(quire_store_check(store, &opts), 1);
	assert_int_equal(found, id);
	opts.structure_only = true;
	assert_int_equal(quire_store_check(store, &opts), 0);
	opts.structure_only = false;
	opts.progress = stop_it;
	assert_int_equal(quire_store_check(store, &opts), -ECANCELED);
	assert_int_equal(verify(id, 8 * 4096), -EBADMSG);
	assert_int_equal(verify(good, 8 * 4096), 0);
	assert_int_equal(read_at(id, 4096, bytes, 4096), 4096);
}

static void check_at_a_rate(void **state)
{
	struct quire_check_options opts = {.size = sizeof(opts), .max_bytes_per_s = 64 * MIB};

	put(8 * MIB);
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_int_equal(quire_store_check(store, &opts), 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_true((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9 >= 0.12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_NAME(another_process_holds_it),
		WITH_NAME(a_killed_holder_holds_nothing),
		WITH_STORE(opened_twice_by_one_process),
		WITH_STORE(read_only_beside_a_writer),
		WITH_NAME(renamed),
		WITH_STORE(class_added),
		WITH_STORE(class_options_are_checked),
		WITH_STORE(class_without_dax),
		WITH_STORE(class_mapped_for_the_process),
		WITH_STORE(leftover_of_an_addition_is_replaced),
		WITH_STORE(class_grown),
		WITH_NAME(missing),
		WITH_STORE(empty_and_truncated),
		WITH_STORE(foreign),
		WITH_STORE(newer_format),
		WITH_STORE(damaged_superblocks),
		WITH_STORE(class_files_gone_and_swapped),
		WITH_STORE(class_of_another_store),
		WITH_STORE(check_names_the_damaged),
		WITH_STORE(check_at_a_rate),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
