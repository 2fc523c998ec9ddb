/* Volumes over a file, a blob or a volume, which stays as it is. */
#include "volume_env.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES (40 * BLOCK + 1000)

static char path[PATH_MAX + 64];
static uint8_t content[FILE_BYTES + BLOCK]; /* zeros behind it */

static void write_file(void)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, FILE_BYTES), FILE_BYTES);
	assert_int_equal(close(fd), 0);
}

static int make_file(void **state)
{
	uint64_t random = 1;
	const char *dir = getenv("TMPDIR");
	char where[PATH_MAX];

	(void)state;
	assert_non_null(realpath(dir != NULL ? dir : "/tmp", where));
	(void)snprintf(path, sizeof(path), "%s/quire-over-%d", where, (int)getpid());
	for (size_t i = 0; i + 8 <= FILE_BYTES; i += 8) {
		uint64_t word = random_next(&random);
		memcpy(content + i, &word, 8);
	}
	write_file();
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void run(void (*fn)(struct env *e, void *arg))
{
	const struct sim_faults faults = {.cut_ends_io = true};
	struct env e;

	env_init(&e, 11, ENV_UNITS, &faults);
	env_run(&e, fn, NULL);
	env_fini(&e);
}

static void begin_over(struct env *e, uint64_t size_bytes)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = size_bytes, .over_file = path};

	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), 0);
}

/* Bytes of a volume are those of `model`. */
static bool reads_as(struct quire_volume *v, uint64_t offset, size_t len, const uint8_t *model)
{
	uint8_t *buf = malloc(len);
	struct iovec iov = {buf, len};

	memset(buf, 0x55, len);
	int rc = quire_volume_read(v, offset, &iov, 1, NULL);
	bool same = rc == 0 && memcmp(buf, model, len) == 0;
	free(buf);
	return same;
}

/* ---- files ---- */

static void through(struct env *e, void *arg)
{
	static uint8_t model[42 * BLOCK];
	struct quire_volume_info info;
	struct quire_volume_extent x[8];
	uint8_t bytes[700];
	struct iovec iov = {bytes, sizeof(bytes)};

	(void)arg;
	begin_over(e, 0);
	memcpy(model, content, FILE_BYTES);
	struct quire_volume *v = open_volume(e, "v");
	assert_int_equal(quire_volume_bytes(v), 41 * BLOCK);
	assert_true(reads_as(v, 0, 41 * BLOCK, model));
	assert_true(reads_as(v, 3333, 60000, model + 3333));
	assert_int_equal(quire_volume_status(v, 0, 41 * BLOCK, 0, x, 8, NULL), 1);
	assert_true(x[0].kind == QUIRE_VOLUME_DATA && x[0].shared && x[0].generation == 0);
	/* Parts of blocks are copied up with the rest. */
	memset(bytes, 9, sizeof(bytes));
	memset(model + 5 * BLOCK - 100, 9, sizeof(bytes));
	assert_int_equal(quire_volume_write(v, 5 * BLOCK - 100, &iov, 1, 0, NULL), 0);
	/* Holes stay holes. */
	memset(model + 10 * BLOCK, 0, 2 * BLOCK);
	assert_int_equal(quire_volume_discard(v, 10 * BLOCK, 2 * BLOCK, 0, NULL), 0);
	memset(model + 40 * BLOCK + 10, 0, 100);
	assert_int_equal(quire_volume_zero(v, 40 * BLOCK + 10, 100, 0, NULL), 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "v", "v@1"), 0);
	assert_int_equal(quire_volume_clone(e->volumes, "v@1", "w"), 0);
	quire_volume_close(v);
	for (unsigned round = 0; round < 2; round++) {
		static const char *const names[] = {"v", "v@1", "w"};
		for (unsigned i = 0; i < 3; i++) {
			v = open_volume(e, names[i]);
			assert_true(reads_as(v, 0, 41 * BLOCK, model));
			quire_volume_close(v);
		}
		assert_int_equal(quire_volumes_checkpoint(e->volumes), 0);
		reopen(e);
	}
	v = open_volume(e, "w");
	assert_int_equal(quire_volume_status(v, 0, 13 * BLOCK, 0, x, 8, NULL), 5);
	assert_true(x[1].offset == 4 * BLOCK && x[1].generation == 1 && x[3].kind == QUIRE_VOLUME_HOLE && x[3].generation == 1);
	quire_volume_close(v);
	assert_true(quire_volume_find(e->volumes, "w", &info) == 0 && info.over && !info.partial);
	/* The base is as it was. */
	FILE *f = fopen(path, "r");
	static uint8_t now[FILE_BYTES];
	assert_true(f != NULL && fread(now, 1, FILE_BYTES, f) == FILE_BYTES && memcmp(now, content, FILE_BYTES) == 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(env_close(e), 0);
}

