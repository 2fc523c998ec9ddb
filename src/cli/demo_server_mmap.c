/* demo_server_mmap.c - kernel mmap: a pointer, and whoever touches a cold page waits for it.
 *
 * Settings: MADV_RANDOM (without it a miss reads 32 pages around it and evicts as many), the
 * memory filled by 64 threads beforehand, one request queue for all threads.
 */
#include "demo_server.h"

#include <errno.h>
#include <string.h>

struct mmap_server {
	const struct demo_corpus *corpus;
	const unsigned char **maps;
};

static int touch(void *arg, size_t i)
{
	const struct mmap_server *s = arg;
	const struct demo_page *page = &s->corpus->pages[i];
	const volatile unsigned char *byte =
		s->maps[page->file] + (size_t)page->page * s->corpus->page_bytes;

	(void)*byte;
	return 0;
}

static int answer_from_map(void *arg, const struct demo_wire_request *request, void *bytes)
{
	const struct mmap_server *s = arg;

	memcpy(bytes, s->maps[request->file] + request->offset, request->len_bytes);
	return 0;
}

int demo_serve_mmap(struct demo_server *server)
{
	struct mmap_server s = { .corpus = server->corpus, .maps = demo_server_mmap(server) };

	if (s.maps == NULL)
		return demo_server_fail(server, -errno, "mmap");
	int rc = demo_parallel(s.corpus->n_pages, DEMO_THREADS, touch, &s);
	if (rc != 0)
		return demo_server_fail(server, rc, "starting threads");
	return demo_server_run_threads(server, answer_from_map, &s);
}
