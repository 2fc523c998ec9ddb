/* Pages of a region under I/O: system calls and devices write to them and read from them, whatever leaves meanwhile. */
#include "region.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define N_PAGES 256
#define CHUNK 16 /* pages of one read */

static void region_for_io(size_t n_pages)
{
	struct quire_capabilities caps;

	quire_capabilities(&caps);
	if (caps.anon && caps.grade != QUIRE_GRADE_FULL)
		skip_because("no faults of system calls");
	region_make(pages(n_pages), NULL);
}

/* A file whose n-th page is page_fill(n). flags O_DIRECT: -1 where the file system has none. */
static int file_of_pages(const char *name, size_t n, int flags)
{
	int fd = open(file_path(name), O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *page = malloc(page_size());

	assert_true(fd >= 0 && page != NULL);
	for (size_t i = 0; i < n; i++) {
		page_fill(page, i);
		assert_int_equal(pwrite(fd, page, page_size(), (off_t)pages(i)), page_size());
	}
	free(page);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	return open(file_path(name), O_RDWR | flags);
}

/* ---- one at a time ---- */

static void read_fills_cold_pages(void **state)
{
	region_for_io(N_PAGES);
	int fd = file_of_pages("f", N_PAGES, 0);
	for (size_t i = 0; i < N_PAGES; i++)
		page_fill(page_at(i), 1000 + i);
	assert_int_equal(away(0, N_PAGES), 0);
	assert_int_equal(region_stat().resident, 0);
	assert_int_equal(pread(fd, base, pages(N_PAGES), 0), pages(N_PAGES));
	assert_int_equal(away(0, N_PAGES), 0);
	for (size_t i = 0; i < N_PAGES; i++)
		assert_true(page_is(page_at(i), i));
	close(fd);
}

static void write_takes_from_cold_pages(void **state)
{
	region_for_io(N_PAGES);
	int fd = file_of_pages("f", 1, 0);
	char *copy = malloc(pages(N_PAGES));
	for (size_t i = 0; i < N_PAGES; i++)
		page_fill(page_at(i), 7 * i);
	assert_int_equal(away(0, N_PAGES), 0);
	assert_int_equal(pwrite(fd, base, pages(N_PAGES), 0), pages(N_PAGES));
	assert_int_equal(pread(fd, copy, pages(N_PAGES), 0), pages(N_PAGES));
	assert_memory_equal(copy, base, pages(N_PAGES));
	free(copy);
	close(fd);
}

static void read_into_clean_pages_makes_them_dirty(void **state)
{
	region_for_io(N_PAGES);
	int fd = file_of_pages("f", N_PAGES, O_DIRECT);
	if (fd < 0)
		skip_because("no O_DIRECT here");
	for (size_t i = 0; i < N_PAGES; i++)
		page_fill(page_at(i), 1000 + i);
	assert_int_equal(away(0, N_PAGES), 0);
	assert_int_equal(want_pages(0, N_PAGES, 0), 0); /* there, and clean */
	assert_int_equal(pread(fd, base, pages(N_PAGES), 0), pages(N_PAGES));
	assert_int_equal(region_stat().dirty, pages(N_PAGES));
	assert_int_equal(away(0, N_PAGES), 0);
	for (size_t i = 0; i < N_PAGES; i++)
		assert_true(page_is(page_at(i), i));
	close(fd);
}

/* ---- while all leaves ---- */

struct pressure {
	pthread_t thread;
	_Atomic bool stop;
	_Atomic unsigned n_rounds;
};

static void *press(void *arg)
{
	struct pressure *p = arg;

	while (!p->stop) {
		quire_anon_advise(region, base, quire_anon_bytes(region), QUIRE_ANON_AWAY);
		p->n_rounds++;
	}
	return NULL;
}

static void press_begin(struct pressure *p)
{
	assert_int_equal(pthread_create(&p->thread, NULL, press, p), 0);
}

static void press_end(struct pressure *p)
{
	p->stop = true;
	pthread_join(p->thread, NULL);
}

static unsigned n_rounds(void)
{
	return getenv("QUIRE_TEST_LONG") != NULL ? 300 : SANITIZED ? 6 : 12;
}

/* However little time the other thread is given, it has had its turns. */
static bool goes_on(const struct pressure *p, unsigned round, unsigned n)
{
	return round < n || p->n_rounds < 2;
}

/* The race in which a page that is copied and dropped loses what the device writes after: all of it must arrive. */
static void direct_reads_lose_nothing(void **state)
{
	struct pressure pressure = {0};
	unsigned n_lost = 0;

	region_for_io(N_PAGES);
	int fd = file_of_pages("f", N_PAGES, O_DIRECT);
	if (fd < 0)
		skip_because("no O_DIRECT here");
	press_begin(&pressure);
	for (unsigned round = 0; goes_on(&pressure, round, n_rounds()); round++) {
		for (size_t i = 0; i < N_PAGES; i += CHUNK) {
			/* Clean, dirty or cold: each of them in turn. */
			if (round % 3 == 1)
				memset(page_at(i), 0xee, pages(CHUNK));
			assert_int_equal(pread(fd, page_at(i), pages(CHUNK), (off_t)pages(i)), pages(CHUNK));
		}
		for (size_t i = 0; i < N_PAGES; i++)
			n_lost += !page_is(page_at(i), i);
		if (round % 3 == 2)
			assert_int_equal(advise_pages(0, N_PAGES, QUIRE_ANON_DISCARD), 0);
	}
	press_end(&pressure);
	print_message("%u rounds, %llu pages moved, %llu found under I/O\n", n_rounds(),
	              (unsigned long long)region_stat().n_moved, (unsigned long long)region_stat().n_busy);
	assert_int_equal(n_lost, 0);
	close(fd);
}

static void direct_writes_write_what_is_there(void **state)
{
	struct pressure pressure = {0};
	char *copy;

	region_for_io(N_PAGES);
	int fd = file_of_pages("f", N_PAGES, O_DIRECT);
	if (fd < 0)
		skip_because("no O_DIRECT here");
	copy = aligned_alloc(page_size(), pages(N_PAGES));
	press_begin(&pressure);
	for (unsigned round = 0; goes_on(&pressure, round, n_rounds() / 4); round++) {
		for (size_t i = 0; i < N_PAGES; i++)
			page_fill(page_at(i), round * 1000 + i);
		for (size_t i = 0; i < N_PAGES; i += CHUNK)
			assert_int_equal(pwrite(fd, page_at(i), pages(CHUNK), (off_t)pages(i)), pages(CHUNK));
		assert_int_equal(pread(fd, copy, pages(N_PAGES), 0), pages(N_PAGES));
		for (size_t i = 0; i < N_PAGES; i++)
			assert_true(page_is(copy + pages(i), round * 1000 + i));
	}
	press_end(&pressure);
	free(copy);
	close(fd);
}

/* A pin of the kernel's for long: nothing that the device writes through it is lost, and the page is where it was. */
static void what_a_ring_holds_stays(void **state)
{
#define RING_SETUP 425
#define RING_REGISTER 427
	uint32_t params[30] = {0};

	region_for_io(N_PAGES);
	assert_int_equal(want_pages(0, 1, 0), 0);
	page_fill(base, 1);
	assert_int_equal(away(0, 1), 0);
	assert_int_equal(want_pages(0, 1, 0), 0); /* clean: registering it for writing must make it dirty */
	int ring = (int)syscall(RING_SETUP, 4, params);
	if (ring < 0)
		skip_because("no io_uring");
	struct iovec v = {base, page_size()};
	if (syscall(RING_REGISTER, ring, 0, &v, 1) < 0)
		skip_because("no registered buffers");
	assert_int_equal(region_stat().dirty, page_size());
	assert_int_equal(advise_pages(0, 1, QUIRE_ANON_AWAY), 0);
	assert_int_equal(region_stat().resident, page_size());
	assert_true(region_stat().n_busy > 0);
	assert_true(page_is(base, 1));
	close(ring);
	for (unsigned i = 0; i < 100000 && region_stat().resident > 0; i++) {
		assert_int_equal(advise_pages(0, 1, QUIRE_ANON_AWAY), 0);
		usleep(100); /* the kernel lets go of it when it comes to that */
	}
	assert_int_equal(region_stat().resident, 0);
	assert_true(page_is(base, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_CACHE(read_fills_cold_pages), IN_CACHE(write_takes_from_cold_pages),
		IN_CACHE(read_into_clean_pages_makes_them_dirty), IN_CACHE(direct_reads_lose_nothing),
		IN_CACHE(direct_writes_write_what_is_there), IN_CACHE(what_a_ring_holds_stays),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
