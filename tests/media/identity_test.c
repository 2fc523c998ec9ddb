/* Each kind of change × each kind of file: what a read says, and what a look says. */
#include "media_env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LEN 20000u

/* ---- changes ---- */

static void rewrite(void)
{
	int fd = open(env_path("f"), O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, 100), 1);
	close(fd);
}

static void cut(void)
{
	assert_int_equal(truncate(env_path("f"), 5000), 0);
}

static void grow(void)
{
	assert_int_equal(truncate(env_path("f"), LEN + 5000), 0);
}

static void append(void)
{
	env_append("f", 1, LEN, 7000);
}

static void rename_over(void)
{
	env_write("f.new", 2, LEN);
	assert_int_equal(rename(env_path("f.new"), env_path("f")), 0);
}

static void delete(void)
{
	assert_int_equal(unlink(env_path("f")), 0);
}

/* File systems take the time from a clock that ticks a few hundred times a second. */
static void let_the_clock_tick(void)
{
	struct timespec start, now;
	clock_gettime(CLOCK_REALTIME_COARSE, &start);
	do {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_nsec == start.tv_nsec);
}

/* Of it only the ctime tells. */
static void change_mode(void)
{
	let_the_clock_tick();
	assert_int_equal(chmod(env_path("f"), 0640), 0);
}

static void touch_mtime(void)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
	assert_int_equal(utimensat(AT_FDCWD, env_path("f"), times, 0), 0);
}

static void move_away(void)
{
	assert_int_equal(rename(env_path("f"), env_path("f.moved")), 0);
}

static void become_fifo(void)
{
	assert_int_equal(unlink(env_path("f")), 0);
	assert_int_equal(mkfifo(env_path("f"), 0600), 0);
}

static void become_directory(void)
{
	assert_int_equal(unlink(env_path("f")), 0);
	assert_int_equal(mkdir(env_path("f"), 0700), 0);
}

static void become_link_loop(void)
{
	assert_int_equal(unlink(env_path("f")), 0);
	assert_int_equal(symlink("f", env_path("f")), 0);
}

/* Often gets the very same inode number. */
static void delete_and_make_anew(void)
{
	let_the_clock_tick();
	assert_int_equal(unlink(env_path("f")), 0);
	env_write("f", 2, LEN);
}

static void nothing(void)
{
}

/* Only reading leaves no trace in mtime and ctime. */
static void be_read(void)
{
	char byte;
	int fd = open(env_path("f"), O_RDONLY);
	assert_int_equal(read(fd, &byte, 1), 1);
	close(fd);
}

/* ---- files ---- */

enum kind { CACHED, CLOSED, APPEND, HELD, BY_FD, HELD_APPEND, N_KINDS };

static const char *const kind_names[N_KINDS] = {
	"cached", "closed", "append", "held", "by descriptor", "held and append",
};

static struct media_file *open_kind(struct media_pool *pool, enum kind kind)
{
	static const unsigned flags[N_KINDS] = {
		[APPEND] = MEDIA_APPEND,
		[HELD] = MEDIA_HOLD,
		[HELD_APPEND] = MEDIA_HOLD | MEDIA_APPEND,
	};
	struct media_file *file;
	if (kind == BY_FD) {
		int fd = open(env_path("f"), O_RDONLY);
		assert_int_equal(media_file_open(pool, NULL, fd, 0, &file, NULL), 0);
		close(fd);
	} else {
		file = env_open(pool, "f", flags[kind]);
	}
	return file;
}

/* What a read of the first page gives, and what a look tells. */
struct outcome {
	int rc;
	int look;
};

/* Where the look depends on which inode number the new file got. */
#define ANY_LOOK -1

static void expect(const char *what, void (*change)(void), const struct outcome outcomes[N_KINDS])
{
	for (int kind = 0; kind < N_KINDS; kind++) {
		struct media_pool *pool = env_pool(1, false);
		unlink(env_path("f"));
		rmdir(env_path("f"));
		env_write("f", 1, LEN);
		env_age("f");
		env_write("other", 3, 10);
		struct media_file *file = open_kind(pool, (enum kind)kind);
		struct media_file *other = NULL;
		if (kind == CLOSED) {
			other = env_open(pool, "other", 0);
			assert_int_equal(env_read_now(other, 3, 0, 10), 0);
		}

		change();
		int look = media_file_look(file, NULL);
		void *buf = env_buffer(4096);
		int rc = media_read_now(file, 0, 4096, buf);
		int again = media_read_now(file, 0, 4096, buf);
		if (rc != outcomes[kind].rc || again != rc ||
		    (outcomes[kind].look != ANY_LOOK && look != outcomes[kind].look))
			fail_msg("%s, %s: read %d then %d, look %d", what, kind_names[kind], rc,
			         again, look);
		free(buf);
		media_file_close(file);
		media_file_close(other);
		media_pool_destroy(pool);
	}
}

