/* trace_fuzz.c - a file that is said to be a block trace: read, or refused with a reason; what was read is replayed.
 *
 * An input's first byte says how it is taken, the rest is the file:
 *   bits 0, 1   format: by its name and content; text; oracleGeneral
 *   bits 2, 3   column: the usual; number 2; `id`; one that may not be there
 */
#include "../support/fuzz.h"
#include "../../bench/replay_read.h"
#include "../../src/base/assert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_FOLDED 5u

/* Numbers stand for ids, from 0 in the order of their first access. */
static void check_trace(const struct trace *t)
{
	uint32_t n_seen = 0;

	quire_assert(t->n > 0 && t->n_pages > 0 && t->n_pages <= t->n);
	for (size_t i = 0; i < t->n; i++) {
		quire_assert(t->pages[i] <= n_seen && t->pages[i] < t->n_pages);
		n_seen += t->pages[i] == n_seen;
	}
	quire_assert(n_seen == t->n_pages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static const char *const columns[] = {NULL, "2", "id", "\xff missing"};
	static int fd = -1;
	char path[64], why[TRACE_WHY_BYTES] = "";
	struct trace t, folded;

	if (n_bytes == 0)
		return 0;
	if (fd < 0)
		fd = memfd_create("trace", MFD_CLOEXEC);
	quire_assert(fd >= 0 && ftruncate(fd, (off_t)n_bytes - 1) == 0);
	quire_assert(pwrite(fd, data + 1, n_bytes - 1, 0) == (ssize_t)n_bytes - 1);
	struct trace_options o = {.format = (enum trace_format)((data[0] & 3) % 3), .column = columns[data[0] >> 2 & 3]};
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int rc = trace_read(path, &o, &t, why);
	if (rc < 0) {
		quire_assert(rc == -EINVAL && why[0] != '\0' && memchr(why, '\0', sizeof(why)) != NULL);
		return 0;
	}
	check_trace(&t);
	quire_assert(trace_fold(&t, N_FOLDED, &folded) == 0);
	check_trace(&folded);
	quire_assert(folded.n == t.n && folded.n_pages <= N_FOLDED);
	trace_free(&folded);
	trace_free(&t);
	return 0;
}
