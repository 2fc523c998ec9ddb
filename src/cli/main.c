/* main.c - `quire VERB …`: the table of verbs. */
#include "cli.h"

#include <quire/error.h>
#include <stdio.h>
#include <string.h>

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

static const struct verb verbs[] = {
	{ "demo", verb_demo, "hits must not suffer for someone else's miss: a contest on real files" },
	{ "info", verb_info, "what Quire promises in this process" },
	{ "cat", verb_cat, "write files to standard output, read through a map" },
	{ "warm", verb_warm, "read files through a map and report what is resident" },
};

static void print_help(void)
{
	printf("usage: quire VERB [options]\n\n"
	       "A page cache that your program owns.\n\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		printf("  %-6s %s\n", verbs[i].name, verbs[i].summary);
	printf("\n`quire VERB --help` tells more. Exit codes: 0 done, 1 failed, 2 usage.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return cli_usage("VERB", "which one?");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		print_help();
		return cli_finish_output();
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("quire %s\n", quire_version());
		return cli_finish_output();
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	return cli_usage(argv[1], "no such verb");
}
