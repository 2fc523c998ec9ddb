/* ycsb_mmap.c - tables as plain files, each under one kernel mmap with MADV_RANDOM ("config 1"). */
#include "ycsb_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILL_THREADS 64u

static struct table_index table_index;
static const char **tables; /* owned; where each is mapped */

static void table_path(const struct ycsb *y, unsigned table, char *ret, size_t size)
{
	snprintf(ret, size, "%s/table-%04u", y->path, table);
}

/* ---- filled ---- */

static int write_table(void *arg, unsigned table, const void *bytes, size_t len_bytes)
{
	char path[4200];

	table_path(arg, table, path, sizeof(path));
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	bool good = fd >= 0 && write(fd, bytes, len_bytes) == (ssize_t)len_bytes && fsync(fd) == 0;
	int rc = good ? 0 : ycsb_failed(path, strerror(errno));

	if (fd >= 0)
		close(fd);
	return rc;
}

int ycsb_fill(struct ycsb *y)
{
	if (mkdir(y->path, 0755) < 0 && errno != EEXIST)
		return ycsb_failed(y->path, strerror(errno));
	int rc = table_make_all(y, write_table, y);
	return rc == 0 ? table_index_write(y) : rc;
}

/* ---- read ---- */

static int map_table(const struct ycsb *y, unsigned table)
{
	char path[4200];
	struct stat st;

	table_path(y, table, path, sizeof(path));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return ycsb_failed(path, strerror(errno));
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED || madvise(map, (size_t)st.st_size, MADV_RANDOM) < 0)
		return ycsb_failed(path, strerror(errno));
	tables[table] = map;
	return 0;
}

static int open_own(struct ycsb *y, void **ret_own)
{
	*ret_own = NULL;
	return 0;
}

static void close_own(void *own)
{
}

static int read_record(void *own, const char *key, uint64_t number, bool *ret_right)
{
	uint64_t block = table_index_find(&table_index, key);
	const char *table = tables[block / TABLE_BLOCKS];
	const void *value = table_block_find(table + block % TABLE_BLOCKS * TABLE_BLOCK_BYTES, key);

	*ret_right = value != NULL && ycsb_right(number, value, YCSB_VALUE_BYTES);
	return 0;
}

int ycsb_read(struct ycsb *y)
{
	static const struct ycsb_reader reader = {
		.open = open_own, .close = close_own, .read = read_record, .n_misses = ycsb_major_faults,
		.n_fill_threads = FILL_THREADS,
	};
	int rc = table_index_read(y, &table_index);

	if (rc != 0)
		return rc;
	tables = calloc(table_index.n_tables, sizeof(*tables));
	if (tables == NULL)
		return ycsb_failed("starting", "no memory");
	for (unsigned i = 0; i < table_index.n_tables && rc == 0; i++)
		rc = map_table(y, i);
	return rc == 0 ? ycsb_run(y, &reader) : rc;
}
