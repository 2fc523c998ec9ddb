/* export_file_map.h - where a file has data and where holes: asked of the kernel by a thread, since lseek(2) may wait for the disk
 * and no ring has it. */
#ifndef SERVE_EXPORT_FILE_MAP_H
#define SERVE_EXPORT_FILE_MAP_H

#include "export.h"

struct file_map;

/* fd: borrowed until the end. The thread starts with the first question. NULL: no memory. */
struct file_map *file_map_create(int fd);
void file_map_destroy(struct file_map *map); /* nothing is being asked; NULL allowed */

/* In a coroutine, which it suspends: extents as struct export_ops says of EXPORT_ALLOCATION. */
int file_map_ask(struct file_map *map, uint64_t offset, uint64_t n_bytes, struct export_extent *ret, unsigned most);

#endif
