/* serve_verb.c - `quire serve`: what is asked for; serve.c does it, serve_nbd.c, or serve_ublk.c. */
#include "control.h"
#include "serve_confine.h"
#include "serve_nbd.h"
#include "serve_tmem.h"
#include "serve_ublk.h"

#include <getopt.h>
#include <stdio.h>

#define MAX_CALLERS 4096u

int serve_store_take(struct serve_store *held, int option, const char *value)
{
	uint64_t n;

	if (option == 'c' && !cli_parse_count(value, MAX_CALLERS, &n))
		return cli_usage(value, "not a number of callers, of %u at most", MAX_CALLERS);
	if (option == 'c')
		held->n_callers = (unsigned)n;
	if (option == 'b' && (!cli_parse_bytes(value, &held->budget_bytes) || held->budget_bytes < QUIRE_BUDGET_MIN_BYTES))
		return cli_usage(value, "not a size of 8 MiB or more");
	held->given |= option == 'b' || option == 'c';
	return CLI_DONE;
}

static void print_help(void)
{
	printf("usage: quire serve STORE [--budget BYTES] [--callers N] [--tmem unix:PATH …]\n"
	       "       quire serve --tmem unix:PATH [--budget BYTES] …\n"
	       "       quire serve STORE --nbd ADDRESS… [VOLUME…] | --nbd ADDRESS… | --inetd …   (quire serve --inetd --help)\n"
	       "       quire serve [STORE] --ublk N …   (quire serve --ublk 0 --help)\n\n"
	       "Holds the store, and runs the verbs of others on it: each verb that names the store finds the\n"
	       "daemon by the socket STORE/" CONTROL_NAME ". Ends at SIGTERM or SIGINT, when what was under way is over.\n\n"
	       "With --tmem, other processes have pools of pages here, compressed and deduplicated, through shared\n"
	       "memory (quire/tmem_service.h). What they hold goes when they end, or when the daemon does,\n"
	       "but for what it keeps.\n\n"
	       "  --budget BYTES      of memory, for pages, tables, and pools (default 256M)\n"
	       "  --callers N         verbs at once, those that follow a log too (default 256); others wait\n");
	serve_tmem_print_help();
	printf("  --help              this text\n");
}

struct asked {
	struct serve_store held;
	struct serve_tmem tmem;
};

static int take(void *arg, int option)
{
	struct asked *asked = arg;
	int rc = serve_tmem_take(&asked->tmem, option, optarg);

	return rc == CLI_DONE ? serve_store_take(&asked->held, option, optarg) : rc;
}

int verb_serve(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "budget", required_argument, NULL, 'b' },
		{ "callers", required_argument, NULL, 'c' },
		SERVE_TMEM_OPTIONS,
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct asked asked = {.held = SERVE_STORE_DEFAULTS};

	if (serve_confine(serve_ublk_is_meant(argc, argv)) != CLI_DONE)
		return CLI_FAILED;
	if (serve_nbd_is_meant(argc, argv))
		return serve_nbd(argc, argv);
	if (serve_ublk_is_meant(argc, argv))
		return serve_ublk(argc, argv);
	int rc = cli_options(argc, argv, longs, print_help, take, &asked);
	if (rc != CLI_GO_ON)
		return rc;
	if (serve_tmem_check(&asked.tmem, argc > optind) != CLI_DONE)
		return CLI_USAGE;
	if (argc - optind != 1 && (asked.tmem.path == NULL || argc > optind))
		return cli_usage("serve", "which store?");
	asked.held.path = argv[optind];
	return serve_store(&asked.held, &asked.tmem, NULL, NULL);
}