#define FINE {0, 0}

static void unchanged(void **state)
{
	const struct outcome all[N_KINDS] = {FINE, FINE, FINE, FINE, FINE, FINE};
	expect("nothing", nothing, all);
	expect("reading", be_read, all);
}

static void rewritten_in_place(void **state)
{
	const struct outcome o = {-ESTALE, MEDIA_CHANGED};
	expect("rewrite", rewrite, (const struct outcome[N_KINDS]){o, o, FINE, o, o, FINE});
}

static void truncated(void **state)
{
	const struct outcome o = {-ESTALE, MEDIA_CHANGED | MEDIA_TRUNCATED};
	const struct outcome a = {-ESTALE, MEDIA_TRUNCATED};
	expect("truncate", cut, (const struct outcome[N_KINDS]){o, o, a, o, o, a});
}

static void grown(void **state)
{
	const struct outcome o = {-ESTALE, MEDIA_CHANGED | MEDIA_GREW};
	const struct outcome a = {0, MEDIA_GREW};
	expect("grow", grow, (const struct outcome[N_KINDS]){o, o, a, o, o, a});
	expect("append", append, (const struct outcome[N_KINDS]){o, o, a, o, o, a});
}

static void replaced_by_rename(void **state)
{
	const struct outcome gone = {-ESTALE, MEDIA_REPLACED};
	const struct outcome kept = {0, MEDIA_REPLACED};
	expect("rename over", rename_over,
	       (const struct outcome[N_KINDS]){gone, gone, gone, kept, kept, kept});
}

static void deleted(void **state)
{
	const struct outcome gone = {-ESTALE, MEDIA_REPLACED};
	const struct outcome kept = {0, MEDIA_REPLACED};
	expect("unlink", delete,
	       (const struct outcome[N_KINDS]){gone, gone, gone, kept, kept, kept});
}

static void replaced_by_something_else(void **state)
{
	const struct outcome gone = {-ESTALE, MEDIA_REPLACED};
	const struct outcome kept = {0, MEDIA_REPLACED};
	const struct outcome all[N_KINDS] = {gone, gone, gone, kept, kept, kept};
	expect("fifo", become_fifo, all);
	expect("directory", become_directory, all);
	expect("link loop", become_link_loop, all);
}

static void deleted_and_made_anew(void **state)
{
	const struct outcome gone = {-ESTALE, ANY_LOOK};
	const struct outcome kept = {0, MEDIA_REPLACED};
	expect("unlink and create", delete_and_make_anew,
	       (const struct outcome[N_KINDS]){gone, gone, gone, kept, kept, kept});
}

/* The same of an appended file that is closed: neither time nor link count could tell. */
static void appended_file_made_anew_while_closed(void **state)
{
	struct media_pool *pool = env_pool(1, false);
	env_write("f", 1, LEN);
	env_write("other", 3, 10);
	struct media_file *file = env_open(pool, "f", MEDIA_APPEND);
	struct media_file *other = env_open(pool, "other", 0);
	assert_int_equal(env_read_now(other, 3, 0, 10), 0);
	delete_and_make_anew();
	assert_int_equal(env_read_now(file, 2, 0, 4096), -ESTALE);
	media_file_close(file);
	media_file_close(other);
	media_pool_destroy(pool);
}

static void mode_or_times_set(void **state)
{
	const struct outcome o = {-ESTALE, MEDIA_CHANGED};
	const struct outcome all[N_KINDS] = {o, o, FINE, o, o, FINE};
	expect("chmod", change_mode, all);
	expect("touch -m", touch_mtime, all);
}

