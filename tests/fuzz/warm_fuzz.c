/* warm_fuzz.c - a file that is said to be a list of hot pages: read whole, or refused with a reason.
 *
 * An input's first byte says how it is taken, the rest is the file:
 *   bit 0   its two checksums are made right first
 *   bit 1   and the numbers of items and runs fit its length
 */
#include "../support/fuzz.h"
#include "../../src/base/assert.h"
#include "../../src/base/crc32c.h"
#include "../../src/map/warm_list.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* As docs/format.md has it. */
#define HEADER_BYTES 40u
#define ITEM_BYTES 32u
#define RUN_BYTES 12u
#define CRC_AT 8u
#define BODY_CRC_AT 12u
#define N_ITEMS_AT 24u
#define N_RUNS_AT 32u

static void put_crc(uint8_t *file, size_t at, size_t from, size_t end)
{
	uint32_t crc = htole32(crc32c(0, file + from, end - from));

	memcpy(file + at, &crc, sizeof(crc));
}

static void make_right(uint8_t *file, size_t n_bytes, uint8_t how)
{
	uint64_t body = n_bytes - HEADER_BYTES, n_items = body / ITEM_BYTES;

	while ((body - n_items * ITEM_BYTES) % RUN_BYTES != 0 && n_items > 0)
		n_items--;
	uint64_t counts[2] = {htole64(n_items), htole64((body - n_items * ITEM_BYTES) / RUN_BYTES)};
	if ((how & 2) != 0)
		memcpy(file + N_ITEMS_AT, counts, sizeof(counts));
	if ((how & 1) == 0)
		return;
	put_crc(file, BODY_CRC_AT, HEADER_BYTES, n_bytes);
	put_crc(file, CRC_AT, BODY_CRC_AT, HEADER_BYTES);
}

/* As many as it says there are, in order, and then no more. */
static void read_list(struct warm_list *list, size_t n_bytes)
{
	struct warm_identity id;
	struct warm_run run;
	uint64_t n_items = 0, n_runs = 0;

	while (warm_list_get_item(list, &id) == 1)
		n_items++;
	while (warm_list_get_run(list, &run) == 1) {
		quire_assert(run.n <= WARM_RUN_MAX_UNITS && run.uses <= 3);
		n_runs++;
	}
	quire_assert(HEADER_BYTES + n_items * ITEM_BYTES + n_runs * RUN_BYTES == n_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct warm_list list;
	static uint8_t file[FUZZ_INPUT_MOST_BYTES];
	static int fd = -1;
	char path[64];
	struct quire_error err = {.text = ""};

	if (n_bytes == 0 || n_bytes > sizeof(file))
		return 0;
	if (fd < 0)
		fd = memfd_create("warm", MFD_CLOEXEC);
	size_t n = n_bytes - 1;
	memcpy(file, data + 1, n);
	if (n >= HEADER_BYTES)
		make_right(file, n, data[0]);
	quire_assert(fd >= 0 && ftruncate(fd, (off_t)n) == 0 && pwrite(fd, file, n, 0) == (ssize_t)n);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int rc = warm_list_open(&list, AT_FDCWD, path, &err);
	if (rc == 0) {
		read_list(&list, n);
		warm_list_close(&list);
	} else {
		quire_assert((rc == -EUCLEAN || rc == -EBADMSG) && err.text[0] != '\0');
	}
	return 0;
}
