/* demo_server_pread.c - a pool of threads that pread: what teams turn to when mmap stalls.
 *
 * Settings: POSIX_FADV_RANDOM on every file, reads of just what was asked for through the
 * kernel's page cache, one request queue for all threads.
 */
#include "demo_server.h"

#include <errno.h>
#include <unistd.h>

static int read_range(const struct demo_corpus *c, uint32_t file, uint64_t offset, void *bytes,
                      size_t len_bytes)
{
	ssize_t n;

	do
		n = pread(c->files[file].fd, bytes, len_bytes, (off_t)offset);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len_bytes ? 0 : -ESTALE;
}

static int load(void *arg, size_t i)
{
	const struct demo_corpus *c = arg;
	char byte;

	return read_range(c, c->pages[i].file, (uint64_t)c->pages[i].page * c->page_bytes, &byte, 1);
}

static int answer_from_file(void *arg, const struct demo_wire_request *request, void *bytes)
{
	return read_range(arg, request->file, request->offset, bytes, request->len_bytes);
}

int demo_serve_pread(struct demo_server *server)
{
	void *corpus = (void *)(uintptr_t)server->corpus;
	int rc = demo_parallel(server->corpus->n_pages, DEMO_THREADS, load, corpus);

	if (rc != 0)
		return demo_server_fail(server, rc, "reading the files");
	return demo_server_run_threads(server, answer_from_file, corpus);
}
