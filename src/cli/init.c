/* init.c - `quire init`: makes a store; `quire rename`: gives one another path. Nobody holds it, so neither has a session. */
#include "cli.h"

#include <quire/store.h>

#include <getopt.h>
#include <stdio.h>

static void print_help_of_init(void)
{
	printf("usage: quire init STORE [--capacity BYTES | --device DEVICE]\n\n"
	       "Makes a store in a directory that is empty or not there yet.\n\n"
	       "  --capacity BYTES  of the file that holds it, sparse (default 1T)\n"
	       "  --device DEVICE   a block device or file that shall hold it\n");
}

static int take_of_init(void *arg, int option)
{
	struct quire_store_options *opts = arg;

	if (option == 'd')
		opts->device = optarg;
	else if (!cli_parse_bytes(optarg, &opts->capacity_bytes))
		return cli_usage(optarg, "not a number of bytes");
	return CLI_DONE;
}

int verb_init(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "capacity", required_argument, NULL, 'c' },
		{ "device", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct quire_store_options opts = {.size = sizeof(opts)};
	struct quire_error err;

	int rc = cli_options(argc, argv, longs, print_help_of_init, take_of_init, &opts);
	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 1)
		return cli_usage("init", "which store?");
	if (opts.device != NULL && opts.capacity_bytes != 0)
		return cli_usage("init", "a device has the size that it has");
	return quire_store_create(argv[optind], &opts, &err) < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

static void print_help_of_rename(void)
{
	printf("usage: quire rename STORE PATH\n\nGives a store that nobody holds another path.\n");
}

int verb_rename(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct quire_error err;

	int rc = cli_options(argc, argv, longs, print_help_of_rename, NULL, NULL);
	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 2)
		return cli_usage("rename", "a store and its new path");
	return quire_store_rename(argv[optind], argv[optind + 1], &err) < 0 ? cli_fail_text(err.text) : CLI_DONE;
}
