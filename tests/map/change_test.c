/* Files that change while they are mapped: reported, and never served torn. */
#include "../support/maps.h"
#include "../support/trap.h"

#include <sys/stat.h>

#define LEN pages(4)

/* ---- changes ---- */

static void nothing(void)
{
}

static void rewrite(void)
{
	file_rewrite_in_place("f", 1, 100, 5000); /* the times tell, not the bytes */
}

static void cut(void)
{
	file_truncate("f", pages(1));
}

static void grow(void)
{
	file_append("f", 1, LEN, 5000);
}

static void rename_over(void)
{
	file_write("new", 9, LEN);
	assert_int_equal(rename(file_path("new"), file_path("f")), 0);
}

static void delete(void)
{
	assert_int_equal(unlink(file_path("f")), 0);
}

static void become_directory(void)
{
	delete();
	assert_int_equal(mkdir(file_path("f"), 0700), 0);
}

enum kind { PLAIN, CLOSED, HELD, BY_FD, GROWING, N_KINDS };

static const char *const kind_names[N_KINDS] = {"plain", "closed", "held", "by descriptor", "append"};

struct expected {
	int rc;         /* of a want of a cold page */
	unsigned state; /* bits that are set */
	unsigned not;   /* bits that are not */
};

static struct quire_map *map_kind(enum kind kind)
{
	rmdir(file_path("f"));
	unlink(file_path("f"));
	file_write("f", 1, LEN);
	int fd = file_fd("f");
	struct quire_item item = {.path = kind == BY_FD ? NULL : file_path("f"), .fd = fd};

	if (kind == HELD)
		item.flags = QUIRE_ITEM_HOLD;
	if (kind == GROWING)
		item.flags = QUIRE_ITEM_APPEND;
	struct quire_map *m = map_item_of(item);
	close(fd);
	return m;
}

/* Another file takes its descriptor. */
static void close_descriptor(void)
{
	file_write("other", 2, 10);
	struct quire_map *other = map_name("other");

	assert_int_equal(want(other, item_ptr(other, 0), 1), 0);
	map_end(other);
}

static void expect(const char *what, void (*change)(void), const struct expected expected[N_KINDS])
{
	for (enum kind kind = 0; kind < N_KINDS; kind++) {
		cache_anew(&(struct quire_cache_options){.max_open_files = 1, .signal_faults = true});
		struct quire_map *m = map_kind(kind);
		const struct expected *e = &expected[kind];
		const char *p = item_ptr(m, 0);

		assert_int_equal(pin(m, p + pages(3), 1), 0);
		assert_int_equal(quire_map_item_state(m, 0), 0);
		if (kind == CLOSED)
			close_descriptor();
		change();
		unsigned state = (unsigned)quire_map_item_state(m, 0);
		int rc = want(m, p + pages(1), 1);
		bool wrong = (state & e->state) != e->state || (state & e->not) != 0 ||
		             (fault != QUIRE_FAULT_KERNEL && rc != e->rc);
		if (wrong)
			fail_msg("%s, %s: want %d, state %#x", what, kind_names[kind], rc, state);
		if (fault != QUIRE_FAULT_KERNEL) {
			/* What was there before is what it was; what comes is the old content, or an error. */
			assert_bytes(p + pages(3), 1, pages(3), pages(1));
			if (fault != QUIRE_FAULT_PINNED && rc < 0)
				assert_true(load_traps(p + pages(2)));
			else if (rc == 0)
				read_and_compare(m, p, 1, 0, LEN);
		}
		assert_int_equal(unpin(m, p + pages(3), 1), 0);
		map_end(m);
	}
}

#define CHANGED QUIRE_ITEM_CHANGED
#define REPLACED QUIRE_ITEM_REPLACED
#define TRUNCATED QUIRE_ITEM_TRUNCATED
#define OTHER (QUIRE_ITEM_FAILED | QUIRE_ITEM_VERIFIED)

static void unchanged(void **state)
{
	static const struct expected all = {0, 0, CHANGED | REPLACED | TRUNCATED | OTHER};

	expect("nothing", nothing, (struct expected[]){all, all, all, all, all});
}

static void rewritten_in_place(void **state)
{
	static const struct expected stale = {-ESTALE, CHANGED, REPLACED | TRUNCATED | OTHER};

	/* Of one that grows, what lies below its length is taken to be stable: not noticed. The
	 * change itself is of the first pages, the last is what it was. */
	static const struct expected fine = {0, 0, REPLACED | TRUNCATED | OTHER};

	expect("rewritten", rewrite, (struct expected[]){stale, stale, stale, stale, fine});
}

