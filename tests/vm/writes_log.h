/* writes_log.h - a log of writes, as the kernel's target log-writes makes it (Documentation/admin-guide/device-mapper/log-writes.rst), and what a device
 * would hold had the power failed at some point of it.
 *
 * The log has a write that was not to be durable by itself at the next flush, not before: so what stands before a flush or a mark is what was on the medium
 * for certain.
 */
#ifndef TESTS_VM_WRITES_LOG_H
#define TESTS_VM_WRITES_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum writes_flags {
	WRITES_FLUSH = 1,
	WRITES_FUA = 2,
	WRITES_DISCARD = 4,
	WRITES_MARK = 8,
};

struct writes_entry {
	uint64_t offset, len_bytes; /* of the device */
	uint64_t flags;
	uint64_t at;                /* where its bytes are in the log */
	char mark[480];             /* text; "" unless WRITES_MARK */
};

struct writes_log {
	int fd;
	size_t n;
	struct writes_entry *entries; /* owned */
};

/* Exits if it is not a log, or damaged. */
void writes_log_open(struct writes_log *log, const char *path);
void writes_log_close(struct writes_log *log);

/* What becomes of discarded bytes: whatever the device likes. */
enum writes_discarded { WRITES_STAY, WRITES_ZEROS, WRITES_RUBBISH, WRITES_N_DISCARDED };
/* Does an entry again, on an image of the device. */
void writes_log_apply(const struct writes_log *log, const struct writes_entry *e, int image, enum writes_discarded discarded);

#endif
