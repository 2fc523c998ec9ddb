/* serve_ublk.c - `quire serve --ublk`: a file, memory, swap, or a volume of a store as /dev/ublkbN.
 *
 * The main thread serves; another waits for the signals that end it. All threads are made after the first has been marked as one that
 * reclaim of memory may wait for, so that they are as well. Where swap is served, nothing of the process may be swapped out: it would be to itself.
 */
#include "serve_ublk.h"

#include "serve_signals.h"
#include "store_verbs.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

bool serve_ublk_is_meant(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--ublk") == 0 || strncmp(argv[i], "--ublk=", 7) == 0)
			return true;
	return false;
}

/* ---- running ---- */

static void stop(void *ublk)
{
	quire_ublk_stop(ublk);
}

int serve_ublk_print(const struct quire_ublk *ublk)
{
	bool recovered;
	uint32_t id;

	for (unsigned i = 0; quire_ublk_device(ublk, i, &id, &recovered) == 0; i++)
		printf("serving /dev/ublkb%u (pid %ld%s)\n", (unsigned)id, (long)getpid(), recovered ? ", taken over" : "");
	return cli_finish_output();
}

static void on_ready(struct quire_ublk *ublk, void *arg)
{
	struct serve_ublk *a = arg;

	a->ran = serve_ublk_print(ublk);
	if (a->ran != CLI_DONE)
		quire_ublk_stop(ublk);
}

static int run(struct quire_ublk *ublk, struct serve_ublk *a)
{
	struct serve_waiter waiter;
	struct quire_error err;
	int rc = serve_waiter_start(&waiter, stop, ublk);

	if (rc != CLI_DONE)
		return rc;
	int failed = quire_ublk_run(ublk, &err);
	serve_waiter_end(&waiter);
	return failed < 0 ? cli_fail_text(err.text) : a->ran;
}

