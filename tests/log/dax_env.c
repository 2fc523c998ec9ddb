/* dax_env.c - see dax_env.h. */
#include "dax_env.h"

#include "../../src/store/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct env e;
struct quire_log_open_options open_opts;
uint64_t n_records, first_at;

static const char *dir;     /* of the file; the sim has none */
static char path[PATH_MAX];
static bool in_file;

/* ---- the two media ---- */

static int make_file(void)
{
	snprintf(path, sizeof(path), "%s/quire-dax-XXXXXX", dir);
	return mkstemp(path);
}

static int open_file(struct env *env, struct device **ret)
{
	return device_open_pmem(path, 0, 0, DEVICE_DURABLE_PROCESS, env->loop, ret, &env->err);
}

void settle(struct env *env)
{
	struct quire_log_segment s[64];
	unsigned n;

	while ((n = quire_log_segments(env->log, s, 64)) > 1 && !s[n - 2].sealed)
		assert_int_equal(quire_co_yield(), 0);
}

/* Where the oldest segment lies. The log is closed. */
static uint64_t place_of_first(struct env *env)
{
	struct store_log_segment s;
	struct store_log_info info;
	struct store_log *space;

	assert_int_equal(store_log_find(env->store, NAME, &info), 0);
	assert_int_equal(store_log_open(env->store, info.id, &space), 0);
	assert_true(store_log_segments(space, &s, 1) >= 1);
	store_log_close(space);
	return s.offset;
}

void build(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
	assert_int_equal(env_open(env), 0);
	for (n_records = 0; n_records < *(unsigned *)arg; n_records++)
		assert_int_equal(env_append(env, SALT, n_records, false), 0);
	assert_int_equal(quire_log_sync(env->log, n_records - 1, NULL), 0);
	settle(env);
	assert_int_equal(env_close_log(env), 0);
	first_at = place_of_first(env);
	assert_int_equal(env_close(env), 0);
}

static void begin(unsigned n)
{
	record_max_len = 2000;
	open_opts = (struct quire_log_open_options){.size = sizeof(open_opts)};
	env_init(&e, 3, 0, NULL);
	e.opts = &open_opts;
	if (!in_file) {
		assert_int_equal(sim_create_pmem(N_UNITS * FORMAT_UNIT_BYTES, 3, NULL, &e.sim), 0);
	} else {
		e.open_device = open_file;
		int fd = make_file();
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, (off_t)N_UNITS * FORMAT_UNIT_BYTES), 0);
		close(fd);
	}
	env_run(&e, build, &n);
}

int set_up_sim(void **state)
{
	in_file = false;
	begin(400);
	return 0;
}

int set_up_file(void **state)
{
	in_file = true;
	begin(400);
	return 0;
}

int tear_down(void **state)
{
	if (in_file)
		(void)unlink(path);
	env_fini(&e);
	return 0;
}

void change_byte(uint64_t offset)
{
	uint8_t byte;

	if (!in_file) {
		sim_peek(e.sim, offset, &byte, 1);
		byte ^= 0x10;
		sim_poke(e.sim, offset, &byte, 1);
		return;
	}
	int fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
}

/* ---- looking ---- */

struct quire_log_stat stat_of(struct env *env)
{
	struct quire_log_stat s;

	assert_int_equal(quire_log_stat(env->log, &s), 0);
	return s;
}

uint64_t n_fills(struct env *env)
{
	struct quire_cache_stat s;

	assert_int_equal(quire_cache_stat(env->cache, &s), 0);
	return s.n_fills;
}

uint64_t end_of_sealed(struct env *env)
{
	struct quire_log_segment s[64];
	unsigned n = quire_log_segments(env->log, s, 64);

	assert_true(n >= 4 && n <= 64);
	while (n > 0 && !s[n - 1].sealed)
		n--;
	return s[n - 1].end_lsn;
}

struct quire_log_cursor *cursor(struct env *env)
{
	struct quire_log_cursor *c;

	assert_int_equal(quire_log_cursor_open(env->log, QUIRE_LOG_VISIBLE, &c), 0);
	return c;
}

void read_some(struct env *env, uint64_t lsn, uint64_t n)
{
	struct quire_log_cursor *c = cursor(env);
	struct quire_log_record r;

	assert_int_equal(quire_log_seek(c, lsn), 0);
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(quire_log_next(c, &r, NULL), 1);
		assert_int_equal(r.lsn, lsn + i);
		assert_true(record_is(SALT, &r));
	}
	quire_log_cursor_close(c);
}

bool can_map_in(const char *where)
{
	struct quire_error err = {.text = "no room for a file"};
	struct device *d;

	dir = where;
	int fd = make_file();
	if (fd < 0) {
		print_message("skipped: %s: %s\n", path, strerror(errno));
		return false;
	}
	bool can = ftruncate(fd, PAGE) == 0 && device_open_pmem(path, 0, 0, DEVICE_DURABLE_PROCESS, NULL, &d, &err) == 0;
	if (can)
		device_close(d);
	else
		print_message("skipped: %s\n", err.text);
	close(fd);
	(void)unlink(path);
	return can;
}
