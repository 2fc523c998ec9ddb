/* export_test.c - exports of memory and of files against an array of bytes: what is read is what was written, and what is said to be
 * zeros is. Random; QUIRE_TEST_SEED repeats. */
#include "export_env.h"
#include "serve/export.h"
#include "../support/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_BYTES 300001u /* no multiple of anything */
#define LONGEST_BYTES 40000u
#define STEPS 400u

struct world {
	struct export *e;
	uint64_t seed;
	uint8_t model[SIZE_BYTES];
	uint8_t buf[LONGEST_BYTES];
	bool is_file;
};

/* ---- against the model ---- */

static void check_read(struct world *w, uint64_t at, uint32_t n)
{
	struct export_loan loan;

	assert_int_equal(w->e->ops->read(w->e, w->buf, at, n), 0);
	assert_memory_equal(w->buf, w->model + at, n);
	if (w->e->ops->lend == NULL || w->e->ops->lend(w->e, at, n, &loan) != 0)
		return;
	uint32_t done = 0;
	for (unsigned i = 0; i < loan.n_pieces; i++) {
		static const uint8_t zeros[LONGEST_BYTES];
		const struct export_piece *p = &loan.pieces[i];
		assert_memory_equal(p->bytes != NULL ? p->bytes : zeros, w->model + at + done, p->n_bytes);
		done += p->n_bytes;
	}
	assert_int_equal(done, n);
	w->e->ops->give_back(w->e, &loan);
}

static void check_status(struct world *w, uint64_t at, uint32_t n)
{
	struct export_extent extents[8];
	int n_extents = w->e->ops->status(w->e, EXPORT_ALLOCATION, 0, at, n, extents, 8);

	assert_in_range(n_extents, 1, 8);
	for (int i = 0; i < n_extents; i++) {
		assert_true(extents[i].n_bytes > 0);
		for (uint64_t k = 0; extents[i].flags & 2 && k < extents[i].n_bytes && at + k < SIZE_BYTES; k++)
			assert_int_equal(w->model[at + k], 0);
		at += extents[i].n_bytes;
	}
}

static void change(struct world *w, uint64_t at, uint32_t n)
{
	unsigned how = random_next(&w->seed) % 4 == 0 ? EXPORT_FUA : 0;
	unsigned kind = (unsigned)(random_next(&w->seed) % 4);

	if (kind == 0) {
		assert_int_equal(w->e->ops->zero(w->e, at, n, how | (random_next(&w->seed) % 2 ? EXPORT_NO_HOLE : 0)), 0);
		memset(w->model + at, 0, n);
	} else if (kind == 1) {
		/* Whatever it did, it is what it is now. */
		assert_int_equal(w->e->ops->trim(w->e, at, n, how), 0);
		assert_int_equal(w->e->ops->read(w->e, w->model + at, at, n), 0);
	} else {
		memset(w->buf, (int)(1 + random_next(&w->seed) % 255), n);
		assert_int_equal(w->e->ops->write(w->e, w->buf, at, n, how), 0);
		memcpy(w->model + at, w->buf, n);
	}
}

static void random_steps(void *arg)
{
	struct world *w = arg;

	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t at = random_next(&w->seed) % SIZE_BYTES;
		uint32_t n = (uint32_t)(1 + random_next(&w->seed) % LONGEST_BYTES);
		if (n > SIZE_BYTES - at)
			n = (uint32_t)(SIZE_BYTES - at);
		switch (random_next(&w->seed) % 8) {
		case 0:
			assert_int_equal(w->e->ops->flush(w->e), 0);
			break;
		case 1:
			assert_int_equal(w->e->ops->cache(w->e, at, n), 0);
			break;
		case 2:
			check_status(w, at, n);
			break;
		case 3:
		case 4:
			check_read(w, at, n);
			break;
		default:
			change(w, at, n);
		}
	}
	for (uint64_t at = 0; at < SIZE_BYTES; at += LONGEST_BYTES)
		check_read(w, at, (uint32_t)(SIZE_BYTES - at < LONGEST_BYTES ? SIZE_BYTES - at : LONGEST_BYTES));
}