static void truncated(void **state)
{
	static const struct expected all = {-ESTALE, TRUNCATED, REPLACED | OTHER};

	expect("truncated", cut, (struct expected[]){all, all, all, all, all});
}

static void truncated_under_the_kernel(void **state)
{
	struct quire_map *m = map_kind(PLAIN);
	const char *p = item_ptr(m, 0);

	cut();
	assert_int_equal(want(m, p + pages(2), 1), -ESTALE);
	assert_true(load_traps(p + pages(2)));
	assert_false(load_traps(p));
	assert_true(quire_map_item_state(m, 0) & TRUNCATED);
	map_end(m);
}

static void grown(void **state)
{
	static const struct expected stale = {-ESTALE, CHANGED, REPLACED | TRUNCATED | OTHER};
	static const struct expected fine = {0, 0, CHANGED | REPLACED | TRUNCATED | OTHER};

	expect("grown", grow, (struct expected[]){stale, stale, stale, stale, fine});
}

static void replaced_by_rename(void **state)
{
	static const struct expected stale = {-ESTALE, REPLACED, TRUNCATED | OTHER};
	static const struct expected held = {0, REPLACED, CHANGED | TRUNCATED | OTHER};
	static const struct expected by_fd = {0, 0, CHANGED | TRUNCATED | OTHER};

	expect("renamed over", rename_over, (struct expected[]){stale, stale, held, by_fd, stale});
}

static void deleted(void **state)
{
	static const struct expected stale = {-ESTALE, REPLACED, TRUNCATED | OTHER};
	static const struct expected held = {0, REPLACED, CHANGED | TRUNCATED | OTHER};
	static const struct expected by_fd = {0, 0, CHANGED | TRUNCATED | OTHER};

	expect("deleted", delete, (struct expected[]){stale, stale, held, by_fd, stale});
	expect("a directory", become_directory, (struct expected[]){stale, stale, held, by_fd, stale});
	rmdir(file_path("f"));
}

/* The error is the file's own: its neighbours in the map go on. */
static void neighbours_of_a_stale_file(void **state)
{
	file_write("f", 1, LEN);
	file_write("g", 2, LEN);
	const struct quire_item items[] = {
		{.path = file_path("g")}, {.path = file_path("f")}, {.path = file_path("g")}};
	struct quire_map *m = map_items(items, 3);
	struct iovec v = io(quire_map_base(m), 3 * LEN);
	struct quire_op op;

	cut();
	quire_op_init(&op);
	assert_int_equal(quire_map_want(m, &v, 1, 0, &op), 0);
	assert_int_equal(quire_await(&op), -ESTALE);
	assert_int_equal(op.error_item, 1);
	assert_int_equal(op.error_offset, 0);
	read_and_compare(m, item_ptr(m, 0), 2, 0, LEN);
	read_and_compare(m, item_ptr(m, 2), 2, 0, LEN);
	map_end(m);
}

/* A file that shrinks while its pages are being read, again and again. */
static void shrinks_while_it_is_read(void **state)
{
	for (unsigned round = 0; round < 50; round++) {
		file_write("f", 1, pages(64));
		struct quire_map *m = map_name("f");
		struct quire_op ops[8];

		for (unsigned i = 0; i < 8; i++) {
			struct iovec v = io(item_ptr(m, 0) + pages(i * 8), pages(8));

			quire_op_init(&ops[i]);
			assert_int_equal(quire_map_want(m, &v, 1, QUIRE_WANT_PIN, &ops[i]), 0);
		}
		file_truncate("f", pages(round));
		for (unsigned i = 0; i < 8; i++) {
			int64_t rc = quire_await(&ops[i]);

			assert_true(rc == 0 || rc == -ESTALE);
			if (rc < 0)
				continue;
			assert_bytes(item_ptr(m, 0) + pages(i * 8), 1, pages(i * 8), pages(8));
			assert_int_equal(unpin(m, item_ptr(m, 0) + pages(i * 8), pages(8)), 0);
		}
		map_end(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(unchanged),
		ON_CHECKED(rewritten_in_place),
		ON_CHECKED(truncated),
		ON_KERNEL(truncated_under_the_kernel),
		ON_EACH(grown),
		ON_EACH(replaced_by_rename),
		ON_EACH(deleted),
		ON_CHECKED(neighbours_of_a_stale_file),
		ON_CHECKED(shrinks_while_it_is_read),
	};
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
