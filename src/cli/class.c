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
	enum quire_durable durable;
	enum quire_dax dax;
};

static const char help[] =
	"usage: quire class add STORE CLASS (--size BYTES | --device DEVICE) [--durable power|process]\n"
	"                       [--dax on|off]\n"
	"       quire class grow STORE CLASS [--size BYTES]\n\n"
	"Adds a class (staging, pmem) to a store, or makes one larger. A device that has grown is taken as it is.\n\n"
	"  --size BYTES     of the class's file\n"
	"  --device DEVICE  a block device or file that shall hold it\n"
	"  --durable WHAT   of pmem: `power` maps it and wants DAX, so that what is durable outlives a power cut; `process`\n"
	"                   maps any file, on tmpfs too, and outlives the process only. Default: mapped if there is DAX\n"
	"  --dax WHICH      of a new file, where the file system leaves DAX to each file (XFS, ext4): `on`, of pmem, to be\n"
	"                   mapped; `off`, to be read and written like any file. Default: as the directory has it\n";

static bool parse_durable(const char *word, enum quire_durable *ret)
{
	*ret = strcmp(word, "power") == 0 ? QUIRE_DURABLE_POWER : QUIRE_DURABLE_PROCESS;
	return strcmp(word, "power") == 0 || strcmp(word, "process") == 0;
}

static bool parse_dax(const char *word, enum quire_dax *ret)
{
	*ret = strcmp(word, "on") == 0 ? QUIRE_DAX_ON : QUIRE_DAX_OFF;
	return strcmp(word, "on") == 0 || strcmp(word, "off") == 0;
}

static int take(struct session *s, void *arg, int option)
{
	struct class_args *args = arg;

	if (option == 's' && !cli_parse_bytes(optarg, &args->bytes))
		return session_usage(s, optarg, "not a number of bytes");
	if (option == 'D' && !parse_durable(optarg, &args->durable))
		return session_usage(s, optarg, "durable beyond what? power, process");
	if (option == 'x' && !parse_dax(optarg, &args->dax))
		return session_usage(s, optarg, "DAX is on or off");
	if (option == 'd')
		args->device = optarg;
	return CLI_DONE;
}

static int parse_class_verb(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	static const struct option longs[] = {
		{ "size", required_argument, NULL, 's' },
		{ "device", required_argument, NULL, 'd' },
		{ "durable", required_argument, NULL, 'D' },
		{ "dax", required_argument, NULL, 'x' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct class_args *args = arg;
	const struct session_syntax syntax = {.shorts = ":h", .longs = longs, .help = help};
	int rc = session_options(s, argc, argv, &syntax, take, args);

	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 3)
		return session_usage(s, "class", "add or grow, a store, a class");
	args->grow = strcmp(argv[optind], "grow") == 0;
	if (!args->grow && strcmp(argv[optind], "add") != 0)
		return session_usage(s, argv[optind], "add or grow");
	if (!parse_class(argv[optind + 2], &args->cls))
		return session_usage(s, argv[optind + 2], "no class: capacity, staging, pmem");
	if (args->grow ? args->device != NULL : (args->device != NULL) == (args->bytes != 0))
		return session_usage(s, "class", args->grow ? "a device is there already" : "--size or --device");
	if (args->durable != QUIRE_DURABLE_DEFAULT && (args->grow || args->cls != QUIRE_CLASS_PMEM))
		return session_usage(s, "--durable", "for a new class pmem only");
	if (args->dax != QUIRE_DAX_DEFAULT &&
	    (args->grow || args->bytes == 0 || (args->dax == QUIRE_DAX_ON && args->cls != QUIRE_CLASS_PMEM)))
		return session_usage(s, "--dax", "for a new file only, and `on` for pmem");
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
		const struct quire_class_options o = {.size = sizeof(o), .device = device, .bytes = args->bytes,
		                                      .durable = args->durable, .dax = args->dax};
		rc = quire_store_class_add_with(s->store, args->cls, &o, &err);
		free(device);
	}
	return rc < 0 ? session_fail_text(s, err.text) : CLI_DONE;
}

const struct store_verb class_verb = {"class", sizeof(struct class_args), parse_class_verb, run_class};