static struct world *new_world(void)
{
	struct world *w = calloc(1, sizeof(*w));

	w->seed = random_seed();
	print_message("seed %llu\n", (unsigned long long)w->seed);
	return w;
}

static char path[64];

static void make_file(off_t n_bytes)
{
	const char *directory = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/quire-export-XXXXXX", directory != NULL ? directory : "/tmp");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, n_bytes), 0);
	close(fd);
}

static void test_memory(void **state)
{
	struct world *w = new_world();

	assert_int_equal(export_ram_create(SIZE_BYTES, &w->e, NULL), 0);
	run_in_coroutine(random_steps, w);
	assert_int_equal(w->e->ops->close(w->e), 0);
	free(w);
}

static void test_file(void **state)
{
	struct world *w = new_world();

	make_file(SIZE_BYTES);
	assert_int_equal(export_file_open(path, false, &w->e, NULL), 0);
	run_in_coroutine(random_steps, w);
	assert_int_equal(w->e->ops->close(w->e), 0);
	FILE *file = fopen(path, "re");
	uint8_t *bytes = malloc(SIZE_BYTES + 1);
	assert_int_equal(fread(bytes, 1, SIZE_BYTES + 1, file), SIZE_BYTES);
	assert_memory_equal(bytes, w->model, SIZE_BYTES);
	free(bytes);
	fclose(file);
	unlink(path);
	free(w);
}

/* ---- files that are not what they were ---- */

static void use_short_file(void *arg)
{
	struct world *w = arg;

	assert_int_equal(w->e->ops->read(w->e, w->buf, 0, 1000), 0);
	assert_int_equal(w->e->ops->read(w->e, w->buf, 9000, 1000), -EINVAL);
	assert_int_equal(w->e->ops->cache(w->e, 9000, 1000), -EINVAL);
	struct export_extent extents[4];
	assert_in_range(w->e->ops->status(w->e, EXPORT_ALLOCATION, 0, 6000, 4000, extents, 4), 1, 4);
}

static void test_a_file_that_was_cut(void **state)
{
	struct world *w = new_world();
	struct export_description about;

	make_file(10000);
	assert_int_equal(export_file_open(path, false, &w->e, NULL), 0);
	w->e->ops->describe(w->e, &about);
	assert_int_equal(about.size_bytes, 10000);
	assert_int_equal(truncate(path, 5000), 0);
	run_in_coroutine(use_short_file, w);
	assert_int_equal(w->e->ops->close(w->e), 0);
	unlink(path);
	free(w);
}

static void test_a_file_to_be_read_only(void **state)
{
	struct export_description about;
	struct export *e;

	make_file(10000);
	assert_int_equal(chmod(path, 0400), 0);
	assert_int_equal(export_file_open(path, true, &e, NULL), 0);
	e->ops->describe(e, &about);
	assert_int_equal(about.flags, EXPORT_READ_ONLY | EXPORT_CACHE);
	assert_int_equal(e->ops->close(e), 0);
	unlink(path);
}

static void test_what_is_no_file(void **state)
{
	struct quire_error err;
	struct export *e;

	make_file(0);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(export_file_open(path, true, &e, &err), -EINVAL);
	assert_int_equal(export_file_open(path, false, &e, &err), -EINVAL);
	unlink(path);
	assert_int_equal(export_file_open(path, false, &e, &err), -ENOENT);
	assert_int_equal(export_ram_create((UINT64_C(1) << 48) + 1, &e, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_a_file_that_was_cut),
		cmocka_unit_test(test_a_file_to_be_read_only),
		cmocka_unit_test(test_what_is_no_file),
	};
	return cmocka_run_group_tests_name("exports", tests, NULL, NULL);
}
