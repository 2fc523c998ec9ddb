/* info.c - `quire info`: what Quire promises in this process. */
#include "cli.h"
#include "json.h"
#include "store_verbs.h"

#include <quire/cache.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

struct promise {
	const char *key;
	size_t offset; /* of the bool in struct quire_capabilities */
	const char *holds, *else_;
};

#define PROMISE(field, holds, else_) { #field, offsetof(struct quire_capabilities, field), holds, else_ }

static const struct promise promises[] = {
	PROMISE(raw_loads, "pointers are right at any time", "only pages wanted with a pin may be touched"),
	PROMISE(syscalls_on_cold, "system calls may be given cold pointers",
	        "a system call given a cold pointer gets EFAULT: want first"),
	PROMISE(budget_hard, "the budget is a hard limit",
	        "the budget is advisory, but for pinned maps, where it is hard"),
	PROMISE(checked_before_visible, "no byte is seen before its check",
	        "nothing is checked, but in pinned maps, where all is"),
	PROMISE(memory_locked, "resident pages are locked against swap", "resident pages could be swapped out"),
	PROMISE(page_tables_reclaimed, "empty regions give their page tables back",
	        "page tables stay until the map ends"),
	PROMISE(io_uring, "I/O by io_uring", "I/O by a pool of threads"),
	PROMISE(defer_taskrun, "completions only when the loop asks", "completions interrupt the loop"),
	PROMISE(batched_eviction, "pages leave in batches", "pages leave a run at a time"),
	PROMISE(move, "huge pages can be moved in", "huge pages can't be moved in"),
	PROMISE(poison, "a damaged page needs no mapping of its own", "a damaged page costs a mapping"),
	PROMISE(cachestat, "the kernel's page cache is asked by cachestat", "it is asked by mincore"),
	PROMISE(direct_io_default, "files are read past the kernel's page cache",
	        "files are read through the kernel's page cache"),
	PROMISE(anon, "regions of memory may be larger than RAM", "such regions are refused; opt-in, only pinned pages may be touched"),
	PROMISE(anon_tracks_writes, "their unwritten pages leave for nothing", "their pages are stored whenever they leave"),
};

static const char *grade_key(enum quire_grade grade)
{
	return grade == QUIRE_GRADE_FULL ? "full" : grade == QUIRE_GRADE_USER_MODE ? "user-mode" : "none";
}

static const char *grade_text(enum quire_grade grade)
{
	switch (grade) {
	case QUIRE_GRADE_FULL:
		return "full userfaultfd";
	case QUIRE_GRADE_USER_MODE:
		return "userfaultfd for user-mode faults only";
	default:
		return "no userfaultfd: kernel mappings, or pinned maps";
	}
}

static bool holds(const struct quire_capabilities *caps, const struct promise *p)
{
	return *(const bool *)((const char *)caps + p->offset);
}

static void print_table(const struct quire_capabilities *caps)
{
	printf("quire %s\ngrade: %s\n\n", quire_version(), grade_text(caps->grade));
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++) {
		const struct promise *p = &promises[i];
		bool yes = holds(caps, p);
		printf("  %-3s  %-23s %s\n", yes ? "yes" : "no", p->key, yes ? p->holds : p->else_);
	}
}

static void print_json(const struct quire_capabilities *caps)
{
	struct json j;

	json_init(&j, stdout);
	json_open(&j, NULL, '{');
	json_string(&j, "version", quire_version());
	json_string(&j, "grade", grade_key(caps->grade));
	json_open(&j, "promises", '{');
	for (size_t i = 0; i < sizeof(promises) / sizeof(promises[0]); i++)
		json_bool(&j, promises[i].key, holds(caps, &promises[i]));
	json_close(&j, '}');
	json_close(&j, '}');
}

static void print_help(void)
{
	printf("usage: quire info --capabilities [--json]\n       quire info STORE [--json]\n\n"
	       "Which promises hold in this process: features of the kernel are probed, and may be\n"
	       "forbidden by the environment variable QUIRE_MASK (io_uring, userfaultfd, …).\n\n"
	       "  --capabilities  the table of promises\n"
	       "  --json          the same as JSON\n"
	       "  --help          this text\n");
}

struct wanted {
	bool json, capabilities;
};

static int take(void *arg, int option)
{
	struct wanted *wanted = arg;

	*(option == 'j' ? &wanted->json : &wanted->capabilities) = true;
	return CLI_DONE;
}

int verb_info(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "capabilities", no_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct quire_capabilities caps;
	struct wanted wanted = { .json = false };

	int rc = cli_options(argc, argv, longs, print_help, take, &wanted);
	if (rc != CLI_GO_ON)
		return rc;
	if (optind < argc && wanted.capabilities)
		return cli_usage(argv[optind], "the capabilities are this process's, not a store's");
	if (optind < argc)
		return session_verb(&info_store_verb, argc, argv);
	if (!wanted.capabilities)
		return cli_usage("info", "what about? --capabilities, or a store");
	rc = quire_capabilities(&caps);
	if (rc < 0)
		return cli_fail("capabilities", "%s", strerror(-rc));
	if (wanted.json)
		print_json(&caps);
	else
		print_table(&caps);
	return cli_finish_output();
}
