/* device_env.c - see device_env.h. */
#include "device_env.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	enum place place;
	enum quire_engine engine;
	struct quire_loop *loop;
	char dir[PATH_MAX / 2];
	char path[PATH_MAX], backing[PATH_MAX], new_path[PATH_MAX];
} now;

enum place device_env_place(void)
{
	return now.place;
}

const char *device_env_path(void)
{
	return now.path;
}

const char *device_env_backing(void)
{
	return now.backing;
}

const char *device_env_new_path(void)
{
	return now.new_path;
}

unsigned device_env_flags(void)
{
	return now.place == PLACE_BUFFERED ? DEVICE_BUFFERED : 0;
}

struct quire_loop *device_env_loop(void)
{
	return now.loop;
}

struct device *device_env_open(unsigned more_flags)
{
	struct device *d;
	struct quire_error err = {0};
	if (device_open(now.path, device_env_flags() | more_flags, 0, NULL, &d, &err) < 0)
		fail_msg("%s", err.text);
	return d;
}

/* ---- loop devices ---- */

static int losetup(const char *file)
{
	char command[PATH_MAX + 64], line[64] = "";
	snprintf(command, sizeof(command), "losetup --find --show '%s' 2>/dev/null", file);
	FILE *out = geteuid() == 0 ? popen(command, "r") : NULL;
	if (out == NULL)
		return -1;
	if (fgets(line, sizeof(line), out) == NULL)
		line[0] = '\0';
	pclose(out);
	line[strcspn(line, "\n")] = '\0';
	if (line[0] != '/')
		return -1;
	snprintf(now.path, sizeof(now.path), "%s", line);
	return 0;
}

static void losetup_detach(void)
{
	char command[PATH_MAX + 64];
	snprintf(command, sizeof(command), "losetup --detach '%s'", now.path);
	assert_int_equal(system(command), 0);
}

/* ---- one test ---- */

static int make_backing(void)
{
	int fd = open(now.backing, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		return -1;
	int rc = ftruncate(fd, (off_t)(DEVICE_BLOCKS * BLOCK));
	close(fd);
	return rc;
}

static int make_loop(void)
{
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = now.engine, .n_threads = 4, .depth = 64};
	return quire_loop_create(&opts, &now.loop, NULL);
}

/* The loop device last: what fails before it leaves none behind. Only files of our own folder are ever
 * unlinked, never now.path, which may be a device. */
static int setup(void **state)
{
	memcpy(now.path, now.backing, sizeof(now.path));
	if (make_backing() < 0 || make_loop() < 0)
		return -1;
	if (now.place == PLACE_LOOP && losetup(now.backing) < 0) {
		quire_loop_destroy(now.loop);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	int rc = quire_loop_destroy(now.loop);
	if (now.place == PLACE_LOOP)
		losetup_detach();
	unlink(now.backing);
	unlink(now.new_path);
	return rc;
}

/* False: not to be had here. */
static bool prepare(enum place place, enum quire_engine engine)
{
	const char *tmp = getenv("TMPDIR");
	now.place = place;
	now.engine = engine;
	if (place == PLACE_TMPFS)
		tmp = "/dev/shm";
	snprintf(now.dir, sizeof(now.dir), "%s/quire-device-XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(now.dir) == NULL)
		return false;
	snprintf(now.backing, sizeof(now.backing), "%s/device", now.dir);
	snprintf(now.new_path, sizeof(now.new_path), "%s/new", now.dir);
	bool good = setup(NULL) == 0;
	if (good)
		teardown(NULL);
	return good;
}

int device_env_run_all(const struct CMUnitTest *tests, size_t n_tests)
{
	static const char *const places[N_PLACES] = {"file", "buffered file", "tmpfs", "loop device"};
	struct CMUnitTest each[64];
	int n_failed = 0;
	for (size_t i = 0; i < n_tests; i++) {
		each[i] = tests[i];
		each[i].setup_func = setup;
		each[i].teardown_func = teardown;
	}
	for (enum place place = 0; place < N_PLACES; place++) {
		for (enum quire_engine engine = QUIRE_ENGINE_URING; engine <= QUIRE_ENGINE_THREADS; engine++) {
			char name[64];
			snprintf(name, sizeof(name), "%s, %s", places[place],
			         engine == QUIRE_ENGINE_URING ? "io_uring" : "threads");
			if (prepare(place, engine))
				n_failed += _cmocka_run_group_tests(name, each, n_tests, NULL, NULL);
			else
				print_message("skipped: %s: not to be had here\n", name);
			unlink(now.backing);
			rmdir(now.dir);
		}
	}
	return n_failed;
}

/* ---- for tests ---- */

struct running {
	void (*fn)(struct device *d);
	struct device *d;
};

static void run_in_coroutine(void *arg)
{
	struct running *r = arg;
	r->fn(r->d);
}

void device_env_run(void (*fn)(struct device *d), struct device *d)
{
	struct running r = {.fn = fn, .d = d};
	assert_int_equal(quire_co_spawn(now.loop, run_in_coroutine, &r), 0);
	assert_int_equal(quire_loop_run(now.loop), 0);
}

void *device_env_memory(uint64_t len_bytes)
{
	void *buf = aligned_alloc(BLOCK, len_bytes);
	assert_non_null(buf);
	memset(buf, 0, len_bytes);
	return buf;
}

static uint64_t word_at(uint64_t block, unsigned word, unsigned seed)
{
	return (block * 512 + word + 1) * 0x9e3779b97f4a7c15u + seed;
}

void device_env_fill(void *buf, uint64_t block, unsigned n_blocks, unsigned seed)
{
	uint64_t *words = buf;
	for (unsigned i = 0; i < n_blocks * 512; i++)
		words[i] = word_at(block + i / 512, i % 512, seed);
}

void device_env_check(const void *buf, uint64_t block, unsigned n_blocks, unsigned seed)
{
	const uint64_t *words = buf;
	for (unsigned i = 0; i < n_blocks * 512; i++) {
		if (words[i] != word_at(block + i / 512, i % 512, seed))
			fail_msg("block %llu, word %u", (unsigned long long)(block + i / 512), i % 512);
	}
}
