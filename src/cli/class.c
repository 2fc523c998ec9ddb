/* class.c - `quire class add|grow`: media classes of a store. */
#include "store_verbs.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

struct class_args {
	bool grow;
	enum quire_class cls;
	uint64_t bytes;
	const char *device;
};

static const char help[] =
	"usage: quire class add STORE CLASS (--size BYTES | --device DEVICE)\n"
	"       quire class grow STORE CLASS [--size BYTES]\n\n"
	"Adds a class (staging, pmem) to a store, or makes one larger. A device that has grown is taken as it is.\n\n"
	"  --size BYTES     of the class's file\n"
	"  --device DEVICE  a block device or file that shall hold it\n";

static int parse_class_verb(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	static const struct option longs[] = {
		{ "size", required_argument, NULL, 's' },
		{ "device", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct class_args *args = arg;
	int option;

	while ((option = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, s->out);
			return CLI_DONE;
		}
		if (option == 'd')
			args->device = optarg;
		else if (option != 's')
			return session_bad_option(s, argc, argv, option);
		else if (!cli_parse_bytes(optarg, &args->bytes))
			return session_usage(s, optarg, "not a number of bytes");
	}
	if (argc - optind != 3)
		return session_usage(s, "class", "add or grow, a store, a class");
	args->grow = strcmp(argv[optind], "grow") == 0;
	if (!args->grow && strcmp(argv[optind], "add") != 0)
		return session_usage(s, argv[optind], "add or grow");
	if (!parse_class(argv[optind + 2], &args->cls))
		return session_usage(s, argv[optind + 2], "no class: capacity, staging, pmem");
	if (args->grow ? args->device != NULL : (args->device != NULL) == (args->bytes != 0))
		return session_usage(s, "class", args->grow ? "a device is there already" : "--size or --device");
	*ret_path = argv[optind + 1];
	*ret_writes = true;
	return CLI_DONE;
}

static int run_class(struct session *s, const void *arg)
{
	const struct class_args *args = arg;
	struct quire_error err = {0};
	int rc;

	if (args->grow) {
		rc = quire_store_class_grow(s->store, args->cls, args->bytes, &err);
	} else {
		char *device = args->device != NULL ? session_path(s, args->device) : NULL;
		rc = quire_store_class_add(s->store, args->cls, device, args->bytes, &err);
		free(device);
	}
	return rc < 0 ? session_fail_text(s, err.text) : CLI_DONE;
}

const struct store_verb class_verb = {"class", sizeof(struct class_args), parse_class_verb, run_class};
