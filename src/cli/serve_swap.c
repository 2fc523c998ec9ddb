/* serve_swap.c - the pool behind `--swap`, and the store that it may spill to. */
#include "serve_swap.h"

#include "cli.h"
#include <quire/cache.h>
#include <quire/store.h>
#include <quire/tmem_store.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define CAP_LEAST_BYTES (1u << 20) /* of a budget of pools */
#define CAP ",cap="
#define SPILL ",spill="

/* A store's path is the last word, whatever is in it. */
int serve_swap_take(struct serve_swap *swap, const char *text)
{
	struct serve_swap taken = {.size_bytes = 0};
	const char *spill = strstr(text, SPILL);
	char *words = spill != NULL ? strndup(text, (size_t)(spill - text)) : strdup(text);
	char *cap = words != NULL ? strstr(words, CAP) : NULL;

	taken.spill = spill != NULL ? spill + strlen(SPILL) : NULL;
	if (cap != NULL)
		*cap = '\0';
	bool good = words != NULL && cli_parse_bytes(words, &taken.size_bytes) && taken.size_bytes % PAGE_BYTES == 0 &&
	            (cap == NULL || cli_parse_bytes(cap + strlen(CAP), &taken.cap_bytes));
	free(words);
	if (cap == NULL)
		taken.cap_bytes = taken.size_bytes / 2 > CAP_LEAST_BYTES ? taken.size_bytes / 2 : CAP_LEAST_BYTES;
	if (!good || taken.cap_bytes < CAP_LEAST_BYTES || (spill != NULL && *taken.spill == '\0'))
		return cli_usage(text, "not of the form BYTES[,cap=BYTES][,spill=STORE], whole pages of 4 KiB, a cap of 1 MiB or more");
	*swap = taken;
	return CLI_DONE;
}

static int open_spill(struct serve_swap *swap, struct quire_error *err)
{
	const struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = QUIRE_BUDGET_MIN_BYTES};
	int rc = quire_cache_open(&opts, &swap->cache, err);

	if (rc == 0)
		rc = quire_store_open(swap->cache, swap->spill, 0, &swap->store, err);
	if (rc == 0)
		rc = quire_tmem_set_backing(swap->tmem, swap->store, QUIRE_CLASS_CAPACITY, NULL, err);
	return rc;
}

int serve_swap_open(struct serve_swap *swap)
{
	if (swap->size_bytes == 0)
		return CLI_DONE;
	const struct quire_tmem_options tmem = {.size = sizeof(tmem), .budget_bytes = swap->cap_bytes};
	const struct quire_tmem_pool_options pool = {
		.size = sizeof(pool), .kind = QUIRE_TMEM_PERSISTENT, .flags = swap->spill != NULL ? QUIRE_TMEM_SPILL : 0};
	struct quire_error err;
	int rc = quire_tmem_create(&tmem, &swap->tmem, &err);

	if (rc == 0 && swap->spill != NULL)
		rc = open_spill(swap, &err);
	if (rc == 0)
		rc = quire_tmem_pool_create(swap->tmem, &pool, &swap->pool, &err);
	return rc < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

void serve_swap_close(struct serve_swap *swap)
{
	quire_tmem_pool_destroy(swap->pool);
	quire_tmem_destroy(swap->tmem);
	if (swap->store != NULL)
		(void)quire_store_close(swap->store); /* of what it got here nothing is to be kept */
	if (swap->cache != NULL)
		(void)quire_cache_close(swap->cache);
}
