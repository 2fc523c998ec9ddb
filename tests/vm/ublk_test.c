/* ublk_test.c QUIRE - `quire serve --ublk` with the driver itself: what is written is read, servers are killed under load and the
 * device goes on, what is mounted outlives its server, and there is swap. In a guest, as root; 77 where there is no driver.
 */
#include "ublk_command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <quire/ublk.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 4096u
#define N_BLOCKS 2048u
#define DISK_BYTES (N_BLOCKS * BLOCK)
#define DISK "/tmp/ublk-disk"
#define N_WRITERS 4u
#define N_KILLS 5u

static void make_disk(void)
{
	int fd = open(DISK, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* ---- blocks ---- */

static void stamp(uint64_t *block, uint64_t no, uint64_t version)
{
	for (unsigned i = 0; i < BLOCK / 8; i++)
		block[i] = version == 0 ? 0 : no * UINT64_C(0x9e3779b97f4a7c15) + version * 1000003 + i;
}

static void check_block(int fd, uint64_t no, uint64_t version)
{
	static _Alignas(BLOCK) uint64_t is[BLOCK / 8], should[BLOCK / 8];

	assert_int_equal(pread(fd, is, BLOCK, (off_t)(no * BLOCK)), BLOCK);
	stamp(should, no, version);
	if (memcmp(is, should, BLOCK) != 0)
		fail_msg("block %llu is not of version %llu", (unsigned long long)no, (unsigned long long)version);
}

struct load {
	pthread_t threads[N_WRITERS];
	int fd;
	atomic_bool ends;
	atomic_uint n_done, n_failed;
	int error;
	uint64_t versions[N_BLOCKS]; /* each block has one writer */
};

struct writer {
	struct load *load;
	unsigned no;
};

static void *write_on(void *arg)
{
	struct writer *w = arg;
	struct load *load = w->load;
	uint64_t *block = aligned_alloc(BLOCK, BLOCK);
	unsigned seed = w->no;

	while (!atomic_load(&load->ends)) {
		uint64_t no = (unsigned)rand_r(&seed) % (N_BLOCKS / N_WRITERS) * N_WRITERS + w->no;
		stamp(block, no, load->versions[no] + 1);
		if (pwrite(load->fd, block, BLOCK, (off_t)(no * BLOCK)) != BLOCK) {
			load->error = errno;
			atomic_fetch_add(&load->n_failed, 1);
			break;
		}
		load->versions[no]++;
		if (atomic_fetch_add(&load->n_done, 1) % 64 == 0 && fdatasync(load->fd) < 0)
			atomic_fetch_add(&load->n_failed, 1);
	}
	free(block);
	free(w);
	return NULL;
}

static void start_load(struct load *load, const char *path)
{
	memset(load, 0, sizeof(*load));
	load->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	assert_true(load->fd >= 0);
	for (unsigned i = 0; i < N_WRITERS; i++) {
		struct writer *w = malloc(sizeof(*w));
		*w = (struct writer){load, i};
		assert_int_equal(pthread_create(&load->threads[i], NULL, write_on, w), 0);
	}
}

/* Until so many more writes are done, or one failed. */
static void let_work(struct load *load, unsigned n)
{
	unsigned until = atomic_load(&load->n_done) + n;

	while (atomic_load(&load->n_done) < until && atomic_load(&load->n_failed) == 0)
		usleep(1000);
}

static void end_load(struct load *load)
{
	atomic_store(&load->ends, true);
	for (unsigned i = 0; i < N_WRITERS; i++)
		pthread_join(load->threads[i], NULL);
	if (atomic_load(&load->n_failed) > 0)
		fail_msg("a write failed: %s", strerror(load->error));
	for (unsigned no = 0; no < N_BLOCKS; no++)
		check_block(load->fd, no, load->versions[no]);
	close(load->fd);
}

/* Servers are killed, and the next takes over, while everybody writes, and somebody does something else. What is left is in `load`. */
static void kill_under_load(struct load *load, const char *const *words, void (*also)(void))
{
	char said[SAID_BYTES];
	pid_t pid = serve(words, said);

	if (pid < 0)
		fail_msg("%s", said);
	assert_null(strstr(said, "taken over"));
	start_load(load, "/dev/ublkb7");
	for (unsigned i = 0; i < N_KILLS; i++) {
		let_work(load, 150);
		also();
		assert_true(WIFSIGNALED(end(pid, SIGKILL)));
		pid = serve(words, said);
		if (pid < 0)
			fail_msg("not taken over: %s", said);
		assert_non_null(strstr(said, "taken over"));
	}
	let_work(load, 150);
	end_load(load);
	assert_int_equal(end(pid, SIGTERM), 0);
	assert_false(is_there("/dev/ublkb7"));
}

static void check_file(const char *path, const struct load *load)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	for (unsigned no = 0; no < N_BLOCKS; no++)
		check_block(fd, no, load->versions[no]);
	close(fd);
}

static void do_nothing(void)
{
}

static void test_a_server_of_a_file_is_killed(void **state)
{
	static struct load load;

	make_disk();
	kill_under_load(&load, WORDS("--ublk", "7", "--file", DISK), do_nothing);
	check_file(DISK, &load);
}

/* ---- volumes ---- */

#define STORE "/tmp/ublk-store"

static void expect_done(const char *verb, const char *const *words)
{
	char said[SAID_BYTES];

	if (say(verb, words, 0, said) != 0)
		fail_msg("%s %s: %s", verb, words[0], said);
}

/* By the server that holds the store. */
static void make_snapshot(void)
{
	static unsigned n;
	char name[16];

	snprintf(name, sizeof(name), "v@%u", n++);
	expect_done("volume", WORDS("snapshot", STORE, name));
}

/* What it acknowledged without a flush is there, though it had it in memory. */
static void test_a_server_of_a_volume_is_killed(void **state)
{
	static struct load load;
	char bytes[16];

	snprintf(bytes, sizeof(bytes), "%u", DISK_BYTES);
	expect_done("init", WORDS(STORE, "--capacity", "128M"));
	expect_done("volume", WORDS("create", STORE, "v", "--size", bytes));
	kill_under_load(&load, WORDS(STORE, "--ublk", "7", "--volume", "v", "--budget", "32M"), make_snapshot);
	expect_done("check", WORDS(STORE));
	unlink(DISK);
	expect_done("volume", WORDS("export", STORE, "v", DISK));
	check_file(DISK, &load);
}

/* ---- requests of all kinds ---- */

static void test_what_is_written_is_read(void **state)
{
	static _Alignas(BLOCK) char bytes[1u << 20], back[1u << 20];
	uint64_t size_bytes, range[2] = {64 * BLOCK, 16 * BLOCK};
	char said[SAID_BYTES];

	make_disk();
	pid_t pid = serve(WORDS("--ublk", "3", "--file", DISK), said);
	assert_string_equal(strtok(said, "("), "serving /dev/ublkb3 ");
	int fd = open("/dev/ublkb3", O_RDWR | O_DIRECT | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, BLKGETSIZE64, &size_bytes), 0);
	assert_int_equal(size_bytes, DISK_BYTES);
	memset(bytes, 'a', sizeof(bytes));
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	memset(bytes + 512, 'b', 512);
	assert_int_equal(pwrite(fd, bytes, 1024, 0), 1024);
	assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, bytes, sizeof(bytes));
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(ioctl(fd, BLKZEROOUT, range), 0);
	memset(bytes + range[0], 0, range[1]);
	range[0] += range[1];
	assert_int_equal(ioctl(fd, BLKDISCARD, range), 0);
	memset(bytes + range[0], 0, range[1]); /* of a file in tmpfs, holes */
	assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, bytes, sizeof(bytes));
	close(fd);
	assert_int_equal(say("ublk", WORDS("ls"), 0, said), 0);
	assert_non_null(strstr(said, "/dev/ublkb3    live        8.0 MiB  pid "));
	assert_int_equal(end(pid, SIGTERM), 0);
	assert_false(is_there("/dev/ublkb3"));
	pid = serve(WORDS("--ublk", "any", "--file", DISK, "--read-only"), said);
	assert_true(pid > 0);
	fd = open("/dev/ublkb0", O_RDWR | O_CLOEXEC);
	assert_true(fd < 0 || write(fd, bytes, BLOCK) < 0);
	close(fd);
	assert_int_equal(end(pid, SIGTERM), 0);
}