static void a_file_shows_through(void **state)
{
	(void)state;
	run(through);
}

static void sizes(struct env *e, void *arg)
{
	static const uint8_t zeros[60 * BLOCK];

	(void)arg;
	begin_over(e, 60 * BLOCK); /* larger than the file */
	struct quire_volume *v = open_volume(e, "v");
	assert_true(reads_as(v, 0, FILE_BYTES + 1000, content) && reads_as(v, 41 * BLOCK, 19 * BLOCK, zeros));
	assert_true(reads_as(v, 40 * BLOCK, BLOCK, content + 40 * BLOCK));
	/* What is cut off is gone, and no more of the file comes with more size. */
	assert_int_equal(quire_volume_resize(e->volumes, "v", 8 * BLOCK), 0);
	assert_int_equal(quire_volume_resize(e->volumes, "v", 60 * BLOCK), 0);
	assert_true(reads_as(v, 0, 8 * BLOCK, content) && reads_as(v, 8 * BLOCK, 52 * BLOCK, zeros));
	quire_volume_close(v);
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 8 * BLOCK, .over_file = path};
	assert_int_equal(quire_volume_create(e->volumes, "s", &o), 0);
	assert_int_equal(quire_volume_resize(e->volumes, "s", 16 * BLOCK), 0);
	v = open_volume(e, "s");
	assert_true(reads_as(v, 0, 8 * BLOCK, content) && reads_as(v, 8 * BLOCK, 8 * BLOCK, zeros));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void other_sizes_than_the_base(void **state)
{
	(void)state;
	run(sizes);
}

static void changed(struct env *e, void *arg)
{
	struct quire_volume_base base;
	struct quire_volume *v;
	struct timespec times[2];
	struct stat st;

	(void)arg;
	begin_over(e, 0);
	assert_int_equal(quire_volume_base(e->volumes, "v", &base, &e->err), 0);
	assert_true(base.kind == QUIRE_VOLUME_BASE_FILE && base.size_bytes == 41 * BLOCK && strcmp(base.path, path) == 0);
	assert_int_equal(quire_volume_base(e->volumes, "a", &base, &e->err), 0);
	assert_int_equal(base.kind, QUIRE_VOLUME_BASE_NONE);
	assert_int_equal(quire_volume_base(e->volumes, "x", &base, &e->err), -ENOENT);
	assert_int_equal(stat(path, &st), 0);
	times[0] = times[1] = (struct timespec){st.st_mtim.tv_sec + 1, 0};
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(quire_volume_open(e->volumes, "v", &v), -ESTALE);
	assert_int_equal(quire_volume_base(e->volumes, "v", &base, &e->err), -ESTALE);
	assert_non_null(strstr(e->err.text, path));
	assert_int_equal(base.kind, QUIRE_VOLUME_BASE_FILE);
	times[0] = times[1] = st.st_mtim;
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(quire_volume_open(e->volumes, "v", &v), 0);
	quire_volume_close(v);
	assert_int_equal(truncate(path, FILE_BYTES - 1), 0);
	assert_int_equal(quire_volume_open(e->volumes, "v", &v), -ESTALE);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(quire_volume_open(e->volumes, "v", &v), -ENOENT);
	/* It can be given up all the same. */
	assert_int_equal(quire_volume_rm(e->volumes, "v"), 0);
	write_file();
	assert_int_equal(env_close(e), 0);
}

static void a_base_that_has_changed_is_refused(void **state)
{
	(void)state;
	run(changed);
}

static void refused(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .over_file = "/tmp/quire-over-none"};
	struct quire_volume_info info = {.id = 0};
	unsigned n = 0;

	(void)arg;
	begin(e);
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), -ENOENT);
	o.over_file = "/tmp";
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), -EISDIR);
	o.over_file = "/dev/null";
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), -EINVAL);
	o.over_file = path;
	assert_int_equal(quire_volume_create(e->volumes, "a", &o), -EEXIST);
	o.over_blob = 1;
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), -EINVAL); /* one of them */
	o.over_file = NULL;
	o.over_blob = 999;
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), -ESTALE);
	while (quire_volume_ls(e->volumes, info.id, &info) == 1)
		n++;
	assert_int_equal(n, 1);
	assert_int_equal(env_close(e), 0);
}

