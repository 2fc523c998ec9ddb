/* writes_device.h - a block device on another that keeps a log of all that is written to it: the kernel's target log-writes. */
#ifndef TESTS_VM_WRITES_DEVICE_H
#define TESTS_VM_WRITES_DEVICE_H

/* Makes it; ret_path: /dev/dm-N. What is called `data` is written to as ever, and the log is put on `log`. Exits on failure, and with 77 where the
 * kernel has no such thing. */
void writes_device_make(const char *data, const char *log, char ret_path[32]);
/* A mark in the log: whatever the device has said to be durable comes before it. One word, of 400 bytes at most. */
void writes_device_mark(const char *text);
/* Everything is in the log then. */
void writes_device_remove(void);

#endif
