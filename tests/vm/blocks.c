/*
 * blocks - what must survive when the guest is killed.
 *
 *   blocks append FILE N [FILE N]…
 *                             writes numbered blocks of 4 KiB to the files in turn, the first of each is N, each by one
 *                             O_DIRECT|O_DSYNC write, and prints "FILE N" after block N of it was acknowledged
 *   blocks check FILE N [FILE N]…
 *                             exits 0 if the first N blocks of each are there and as they were written
 *
 * After N_MOST of each, appending waits to be killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_BLOCK_BYTES 4096
#define N_WORDS (N_BLOCK_BYTES / sizeof(uint64_t))
#define N_MOST 600
#define N_FILES 4

static uint64_t block[N_WORDS] __attribute__((aligned(N_BLOCK_BYTES)));

static uint64_t word_of(uint64_t number, size_t i)
{
	return (number + 1) * 0x9e3779b97f4a7c15ull + i;
}

static int failed(const char *file, const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", file, what, strerror(errno));
	return 1;
}

/* words: a file and a number in turn. */
static int append(char **words, int n_files)
{
	int fds[N_FILES];
	uint64_t first[N_FILES];
	for (int f = 0; f < n_files; f++) {
		fds[f] = open(words[2 * f], O_RDWR | O_CREAT | O_DIRECT | O_DSYNC, 0600);
		if (fds[f] < 0)
			return failed(words[2 * f], "open");
		first[f] = strtoull(words[2 * f + 1], NULL, 10);
	}
	/* So that what is acknowledged below is not lost with the names. */
	sync();

	for (uint64_t n = 0; n < N_MOST * (uint64_t)n_files; n++) {
		int f = (int)(n % (uint64_t)n_files);
		uint64_t number = first[f] + n / (uint64_t)n_files;
		for (size_t i = 0; i < N_WORDS; i++)
			block[i] = word_of(number, i);
		if (pwrite(fds[f], block, N_BLOCK_BYTES, (off_t)(number * N_BLOCK_BYTES)) != N_BLOCK_BYTES)
			return failed(words[2 * f], "pwrite");
		printf("%s %llu\n", words[2 * f], (unsigned long long)number);
		fflush(stdout);
	}
	for (;;)
		pause();
}

static int check(const char *file, uint64_t n_blocks)
{
	int fd = open(file, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return failed(file, "open");
	for (uint64_t number = 0; number < n_blocks; number++) {
		if (pread(fd, block, N_BLOCK_BYTES, (off_t)(number * N_BLOCK_BYTES)) != N_BLOCK_BYTES)
			return failed(file, "an acknowledged block is missing");
		for (size_t i = 0; i < N_WORDS; i++) {
			if (block[i] != word_of(number, i)) {
				fprintf(stderr, "%s: block %llu is not as it was written\n", file, (unsigned long long)number);
				return 1;
			}
		}
	}
	printf("%s: %llu blocks are there\n", file, (unsigned long long)n_blocks);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	bool are_pairs = argc > 3 && argc % 2 == 0 && (argc - 2) / 2 <= N_FILES;

	if (are_pairs && strcmp(argv[1], "append") == 0)
		return append(argv + 2, (argc - 2) / 2);
	if (are_pairs && strcmp(argv[1], "check") == 0) {
		int n_bad = 0;
		for (int i = 2; i < argc; i += 2)
			n_bad += check(argv[i], strtoull(argv[i + 1], NULL, 10));
		return n_bad != 0;
	}
	fputs("usage: blocks append FILE N… | check FILE N…\n", stderr);
	return 2;
}
