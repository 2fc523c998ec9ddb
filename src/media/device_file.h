/* device_file.h - opening what device_file.c drives. For src/media alone. */
#ifndef MEDIA_DEVICE_FILE_H
#define MEDIA_DEVICE_FILE_H

#include "device_internal.h"

struct device_file {
	struct device base;
	int fd;
	bool direct;   /* O_DIRECT */
	bool is_block; /* a block device, not a file */
	bool is_dax;   /* a character device of persistent memory, which can be mapped and nothing else */
};

/* Opens path, creating it if asked, and learns fd, direct, is_block, size_bytes, discards and read_only.
 * On failure nothing is left open, or created. Blocks. */
int device_file_open(struct device_file *f, const char *path, unsigned flags, uint64_t size_bytes,
                     struct quire_error *err);

/* What a device of a file does, for one that is more than that: d is a struct device_file. */
void device_file_submit(struct device *d, struct quire_loop *loop, struct device_io *io);
int device_file_read_now(struct device *d, uint64_t offset, void *buf, uint64_t len_bytes);
int device_file_make_larger(struct device_file *f, uint64_t size_bytes); /* the file, not size_bytes */
void device_file_close(struct device *d);

/* -EFBIG if a file of that size is beyond what this process may write: else a write would bring a
 * SIGXFSZ upon it. */
int device_file_limit(uint64_t size_bytes);

#endif
