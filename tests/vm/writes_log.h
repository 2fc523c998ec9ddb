/* writes_log.h - a log of writes, as the kernel's target log-writes makes it (Documentation/admin-guide/device-mapper/log-writes.rst), or QEMU's filter
 * blklogwrites, and what a device would hold had the power failed at some point of it. The format is the same; what can be told from it is not:
 *
 * The kernel has a write that was durable by itself in its log when it ends, any other one when the flush ends that began next. So what stands
 * before a flush or a mark was on the medium for certain. But of what was not flushed yet the log doesn't tell that it was there, nor that it was not: a write may
 * stand thousands of entries behind those that came later. Zeros that were written ahead stand behind what they made room for.
 *
 * QEMU has every write, discard and flush in its log when the device has done it, and only then does the guest hear of it. So of two that did not overlap
 * in time the first is the first in the log: at the moment when entry i came, entries up to i had been done, in this order, and all of them before the last flush are
 * on the medium. Of those behind it any sectors may be. (Of what a flush overlapped in time some may be lost that is held for certain here. So there are states
 * that are never made, but none is made that can't be.)
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
	bool in_order;                /* QEMU's */
};

/* The kernel's. Exits if it is not a log, or damaged. */
void writes_log_open(struct writes_log *log, const char *path);
/* QEMU's, of a device of so many bytes; what was written behind its end are marks. */
void writes_log_open_in_order(struct writes_log *log, const char *path, uint64_t device_bytes);
void writes_log_close(struct writes_log *log);

/* What becomes of discarded bytes: whatever the device likes. */
enum writes_discarded { WRITES_STAY, WRITES_ZEROS, WRITES_RUBBISH, WRITES_N_DISCARDED };
/* Of a write; the caller frees them. */
unsigned char *writes_log_bytes(const struct writes_log *log, const struct writes_entry *e);
/* Exits if it can't be done. */
void writes_log_put(int image, const void *from, size_t n_bytes, uint64_t offset);
/* Of a log in order: does an entry again, on an image of the device. (The kernel's: writes_order.h.) */
void writes_log_apply(const struct writes_log *log, const struct writes_entry *e, int image, enum writes_discarded discarded);
/* The same of some sectors of it: all, none, the first so many, or any, as *chance has it. */
void writes_log_apply_some(const struct writes_log *log, const struct writes_entry *e, int image, enum writes_discarded discarded,
                           uint64_t *chance);

#endif
