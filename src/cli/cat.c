/* cat.c - `quire cat`: files to standard output, read through a map.
 *
 * Each window is wanted and pinned, then given to write(2): right in every grade, as the
 * pages are there before the kernel is handed the pointer. The next window is wanted
 * meanwhile.
 */
#include "cli.h"

#include <quire/map.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_BYTES (1u << 20)
#define BUDGET_BYTES (32u << 20)

static int write_all(const unsigned char *at, size_t len_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = write(STDOUT_FILENO, at, len_bytes);
		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? n : 0;
		len_bytes -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static struct iovec window(const unsigned char *start, size_t len_bytes, size_t at)
{
	size_t left = at < len_bytes ? len_bytes - at : 0;

	return (struct iovec){ .iov_base = (void *)(uintptr_t)(start + (left > 0 ? at : 0)),
		               .iov_len = left < WINDOW_BYTES ? left : WINDOW_BYTES };
}

/* Two windows, two operations: one is written while the other is read. */
static int copy_item(struct quire_map *map, const unsigned char *start, size_t len_bytes,
                     const char **ret_what)
{
	struct quire_op ops[2];
	struct iovec windows[2] = { window(start, len_bytes, 0) };
	int rc = 0;

	*ret_what = "reading";
	quire_op_init(&ops[0]);
	rc = quire_map_want(map, &windows[0], 1, QUIRE_WANT_PIN, &ops[0]);
	for (size_t at = 0, turn = 0; rc == 0 && at < len_bytes; at += WINDOW_BYTES, turn ^= 1) {
		struct iovec *now = &windows[turn], *next = &windows[turn ^ 1];
		struct quire_op *next_op = &ops[turn ^ 1];
		int started = 0;

		*next = window(start, len_bytes, at + WINDOW_BYTES);
		quire_op_init(next_op);
		if (next->iov_len > 0)
			started = quire_map_want(map, next, 1, QUIRE_WANT_PIN, next_op);
		rc = (int)quire_await(&ops[turn]);
		if (rc == 0) {
			rc = write_all(now->iov_base, now->iov_len);
			if (rc < 0)
				*ret_what = "standard output";
			quire_map_unwant(map, now, 1);
		}
		if (rc != 0 && next->iov_len > 0 && started == 0 && quire_await(next_op) == 0)
			quire_map_unwant(map, next, 1);
		rc = rc == 0 ? started : rc;
	}
	return rc;
}

static int cat_file(struct quire_cache *cache, const char *path)
{
	const struct quire_item item = { .path = path };
	struct quire_error err = { 0 };
	struct quire_map *map;
	const void *start;
	const char *what = "";
	size_t len;

	if (quire_map_create(cache, &item, 1, NULL, &map, &err) < 0)
		return cli_fail_text(err.text);
	int rc = quire_map_item(map, 0, &start, &len);
	if (rc == 0 && len > 0)
		rc = copy_item(map, start, len, &what);
	quire_map_destroy(map, NULL);
	if (rc < 0)
		return cli_fail(strcmp(what, "reading") == 0 ? path : what, "%s", strerror(-rc));
	return CLI_DONE;
}

static void print_help(void)
{
	printf("usage: quire cat FILE…\n\nWrites files to standard output, read through a map.\n");
}

int verb_cat(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const struct quire_cache_options opts = { .size = sizeof(opts), .budget_bytes = BUDGET_BYTES };
	struct quire_error err = { 0 };
	struct quire_cache *cache;

	int rc = cli_options(argc, argv, longs, print_help, NULL, NULL);
	if (rc != CLI_GO_ON)
		return rc;
	if (optind == argc)
		return cli_usage("FILE", "which one?");
	if (quire_cache_open(&opts, &cache, &err) < 0)
		return cli_fail_text(err.text);
	rc = CLI_DONE;
	for (int i = optind; i < argc && rc == CLI_DONE; i++)
		rc = cat_file(cache, argv[i]);
	quire_cache_close(cache);
	return rc;
}
