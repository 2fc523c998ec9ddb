/* wild_fuzz.c - the same for libFuzzer, which looks where the service has been. Built where the compiler is told to:
 *
 *   CC=clang meson setup B -Dc_args=-fsanitize=fuzzer-no-link,address -Dc_link_args=-fsanitize=address -Db_lundef=false
 *   ninja -C B tests/serve/serve-wild-fuzz && B/tests/serve/serve-wild-fuzz -max_len=512 NEW tests/serve/corpus
 *
 * It leaves a socket and a store in /tmp.
 */
#include "wild.h"

#include <quire/quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static char path[64];

static void start(void)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 32u << 20, .n_threads = 1};
	struct quire_tmem_service_options so = {.size = sizeof(so), .client_bytes = 1u << 20};
	struct quire_tmem_service *service;
	struct quire_cache_options co = {.size = sizeof(co), .budget_bytes = 32u << 20};
	struct quire_store_options to = {.size = sizeof(to), .capacity_bytes = 64u << 20};
	struct quire_cache *cache;
	struct quire_tmem *tmem;
	char dir[sizeof(path) + 8];

	snprintf(path, sizeof(path), "/tmp/quire-wild-%ld", (long)getpid());
	snprintf(dir, sizeof(dir), "%s-store", path);
	if (quire_store_create(dir, &to, NULL) < 0 || quire_cache_open(&co, &cache, NULL) < 0 ||
	    quire_store_open(cache, dir, 0, &so.store, NULL) < 0)
		abort();
	if (quire_tmem_create(&o, &tmem, NULL) < 0 || quire_tmem_serve(tmem, path, &so, &service, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	if (path[0] == '\0')
		start();
	wild_run(path, bytes, n);
	return 0;
}