static int add(struct quire_ublk *ublk, struct serve_ublk *a)
{
	unsigned flags = a->read_only ? QUIRE_UBLK_READ_ONLY : 0;
	struct quire_error err;
	int rc;

	if (a->file != NULL)
		rc = quire_ublk_add_file(ublk, a->id, a->file, flags, &err);
	else if (a->memory_bytes != 0)
		rc = quire_ublk_add_memory(ublk, a->id, a->memory_bytes, &err);
	else
		rc = quire_ublk_add_swap(ublk, a->id, a->swap.pool, a->swap.size_bytes, &err);
	return rc < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

/* Before there is another thread. */
static void prepare(const struct serve_ublk *a)
{
	struct rlimit locked;

	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	/* With a limit, memory that is asked for later would be refused. */
	if (a->swap.size_bytes != 0 && getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && (locked.rlim_cur == RLIM_INFINITY || geteuid() == 0))
		(void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

static int serve(struct serve_ublk *a)
{
	struct quire_ublk *ublk;
	struct quire_error err;
	sigset_t set;

	serve_signals_block(&set);
	a->options.ready = on_ready;
	a->options.ready_arg = a;
	if (quire_ublk_create(&a->options, &ublk, &err) < 0)
		return cli_fail_text(err.text);
	int rc = serve_swap_open(&a->swap);
	if (rc == CLI_DONE)
		rc = add(ublk, a);
	if (rc == CLI_DONE)
		rc = run(ublk, a);
	int closed = quire_ublk_destroy(ublk);
	if (closed < 0)
		rc = cli_fail(a->file != NULL ? a->file : "serve", "closing: %s", strerror(-closed));
	serve_swap_close(&a->swap);
	return rc;
}

/* ---- arguments ---- */

static void print_help(void)
{
	printf("usage: quire serve --ublk N (--file F | --memory BYTES | --swap …) [OPTION]…\n"
	       "       quire serve STORE --ublk N --volume NAME [OPTION]…\n\n"
	       "Serves a block device of this machine, until SIGTERM or SIGINT. Needs the driver ublk_drv, and root's rights.\n"
	       "A server of a file or a volume may be killed: the device waits, and goes on with the next server\n"
	       "that is started in the same way. One that is mounted at the end is left waiting, too: `quire ublk stop N`.\n"
	       "A store is held as `quire serve STORE` does it (quire serve --help), so verbs go on.\n\n"
	       "  --ublk N           /dev/ublkbN; or any, a number that is free\n"
	       "  --file F           a file or block device\n"
	       "  --volume NAME      or this, of the store: a volume, or a snapshot, which is read-only\n"
	       "  --memory BYTES     or this: zeros at first, gone at the end\n"
	       SERVE_SWAP_HELP
	       "  --read-only        no writes\n"
	       "  --requests N       under way (default 128)\n"
	       "  --class CLASS      of the store, whose volume it is: capacity (default), staging, pmem\n"
	       "  --map-bytes BYTES  of memory for the map of all its volumes, at most (default 8M)\n"
	       "  --budget BYTES, --callers N  as of a store without --ublk\n"
	       "  --help             this text\n");
}

enum { OPTION_UBLK = 256, OPTION_FILE, OPTION_VOLUME, OPTION_MEMORY, OPTION_SWAP, OPTION_READ_ONLY, OPTION_REQUESTS, OPTION_CLASS, OPTION_MAP,
       OPTION_BUDGET, OPTION_CALLERS };

static const struct option longs[] = {
	{ "ublk", required_argument, NULL, OPTION_UBLK },
	{ "file", required_argument, NULL, OPTION_FILE },
	{ "volume", required_argument, NULL, OPTION_VOLUME },
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "swap", required_argument, NULL, OPTION_SWAP },
	{ "read-only", no_argument, NULL, OPTION_READ_ONLY },
	{ "requests", required_argument, NULL, OPTION_REQUESTS },
	{ "class", required_argument, NULL, OPTION_CLASS },
	{ "map-bytes", required_argument, NULL, OPTION_MAP },
	{ "budget", required_argument, NULL, OPTION_BUDGET },
	{ "callers", required_argument, NULL, OPTION_CALLERS },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int take_id(struct serve_ublk *a, const char *text)
{
	uint64_t id;

	a->id = QUIRE_UBLK_ANY;
	if (strcmp(text, "any") == 0)
		return CLI_DONE;
	if (strcmp(text, "0") == 0)
		a->id = 0;
	else if (cli_parse_count(text, 65535, &id))
		a->id = (uint32_t)id;
	else
		return cli_usage(text, "not a device's number, nor any");
	return CLI_DONE;
}

static int take(void *arg, int option)
{
	struct serve_ublk *a = arg;
	uint64_t n;

	switch (option) {
	case OPTION_UBLK:
		return take_id(a, optarg);
	case OPTION_FILE:
		a->file = optarg;
		return CLI_DONE;
	case OPTION_VOLUME:
		a->volume = optarg;
		return CLI_DONE;
	case OPTION_MEMORY:
		return cli_parse_bytes(optarg, &a->memory_bytes) ? CLI_DONE : cli_usage(optarg, "not a size");
	case OPTION_SWAP:
		return serve_swap_take(&a->swap, optarg);
	case OPTION_READ_ONLY:
		a->read_only = true;
		return CLI_DONE;
	case OPTION_REQUESTS:
		if (!cli_parse_count(optarg, 4096, &n))
			return cli_usage(optarg, "not a number, of 4096 at most");
		a->options.depth = (unsigned)n;
		return CLI_DONE;
	case OPTION_CLASS:
		a->class_given = true;
		return parse_class(optarg, &a->cls) ? CLI_DONE : cli_usage(optarg, "no class: capacity, staging, pmem");
	case OPTION_MAP:
		return cli_parse_bytes(optarg, &a->map_bytes) && a->map_bytes >= 256u << 10
		               ? CLI_DONE
		               : cli_usage(optarg, "not a size of 256 KiB or more");
	default:
		return serve_store_take(&a->held, option == OPTION_BUDGET ? 'b' : 'c', optarg);
	}
}

static int check(const struct serve_ublk *a)
{
	if ((a->file != NULL) + (a->volume != NULL) + (a->memory_bytes != 0) + (a->swap.size_bytes != 0) != 1)
		return cli_usage("serve", "one of --file, --volume, --memory and --swap");
	if ((a->volume != NULL) != (a->held.path != NULL))
		return cli_usage("serve", "--volume goes with a store, and a store with --volume");
	if (a->held.path == NULL && (a->class_given || a->map_bytes != 0 || a->held.given))
		return cli_usage("serve", "--class, --map-bytes, --budget, --callers: which store?");
	if (a->file == NULL && a->volume == NULL && a->read_only)
		return cli_usage("--read-only", "of memory that is empty");
	return CLI_DONE;
}

int serve_ublk(int argc, char **argv)
{
	struct serve_ublk a = {
		.options = {.size = sizeof(a.options)},
		.held = SERVE_STORE_DEFAULTS,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.change = PTHREAD_COND_INITIALIZER,
	};
	int rc = cli_options(argc, argv, longs, print_help, take, &a);
	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind > 1)
		return cli_usage(argv[optind + 1], "one store");
	a.held.path = argv[optind];
	rc = check(&a);
	if (rc != CLI_DONE)
		return rc;
	prepare(&a);
	return a.held.path != NULL ? serve_store(&a.held, NULL, NULL, &a) : serve(&a);
}
