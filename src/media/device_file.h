/* device_file.h - opening what device_file.c drives. For src/media alone. */
#ifndef MEDIA_DEVICE_FILE_H
#define MEDIA_DEVICE_FILE_H

#include "device_internal.h"

struct device_file {
	struct device base;
	int fd;
	bool direct;   /* O_DIRECT */
	bool is_block; /* a block device, not a file */
};

/* Opens path, creating it if asked, and learns fd, direct, is_block, size_bytes, discards and read_only.
 * On failure nothing is left open, or created. Blocks. */
int device_file_open(struct device_file *f, const char *path, unsigned flags, uint64_t size_bytes,
                     struct quire_error *err);

/* -EFBIG if a file of that size is beyond what this process may write: else a write would bring a
 * SIGXFSZ upon it. */
int device_file_limit(uint64_t size_bytes);

#endif
