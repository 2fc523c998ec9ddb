/* ublk_swap_test.c - a machine that swaps to a pool of pages: what comes back is what went, asked for or for lack of memory. */
#include "ublk_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define BLOCK 4096u
#define SWAP_BYTES (64u << 20)
#define SWAPPED_BYTES (32u << 20)

/* mkswap: there is none in every guest. */
static void make_swap(const char *path)
{
	struct {
		char boot[1024];
		uint32_t version, last_page, n_bad;
	} head = {.version = 1};
	long page = sysconf(_SC_PAGESIZE);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	head.last_page = (uint32_t)(SWAP_BYTES / page - 1);
	assert_int_equal(pwrite(fd, &head, sizeof(head), 0), sizeof(head));
	assert_int_equal(pwrite(fd, "SWAPSPACE2", 10, page - 10), 10);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static uint64_t word_of(uint64_t no)
{
	return no % 3 == 0 ? no : no * UINT64_C(0x9e3779b97f4a7c15) >> 40;
}

static uint64_t swapped_out(void)
{
	uint64_t n = 0;
	char line[128];
	FILE *file = fopen("/proc/vmstat", "re");

	while (fgets(line, sizeof(line), file) != NULL)
		(void)sscanf(line, "pswpout %llu", (unsigned long long *)&n);
	fclose(file);
	return n;
}

static void fill(uint64_t *memory)
{
	for (uint64_t i = 0; i < SWAPPED_BYTES / 8; i++)
		memory[i] = word_of(i);
}

static bool is_as_filled(const uint64_t *memory)
{
	for (uint64_t i = 0; i < SWAPPED_BYTES / 8; i++)
		if (memory[i] != word_of(i))
			return false;
	return true;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	close(fd);
}

/* A process that uses twice the memory that it is to have, three times over. (Beyond a maximum it might be killed before the disk is done.) */
static void work_in_little_memory(void)
{
	char text[32];
	int status;

	mkdir("/tmp/ublk-cgroup", 0700);
	if (mount("none", "/tmp/ublk-cgroup", "cgroup2", 0, NULL) < 0)
		fail_msg("cgroup2: %s", strerror(errno));
	write_text("/tmp/ublk-cgroup/cgroup.subtree_control", "+memory");
	assert_int_equal(mkdir("/tmp/ublk-cgroup/little", 0700), 0);
	write_text("/tmp/ublk-cgroup/little/memory.high", "16777216");
	pid_t pid = fork();
	if (pid == 0) {
		snprintf(text, sizeof(text), "%d", (int)getpid());
		write_text("/tmp/ublk-cgroup/little/cgroup.procs", text);
		uint64_t *memory = mmap(NULL, SWAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		fill(memory);
		bool good = is_as_filled(memory) && is_as_filled(memory);
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(rmdir("/tmp/ublk-cgroup/little"), 0);
	assert_int_equal(umount("/tmp/ublk-cgroup"), 0);
}

void test_swap(void **state)
{
	char said[SAID_BYTES];
	pid_t pid = serve(WORDS("--ublk", "5", "--swap", "64M,cap=40M"), said);

	if (pid < 0)
		fail_msg("%s", said);
	make_swap("/dev/ublkb5");
	assert_int_equal(swapon("/dev/ublkb5", SWAP_FLAG_DISCARD), 0);
	uint64_t *memory = mmap(NULL, SWAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t before = swapped_out();
	fill(memory);
	assert_int_equal(madvise(memory, SWAPPED_BYTES, MADV_PAGEOUT), 0);
	assert_true(swapped_out() - before >= SWAPPED_BYTES / BLOCK / 2);
	assert_true(is_as_filled(memory));
	munmap(memory, SWAPPED_BYTES);
	before = swapped_out();
	work_in_little_memory();
	print_message("%llu pages swapped out\n", (unsigned long long)(swapped_out() - before));
	assert_true(swapped_out() - before >= SWAPPED_BYTES / BLOCK / 2);
	assert_int_equal(swapoff("/dev/ublkb5"), 0);
	assert_int_equal(end(pid, SIGTERM), 0);
}
