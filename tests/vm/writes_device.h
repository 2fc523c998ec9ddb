/* writes_device.h - a block device on another that keeps a log of all that is written to it: the kernel's target log-writes. */
#ifndef TESTS_VM_WRITES_DEVICE_H
#define TESTS_VM_WRITES_DEVICE_H

#include <stdint.h>

#define WRITES_MARK_BYTES 4096u

struct writes_device {
	char path[32]; /* /dev/dm-N */
	int data;
	uint64_t mark_offset;
};

/* Makes it. What is called `data` is written to as ever, and the log is put on `log`. The last WRITES_MARK_BYTES of `data` are none of
 * the device's. Exits on failure, and with 77 where the kernel has no such thing. */
void writes_device_make(struct writes_device *d, const char *data, const char *log);
/* A mark in the log: whatever the device has said to be durable comes before it. The same text is written to the last bytes of `data`: a mark for who logs what
 * that is given. One word, of 400 bytes at most. */
void writes_device_mark(const struct writes_device *d, const char *text);
/* Everything is in the log then. */
void writes_device_remove(struct writes_device *d);

#endif
