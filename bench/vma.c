/* vma.c - what it costs to map many small files; one way a run, one line of JSON.
 *
 *   bench-vma open|mmap|quire DIR N
 *
 * Files are DIR/00/000000 and on, 1000 to a directory, as bench/run made them. `open` is the
 * floor that nobody can avoid: open, fstat, close of each. `mmap` adds a mapping each, as far as
 * the kernel lets it. `quire` puts all into one map.
 */
#include "clock.h"

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 72

struct report {
	size_t n_mapped;
	double seconds;
	long vmas, page_table_kib, slab_kib, resident_kib; /* what was added */
	unsigned long long cache_vmas;
};

struct snapshot {
	long vmas, page_table_kib, slab_kib, resident_kib;
};

static long field_kib(const char *path, const char *name)
{
	char line[256];
	long kib = 0;
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			kib = strtol(line + strlen(name), NULL, 10);
	if (f != NULL)
		fclose(f);
	return kib;
}

static struct snapshot snapshot(void)
{
	struct snapshot s = {
		.page_table_kib = field_kib("/proc/self/status", "VmPTE:"),
		.slab_kib = field_kib("/proc/meminfo", "SUnreclaim:"),
		.resident_kib = field_kib("/proc/self/status", "RssAnon:"),
	};
	FILE *f = fopen("/proc/self/maps", "re");

	for (int c; f != NULL && (c = fgetc(f)) != EOF;)
		s.vmas += c == '\n';
	if (f != NULL)
		fclose(f);
	return s;
}

static void file_path(char *path, const char *dir, size_t i)
{
	snprintf(path, PATH_BYTES, "%.40s/%02zu/%06zu", dir, i / 1000 % 1000, i);
}

static int open_all(const char *paths, size_t n, struct report *ret)
{
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		int fd = open(paths + i * PATH_BYTES, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) != 0)
			return -errno;
		close(fd);
		ret->n_mapped++;
	}
	return 0;
}

static int mmap_all(const char *paths, size_t n, struct report *ret)
{
	struct stat st;

	for (size_t i = 0; i < n; i++) {
		int fd = open(paths + i * PATH_BYTES, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) != 0)
			return -errno;
		void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
		if (map == MAP_FAILED)
			return errno == ENOMEM ? 0 : -errno; /* the kernel's limit of mappings */
		ret->n_mapped++;
	}
	return 0;
}

static int map_all(struct quire_cache *cache, const struct quire_item *items, size_t n, struct report *ret)
{
	struct quire_error err = { 0 };
	struct quire_map *map;
	int rc = quire_map_create(cache, items, n, NULL, &map, &err);

	if (rc < 0) {
		fprintf(stderr, "bench-vma: %s\n", err.text);
		return rc;
	}
	ret->n_mapped = quire_map_n_items(map);
	return 0;
}

static int run(const char *kind, const char *paths, size_t n, struct report *ret)
{
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = 256u << 20 };
	struct quire_item *items = calloc(n, sizeof(*items));
	struct quire_cache *cache = NULL;
	struct quire_cache_stat stat = { 0 };
	int rc = items == NULL ? -ENOMEM : 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		items[i].path = paths + i * PATH_BYTES;
	const struct snapshot before = snapshot();
	if (rc == 0 && strcmp(kind, "quire") == 0)
		rc = quire_cache_open(&opts, &cache, NULL);
	double start = now_seconds();
	if (rc == 0)
		rc = cache != NULL               ? map_all(cache, items, n, ret) :
		     strcmp(kind, "mmap") == 0 ? mmap_all(paths, n, ret) :
		                                   open_all(paths, n, ret);
	ret->seconds = now_seconds() - start;
	const struct snapshot after = snapshot();

	ret->vmas = after.vmas - before.vmas;
	ret->page_table_kib = after.page_table_kib - before.page_table_kib;
	ret->slab_kib = after.slab_kib - before.slab_kib;
	ret->resident_kib = after.resident_kib - before.resident_kib;
	if (cache != NULL && quire_cache_stat(cache, &stat) == 0)
		ret->cache_vmas = stat.n_vmas;
	return rc; /* the process's end takes all back */
}

int main(int argc, char **argv)
{
	struct report r = { 0 };
	size_t n = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	char *paths = calloc(n + 1, PATH_BYTES);

	if (n == 0 || paths == NULL || strlen(argv[2]) > 40) {
		fprintf(stderr, "usage: bench-vma open|mmap|quire DIR N\n");
		return 2;
	}
	for (size_t i = 0; i < n; i++)
		file_path(paths + i * PATH_BYTES, argv[2], i);
	int rc = run(argv[1], paths, n, &r);
	if (rc != 0) {
		fprintf(stderr, "bench-vma: %s: %s\n", argv[1], strerror(-rc));
		return 1;
	}
	printf("{\"system\": \"%s\", \"n\": %zu, \"seconds\": %.6f, \"vmas\": %ld, \"page_table_kib\": %ld, "
	       "\"slab_kib\": %ld, \"resident_kib\": %ld, \"cache_vmas\": %llu}\n",
	       argv[1], r.n_mapped, r.seconds, r.vmas, r.page_table_kib, r.slab_kib, r.resident_kib,
	       r.cache_vmas);
	return 0;
}
