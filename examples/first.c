/* first.c - the README's program: map files, await a range, read it by plain pointers. */
#include <quire/quire.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct quire_cache_options options = {.size = sizeof(options), .budget_bytes = 64 << 20};
	struct quire_error err;
	struct quire_cache *cache;
	struct quire_map *map;
	const void *bytes;
	size_t len;

	if (quire_cache_open(&options, &cache, &err) < 0)
		return fprintf(stderr, "%s\n", err.text), 1;
	struct quire_item item = {.path = argc > 1 ? argv[1] : "/etc/passwd"};
	if (quire_map_create(cache, &item, 1, NULL, &map, &err) < 0)
		return fprintf(stderr, "%s\n", err.text), 1;
	quire_map_item(map, 0, &bytes, &len);

	/* Without the last NULL, an op: a callback, a queue, an eventfd, or a coroutine is told. */
	struct iovec all = {(void *)bytes, len};
	int rc = quire_map_want(map, &all, 1, QUIRE_WANT_PIN, NULL);
	if (rc < 0)
		return fprintf(stderr, "page can't be had: error %d\n", -rc), 1;
	fwrite(bytes, 1, len, stdout);
	quire_map_unwant(map, &all, 1);

	quire_map_destroy(map, NULL);
	return quire_cache_close(cache) != 0;
}
