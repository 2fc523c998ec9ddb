/* tmem_corpus.c - see tmem_corpus.h. */
#include "tmem_corpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Noreturn void fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(error));
	exit(1);
}

struct corpus corpus_map(const char *path, uint64_t most_bytes)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0)
		fail(path, errno);
	struct corpus c = {.n = ((uint64_t)st.st_size < most_bytes ? (uint64_t)st.st_size : most_bytes) / PAGE};
	if (c.n == 0)
		fail(path, ENODATA);
	void *at = mmap(NULL, c.n * PAGE, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (at == MAP_FAILED)
		fail(path, errno);
	c.pages = at;
	close(fd);
	return c;
}
