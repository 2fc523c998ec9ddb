/* use_c FILE - a program as anybody would write it, in strict C99: maps FILE and compares
 * every byte with what stdio reads. */
#include <quire/quire.h>
#include <stdio.h>
#include <string.h>

static int compare(struct quire_map *map, const char *path)
{
	const unsigned char *page_by_page;
	const void *start;
	size_t len, done = 0, n;
	unsigned char buffer[4096];
	struct iovec range;
	FILE *file;

	int rc = quire_map_item(map, 0, &start, &len);
	if (rc < 0)
		return rc;
	page_by_page = start;
	file = fopen(path, "rb");
	if (file == NULL)
		return -1;

	while (rc == 0 && (n = fread(buffer, 1, sizeof(buffer), file)) > 0) {
		range.iov_base = (void *)(page_by_page + done);
		range.iov_len = n;
		rc = quire_map_want(map, &range, 1, QUIRE_WANT_PIN, NULL);
		if (rc == 0 && memcmp(page_by_page + done, buffer, n) != 0)
			rc = -1;
		if (rc == 0)
			rc = quire_map_unwant(map, &range, 1);
		done += n;
	}
	fclose(file);
	return rc == 0 && done != len ? -1 : rc;
}

int main(int argc, char **argv)
{
	struct quire_error err;
	struct quire_cache *cache;
	struct quire_map *map;
	struct quire_item item;

	if (argc != 2)
		return 2;
	memset(&item, 0, sizeof(item));
	item.path = argv[1];

	if (quire_cache_open(NULL, &cache, &err) < 0 || quire_map_create(cache, &item, 1, NULL, &map, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	if (compare(map, argv[1]) != 0) {
		fprintf(stderr, "%s: not the same bytes\n", argv[1]);
		return 1;
	}
	if (quire_map_destroy(map, NULL) != 0 || quire_cache_close(cache) != 0)
		return 1;
	printf("quire %s: the same bytes\n", quire_version());
	return 0;
}
