/* main.c - `quire VERB …`: the table of verbs. */
#include "cli.h"

#include <quire/error.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

static const struct verb verbs[] = {
	{ "demo", verb_demo, "hits must not suffer for someone else's miss: a contest on real files" },
	{ "info", verb_info, "what Quire promises in this process; what a store is" },
	{ "cat", verb_cat, "write files to standard output, read through a map" },
	{ "warm", verb_warm, "read files through a map and report what is resident" },
	{ "init", verb_init, "make a store" },
	{ "import", verb_on_store, "make the files of a tree blobs of a store" },
	{ "export", verb_on_store, "build an imported tree again" },
	{ "blob", verb_on_store, "put, get, ls, rm, props of single objects" },
	{ "log", verb_on_store, "create, append, cat, follow, trim, … logs of records" },
	{ "volume", verb_on_store, "create, snapshot, clone, diff, import, export, … block devices in a store" },
	{ "stat", verb_on_store, "what a store holds and has done" },
	{ "check", verb_on_store, "every structure and every checksum" },
	{ "tmem", verb_tmem, "what pools of pages save on files, and how fast; what a service holds" },
	{ "class", verb_on_store, "add or grow a media class" },
	{ "rename", verb_rename, "give a store another path" },
	{ "serve", verb_serve, "hold a store, and run the verbs of others on it" },
	{ "ublk", verb_ublk, "the block devices that `serve --ublk` has made: ls, stop" },
};

static void print_help(void)
{
	printf("usage: quire VERB [options]\n\n"
	       "A page cache that your program owns.\n\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		printf("  %-6s %s\n", verbs[i].name, verbs[i].summary);
	printf("\n`quire VERB --help` tells more; `quire --version`. Exit codes: 0 done, 1 failed, 2 usage; 3 damaged, and repaired.\n"
	       "QUIRE_MASK in the environment: features of the kernel to go without, as if it lacked them (`quire info --capabilities`).\n");
}

int main(int argc, char **argv)
{
	/* What is written past RLIMIT_FSIZE ends with EFBIG, which is told, and what there is of it is removed. */
	(void)signal(SIGXFSZ, SIG_IGN);
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