/* The name is gone, but no link: whether the ctime moves is the file system's choice. */
static void moved_away_is_noticed_by_name(void **state)
{
	struct media_pool *pool = env_pool(1, false);
	env_write("f", 1, LEN);
	struct media_file *file = env_open(pool, "f", 0);
	move_away();
	assert_true(media_file_look(file, NULL) & MEDIA_REPLACED);
	media_file_close(file);
	media_pool_destroy(pool);
}

/* A held file may lose one name after another, yet not be written to. */
static void held_file_loses_names_then_is_rewritten(void **state)
{
	struct media_pool *pool = env_pool(1, false);
	env_write("f", 1, LEN);
	unlink(env_path("f2"));
	assert_int_equal(link(env_path("f"), env_path("f2")), 0);
	env_age("f");
	struct media_file *file = env_open(pool, "f", MEDIA_HOLD);
	int fd = open(env_path("f"), O_WRONLY);
	unlink(env_path("f2"));
	assert_int_equal(env_read_now(file, 1, 0, LEN), 0);
	unlink(env_path("f"));
	assert_int_equal(env_read_now(file, 1, 0, LEN), 0);
	assert_int_equal(media_file_look(file, NULL), MEDIA_REPLACED);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	close(fd);
	assert_int_equal(env_read_now(file, 1, 0, LEN), -ESTALE);
	assert_int_equal(media_file_look(file, NULL), MEDIA_REPLACED | MEDIA_CHANGED);
	media_file_close(file);
	media_pool_destroy(pool);
}

static void look_tells_the_size(void **state)
{
	uint64_t size = 0;
	struct media_pool *pool = env_pool(1, false);
	env_write("f", 1, LEN);
	struct media_file *file = env_open(pool, "f", MEDIA_APPEND);
	append();
	assert_int_equal(media_file_look(file, &size), MEDIA_GREW);
	assert_int_equal(size, LEN + 7000);
	media_file_close(file);
	media_pool_destroy(pool);
}

static void extend_takes_what_has_been_added(void **state)
{
	for (unsigned hold = 0; hold <= 1; hold++) {
		uint64_t size = 0;
		struct media_pool *pool = env_pool(1, false);
		env_write("f", 1, LEN);
		struct media_file *file = env_open(pool, "f", MEDIA_APPEND | hold * MEDIA_HOLD);
		assert_int_equal(media_file_extend(file, &size), 0);
		assert_int_equal(size, LEN);
		append();
		assert_int_equal(media_file_extend(file, &size), 0);
		assert_int_equal(size, LEN + 7000);
		assert_int_equal(media_file_identity(file)->size_bytes, size);
		assert_int_equal(media_file_look(file, NULL), 0);
		assert_int_equal(env_read_now(file, 1, 0, (uint32_t)size), 0);
		/* What was taken is now part of it. */
		assert_int_equal(truncate(env_path("f"), LEN + 100), 0);
		assert_int_equal(media_file_extend(file, &size), -ESTALE);
		assert_int_equal(env_read_now(file, 1, 0, 4096), -ESTALE);
		media_file_close(file);
		media_pool_destroy(pool);
	}
}

static void extend_of_a_replaced_file(void **state)
{
	uint64_t size;
	struct media_pool *pool = env_pool(1, false);
	env_write("f", 1, LEN);
	struct media_file *file = env_open(pool, "f", MEDIA_APPEND);
	rename_over();
	assert_int_equal(media_file_extend(file, &size), -ESTALE);
	media_file_close(file);
	media_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unchanged),
		cmocka_unit_test(rewritten_in_place),
		cmocka_unit_test(truncated),
		cmocka_unit_test(grown),
		cmocka_unit_test(replaced_by_rename),
		cmocka_unit_test(deleted),
		cmocka_unit_test(replaced_by_something_else),
		cmocka_unit_test(deleted_and_made_anew),
		cmocka_unit_test(appended_file_made_anew_while_closed),
		cmocka_unit_test(mode_or_times_set),
		cmocka_unit_test(moved_away_is_noticed_by_name),
		cmocka_unit_test(held_file_loses_names_then_is_rewritten),
		cmocka_unit_test(look_tells_the_size),
		cmocka_unit_test(extend_takes_what_has_been_added),
		cmocka_unit_test(extend_of_a_replaced_file),
	};
	return cmocka_run_group_tests(tests, env_setup, env_teardown);
}
