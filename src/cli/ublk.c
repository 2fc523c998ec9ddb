/* ublk.c - `quire ublk`: the ublk devices of this machine, whoever serves them. */
#include "cli.h"

#include "json.h"
#include <getopt.h>
#include <quire/ublk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MOST 1024u

static const char *const state_words[] = {
	[QUIRE_UBLK_DEAD] = "stopped",
	[QUIRE_UBLK_LIVE] = "live",
	[QUIRE_UBLK_WAITING] = "waiting",
};

static void print_help(void)
{
	printf("usage: quire ublk ls [--json]\n"
	       "       quire ublk stop N…\n\n"
	       "ls tells which devices there are: live, waiting for a server (the next `quire serve --ublk N …` takes it\n"
	       "over), or stopped. stop removes them, whoever uses or serves them. Needs root's rights.\n\n"
	       "  --json  facts for programs\n"
	       "  --help  this text\n");
}

static void print_json(const struct quire_ublk_info *devices, int n)
{
	struct json j;

	json_init(&j, stdout);
	json_open(&j, NULL, '[');
	for (int i = 0; i < n; i++) {
		json_open(&j, NULL, '{');
		json_uint(&j, "id", devices[i].id);
		json_string(&j, "state", state_words[devices[i].state]);
		json_uint(&j, "size_bytes", devices[i].size_bytes);
		json_uint(&j, "pid", devices[i].pid > 0 ? (uint64_t)devices[i].pid : 0);
		json_uint(&j, "requests", devices[i].depth);
		json_bool(&j, "read_only", devices[i].read_only);
		json_bool(&j, "recovers", devices[i].recovers);
		json_close(&j, '}');
	}
	json_close(&j, ']');
}

static void print_lines(const struct quire_ublk_info *devices, int n)
{
	char size[CLI_BYTES_TEXT];

	for (int i = 0; i < n; i++)
		printf("/dev/ublkb%-4u %-8s %10s  pid %d%s%s\n", (unsigned)devices[i].id, state_words[devices[i].state],
		       cli_format_bytes(devices[i].size_bytes, size), (int)devices[i].pid, devices[i].read_only ? ", read-only" : "",
		       devices[i].recovers ? "" : ", ends with its server");
}

static int list(bool as_json)
{
	struct quire_ublk_info *devices = calloc(DEVICES_MOST, sizeof(*devices));
	struct quire_error err;

	if (devices == NULL)
		return cli_fail("ublk", "out of memory");
	int n = quire_ublk_list(devices, DEVICES_MOST, &err);
	if (n >= 0 && as_json)
		print_json(devices, n);
	else if (n >= 0)
		print_lines(devices, n);
	free(devices);
	return n < 0 ? cli_fail_text(err.text) : cli_finish_output();
}

static int stop(int n, char **names)
{
	struct quire_error err;
	uint64_t id = 0;

	if (n == 0)
		return cli_usage("stop", "which devices?");
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], "0") != 0 && !cli_parse_count(names[i], 65535, &id))
			return cli_usage(names[i], "not a device's number");
	for (int i = 0; i < n; i++) {
		id = 0;
		(void)cli_parse_count(names[i], 65535, &id);
		if (quire_ublk_remove((uint32_t)id, &err) < 0)
			return cli_fail_text(err.text);
	}
	return CLI_DONE;
}

static int take(void *arg, int option)
{
	*(bool *)arg = true; /* --json, the only one */
	return CLI_DONE;
}

int verb_ublk(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool as_json = false;

	int rc = cli_options(argc, argv, longs, print_help, take, &as_json);
	if (rc != CLI_GO_ON)
		return rc;
	argv += optind;
	argc -= optind;
	if (argc == 1 && strcmp(argv[0], "ls") == 0)
		return list(as_json);
	if (argc >= 1 && strcmp(argv[0], "stop") == 0 && !as_json)
		return stop(argc - 1, argv + 1);
	return cli_usage(argc > 0 ? argv[0] : "ublk", "ls [--json], or stop N…");
}
