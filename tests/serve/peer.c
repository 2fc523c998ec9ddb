/* peer.c - tmem-peer PATH PAGES [LETTER]: a client of `quire serve --tmem`. Puts so many pages, gets them, says "good"; then gets them again for each
 * byte of its input, and says "good" again, or what went wrong. With a letter the pool is a shared one of that name: if it is there, nothing is
 * put; else it is saved before "good". '*' is no letter: the pool may spill. */
#include <quire/tmem_service.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u

static int put(struct quire_tmem_remote *pool, uint32_t i)
{
	const struct quire_tmem_key key = {.object = {1}, .index = i};
	uint8_t page[PAGE];

	/* Not smaller by compressing, and no other like it: what is small stays in memory. */
	for (uint32_t at = 0, x = i * 2654435761u + 1; at < PAGE; at++)
		page[at] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
	memcpy(page, &i, sizeof(i));
	memcpy(page + 1000, &key, sizeof(key));
	return quire_tmem_remote_put(pool, &key, page);
}

static int get(struct quire_tmem_remote *pool, uint32_t i)
{
	const struct quire_tmem_key key = {.object = {1}, .index = i};
	uint8_t page[PAGE];
	int rc = quire_tmem_remote_get(pool, &key, page, QUIRE_TMEM_GET_USUAL);

	return rc < 0 ? rc : memcmp(page, &i, sizeof(i)) == 0 && memcmp(page + 1000, &key, sizeof(key)) == 0 ? 0 : -74;
}

static void say(int rc)
{
	if (rc == 0)
		printf("good\n");
	else
		printf("%s\n", strerror(-rc));
	fflush(stdout);
}

static int for_all(struct quire_tmem_remote *pool, uint32_t n, int (*call)(struct quire_tmem_remote *pool, uint32_t i))
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = call(pool, i);
	return rc;
}

/* 1: it was there, 0: it was made. */
static int get_pool(struct quire_tmem_client *client, const char *letter, struct quire_tmem_remote **ret_pool, struct quire_error *err)
{
	struct quire_tmem_pool_options o = {.size = sizeof(o), .kind = QUIRE_TMEM_PERSISTENT};

	if (letter != NULL && letter[0] == '*') {
		o.flags = QUIRE_TMEM_SPILL;
	} else if (letter != NULL) {
		o.flags = QUIRE_TMEM_SHARED;
		o.uuid[0] = (uint8_t)letter[0];
		if (quire_tmem_remote_open(client, o.uuid, ret_pool) == 0)
			return 1;
	}
	return quire_tmem_remote_create(client, &o, ret_pool, err);
}

int main(int argc, char **argv)
{
	const char *letter = argc == 4 ? argv[3] : NULL;
	struct quire_tmem_client *client = NULL;
	struct quire_tmem_remote *pool;
	struct quire_error err;

	if (argc != 3 && argc != 4)
		return 2;
	int found = quire_tmem_connect(argv[1], NULL, &client, &err);
	if (found == 0)
		found = get_pool(client, letter, &pool, &err);
	if (found < 0) {
		printf("%s\n", err.text);
		quire_tmem_disconnect(client);
		return 1;
	}
	uint32_t n = (uint32_t)strtoul(argv[2], NULL, 10);
	int rc = found > 0 ? 0 : for_all(pool, n, put);
	if (rc == 0 && found == 0 && letter != NULL && letter[0] != '*')
		rc = quire_tmem_remote_save(pool);
	say(rc < 0 ? rc : for_all(pool, n, get));
	while (getchar() != EOF)
		say(for_all(pool, n, get));
	quire_tmem_disconnect(client);
	return 0;
}