static void what_is_no_base_is_refused(void **state)
{
	(void)state;
	run(refused);
}

/* A write to a part of a block, while the block is discarded: of the base nothing comes back. */
static void race(struct env *e, void *arg)
{
	(void)arg;
	begin_over(e, 0);
	struct quire_volume *v = open_volume(e, "v");
	struct quire_op op;
	quire_op_init(&op);
	assert_int_equal(quire_volume_discard(v, 0, BLOCK, 0, &op), 0);
	assert_int_equal(put(v, 512, 512, 5, 0), 0);
	assert_int_equal(quire_await(&op), 0);
	assert_true(holds(v, 0, 512, 0) && holds(v, 1024, BLOCK - 1024, 0));
	quire_volume_close(v);
	assert_int_equal(env_close(e), 0);
}

static void a_discarded_block_stays_discarded(void **state)
{
	(void)state;
	run(race);
}

/* ---- the others ---- */

static void over_blob(struct env *e, void *arg)
{
	struct iovec iov = {content, FILE_BYTES};
	struct quire_volume_options o = {.size = sizeof(o)};
	struct quire_volume_base base;
	struct quire_volume *v, *w;

	(void)arg;
	begin(e);
	assert_int_equal(object_begin(e->store, 0, FILE_BYTES, 0, 0, &o.over_blob), 0);
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), -EAGAIN);
	assert_int_equal(object_append(e->store, o.over_blob, &iov, 1), 0);
	assert_int_equal(store_apply(e->store, &o.over_blob, 1, NULL, 0), 0);
	assert_int_equal(quire_volume_create(e->volumes, "v", &o), 0);
	assert_int_equal(quire_volume_create(e->volumes, "w", &o), 0);
	reopen(e);
	v = open_volume(e, "v");
	w = open_volume(e, "w");
	assert_true(reads_as(v, 0, FILE_BYTES, content) && reads_as(w, 100, FILE_BYTES - 100, content + 100));
	assert_int_equal(put(v, 0, BLOCK, 3, 0), 0);
	assert_true(holds(v, 0, BLOCK, 3) && reads_as(w, 0, FILE_BYTES, content));
	quire_volume_close(v);
	quire_volume_close(w);
	assert_int_equal(quire_volume_base(e->volumes, "w", &base, &e->err), 0);
	assert_true(base.kind == QUIRE_VOLUME_BASE_BLOB && base.blob == o.over_blob);
	reopen(e);
	assert_int_equal(store_apply(e->store, NULL, 0, &o.over_blob, 1), 0);
	assert_int_equal(quire_volume_open(e->volumes, "w", &w), -ESTALE);
	assert_int_equal(env_close(e), 0);
}

static void a_blob_shows_through(void **state)
{
	(void)state;
	run(over_blob);
}

static void over_volume(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 2 * VOLUME_BYTES, .over_volume = "a"};

	(void)arg;
	begin(e);
	struct quire_volume *a = open_volume(e, "a");
	assert_int_equal(put(a, 0, 3 * BLOCK, 1, 0), 0);
	assert_int_equal(quire_volume_create(e->volumes, "b", &o), 0);
	struct quire_volume *b = open_volume(e, "b");
	assert_true(quire_volume_bytes(b) == 2 * VOLUME_BYTES && holds(b, 0, 3 * BLOCK, 1));
	assert_true(holds(b, VOLUME_BYTES, VOLUME_BYTES, 0));
	o.size_bytes = BLOCK;
	assert_int_equal(quire_volume_create(e->volumes, "c", &o), -EINVAL);
	quire_volume_close(a);
	quire_volume_close(b);
	assert_int_equal(env_close(e), 0);
}

static void over_a_volume_is_a_clone(void **state)
{
	(void)state;
	run(over_volume);
}

/* ---- with what has changed ---- */

static int64_t n_told(struct quire_volume *from, struct quire_volume *to, struct quire_volume_extent x[8])
{
	struct quire_volume_diff *d;

	assert_int_equal(quire_volume_diff_begin(from, to, 0, &d), 0);
	int64_t n = quire_volume_diff_next(d, x, 8);
	quire_volume_diff_end(d);
	return n;
}