/* ---- who may take over ---- */

static void test_only_who_shows_the_same_takes_over(void **state)
{
	char said[SAID_BYTES];

	make_disk();
	int fd = open("/tmp/ublk-other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	pid_t pid = serve(WORDS("--ublk", "7", "--file", DISK), said);
	assert_true(pid > 0);
	assert_int_equal(serve(WORDS("--ublk", "7", "--file", DISK), said), -1);
	assert_non_null(strstr(said, "quire: ublk7, served by process "));
	end(pid, SIGKILL);
	assert_int_equal(serve(WORDS("--ublk", "7", "--file", "/tmp/ublk-other"), said), -1);
	assert_string_equal(said, "quire: ublk7 shows something else: File exists\n");
	assert_int_equal(serve(WORDS("--ublk", "7", "--file", DISK, "--read-only"), said), -1);
	assert_int_equal(say("ublk", WORDS("ls"), 0, said), 0);
	assert_non_null(strstr(said, "/dev/ublkb7    waiting "));
	assert_int_equal(say("ublk", WORDS("stop", "7"), 0, said), 0);
	assert_string_equal(said, "");
	assert_false(is_there("/dev/ublkb7"));
	assert_int_equal(say("ublk", WORDS("stop", "7"), 0, said), 1);
	assert_string_equal(said, "quire: ublk7: No such device\n");
}

static void test_memory_goes_with_its_server(void **state)
{
	char said[SAID_BYTES];
	pid_t pid = serve(WORDS("--ublk", "7", "--memory", "4M"), said);

	assert_true(pid > 0);
	end(pid, SIGKILL);
	pid = serve(WORDS("--ublk", "7", "--memory", "4M"), said);
	if (pid < 0)
		fail_msg("%s", said);
	assert_null(strstr(said, "taken over"));
	/* Others may end it, and then its server ends by itself. */
	assert_int_equal(say("ublk", WORDS("stop", "7"), 0, said), 0);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_who_may_not_is_told_so(void **state)
{
	char said[SAID_BYTES];

	assert_int_equal(say("ublk", WORDS("ls"), 65534, said), 1);
	assert_string_equal(said, "quire: /dev/ublk-control: Permission denied\n");
}

/* ---- what is mounted ---- */

static void test_a_mounted_device_is_left_for_the_next_server(void **state)
{
	char said[SAID_BYTES];

	make_disk();
	if (system("mkfs.ext4 -q -F -b 4096 " DISK) != 0) {
		print_message("no mkfs.ext4\n");
		skip();
	}
	pid_t pid = serve(WORDS("--ublk", "7", "--file", DISK), said);
	assert_true(pid > 0);
	mkdir("/tmp/ublk-mounted", 0700);
	if (mount("/dev/ublkb7", "/tmp/ublk-mounted", "ext4", 0, NULL) < 0) {
		print_message("ext4: %s\n", strerror(errno));
		end(pid, SIGTERM);
		skip();
	}
	assert_int_equal(end(pid, SIGTERM), 0);
	assert_true(is_there("/dev/ublkb7"));
	pid = serve(WORDS("--ublk", "7", "--file", DISK), said);
	assert_non_null(strstr(said, "taken over"));
	int fd = open("/tmp/ublk-mounted/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "bytes", 5), 5);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	assert_int_equal(umount("/tmp/ublk-mounted"), 0);
	assert_int_equal(end(pid, SIGTERM), 0);
	assert_false(is_there("/dev/ublkb7"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_only_who_shows_the_same_takes_over),
		cmocka_unit_test(test_memory_goes_with_its_server),
		cmocka_unit_test(test_who_may_not_is_told_so),
		cmocka_unit_test(test_a_server_of_a_file_is_killed),
		cmocka_unit_test(test_a_server_of_a_volume_is_killed),
		cmocka_unit_test(test_a_mounted_device_is_left_for_the_next_server),
		cmocka_unit_test(test_swap),
	};
	struct quire_ublk_info info;
	struct quire_error err;

	if (quire_ublk_list(&info, 1, &err) < 0) {
		printf("%s\n", err.text);
		return 77;
	}
	quire = argc > 1 ? argv[1] : "quire";
	return cmocka_run_group_tests_name("ublk", tests, NULL, NULL);
}