static void differences(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .over_file = path};
	struct quire_volume_extent x[8];

	(void)arg;
	begin_over(e, 0);
	assert_int_equal(quire_volume_create(e->volumes, "w", &o), 0);
	struct quire_volume *v = open_volume(e, "v"), *w = open_volume(e, "w"), *a = open_volume(e, "a");
	assert_int_equal(n_told(v, w, x), 0); /* over one base, though they come from none */
	assert_int_equal(put(w, 7 * BLOCK, BLOCK, 1, 0), 0);
	assert_int_equal(n_told(v, w, x), 1);
	assert_true(x[0].offset == 7 * BLOCK && x[0].len_bytes == BLOCK);
	assert_int_equal(n_told(w, v, x), 1);
	assert_true(x[0].offset == 7 * BLOCK && x[0].generation == 0 && x[0].kind == QUIRE_VOLUME_DATA);
	assert_int_equal(n_told(NULL, v, x), 1); /* all of the base */
	assert_true(x[0].len_bytes == 41 * BLOCK);
	assert_int_equal(n_told(a, v, x), 1);
	quire_volume_close(v);
	quire_volume_close(w);
	quire_volume_close(a);
	assert_int_equal(env_close(e), 0);
}

static void what_has_changed_over_a_base(void **state)
{
	(void)state;
	run(differences);
}

/* ---- moved ---- */

/* The log is written again and again, in little space: what is known of the base moves like all blocks. */
static void cleaned(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 4u << 20};
	struct quire_volumes_stat stat;
	uint64_t random = 3;

	(void)arg;
	e->checkpoint_bytes = 1u << 20;
	begin_over(e, 0);
	assert_int_equal(quire_volume_snapshot(e->volumes, "v", "v@1"), 0); /* by the tree of what was moved, too */
	assert_int_equal(quire_volume_create(e->volumes, "fill", &o), 0);
	struct quire_volume *v = open_volume(e, "fill");
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(put(v, random_next(&random) % 128 * 8 * BLOCK, 8 * BLOCK, i + 1, 0), 0);
	quire_volume_close(v);
	assert_int_equal(quire_volumes_stat(e->volumes, &stat), 0);
	assert_true(stat.n_cleaned > 10);
	reopen(e);
	for (unsigned i = 0; i < 2; i++) {
		v = open_volume(e, i == 0 ? "v" : "v@1");
		assert_true(reads_as(v, 0, FILE_BYTES, content));
		quire_volume_close(v);
	}
	assert_int_equal(env_close(e), 0);
}

static void the_base_is_known_after_cleaning(void **state)
{
	(void)state;
	run(cleaned);
}

/* ---- the power ---- */

/* Of one that is being made there is all or nothing, and it can be made again. */
static void cut(struct env *e, void *arg)
{
	struct quire_volume_options o = {.size = sizeof(o), .over_file = path};
	struct quire_volume *v;

	(void)arg;
	for (uint64_t event = 0;; event++) {
		assert_int_equal(env_format(e), 0);
		assert_int_equal(env_open(e), 0);
		assert_int_equal(quire_volume_create(e->volumes, "a", &(struct quire_volume_options){.size = sizeof(o)}), 0);
		sim_cut_at(e->sim, sim_n_events(e->sim) + event, event % 4);
		int rc = quire_volume_create(e->volumes, "v", &o);
		bool was_cut = sim_is_cut(e->sim);
		assert_true(rc == 0 || was_cut);
		(void)env_close(e);
		sim_cut_at(e->sim, UINT64_MAX, 0);
		assert_int_equal(env_open(e), 0);
		if (quire_volume_open(e->volumes, "v", &v) == -ENOENT) {
			assert_true(rc != 0);
			assert_int_equal(quire_volume_create(e->volumes, "v", &o), 0);
			v = open_volume(e, "v");
		}
		assert_true(reads_as(v, 0, FILE_BYTES, content));
		quire_volume_close(v);
		assert_int_equal(env_close(e), 0);
		if (!was_cut)
			break;
	}
}

static void a_power_cut_leaves_all_or_nothing(void **state)
{
	(void)state;
	run(cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_shows_through),
		cmocka_unit_test(other_sizes_than_the_base),
		cmocka_unit_test(a_base_that_has_changed_is_refused),
		cmocka_unit_test(what_is_no_base_is_refused),
		cmocka_unit_test(a_discarded_block_stays_discarded),
		cmocka_unit_test(a_blob_shows_through),
		cmocka_unit_test(over_a_volume_is_a_clone),
		cmocka_unit_test(what_has_changed_over_a_base),
		cmocka_unit_test(the_base_is_known_after_cleaning),
		cmocka_unit_test(a_power_cut_leaves_all_or_nothing),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
