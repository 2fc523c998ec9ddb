/* serve_nbd.c - `quire serve --nbd`: files, and memory, as block devices; and the words of it that volumes are served by.
 *
 * Without a store the main thread serves; another waits for the signals that end it. With one: serve_volumes.c.
 */
#include "serve_nbd.h"

#include "serve_signals.h"
#include "serve_store.h"
#include "store_verbs.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <quire/nbd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool serve_nbd_is_meant(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--nbd") == 0 || strncmp(argv[i], "--nbd=", 6) == 0 || strcmp(argv[i], "--inetd") == 0)
			return true;
	return false;
}

/* ---- doors ---- */

/* "tcp:HOST:PORT", "tcp::PORT", "tcp:[::1]", … into its two parts; text is changed. False: it is none. */
static bool split_tcp(char *text, const char **ret_host, const char **ret_port)
{
	char *host = text, *end = strchr(text, '[') == text ? strchr(text, ']') : NULL;
	char *colon = end != NULL ? (end[1] == ':' ? end + 1 : NULL) : strrchr(text, ':');

	if ((*text == '[' && end == NULL) || (end != NULL && end[1] != '\0' && colon == NULL))
		return false;
	if (end == NULL && colon != NULL && memchr(text, ':', (size_t)(colon - text)) != NULL)
		return false; /* an IPv6 address without its brackets */
	if (colon != NULL)
		*colon = '\0';
	if (end != NULL) {
		*end = '\0';
		host++;
	}
	*ret_host = *host != '\0' ? host : NULL;
	*ret_port = colon != NULL && colon[1] != '\0' ? colon + 1 : NULL;
	return true;
}

static int open_door(struct quire_nbd *nbd, const char *address)
{
	const char *host, *port;
	struct quire_error err;
	int rc;

	if (strncmp(address, "unix:", 5) == 0) {
		rc = quire_nbd_listen_unix(nbd, address + 5, &err);
	} else if (strcmp(address, "inherited") == 0) {
		rc = quire_nbd_listen_inherited(nbd, &err);
		if (rc == 0)
			return cli_fail(address, "no sockets were passed (LISTEN_FDS)");
	} else {
		char *text = strdup(address + 4);
		bool good = text != NULL && split_tcp(text, &host, &port);
		rc = good ? quire_nbd_listen_tcp(nbd, host, port, &err) : 0;
		free(text);
		if (!good)
			return cli_usage(address, "not tcp:HOST:PORT");
	}
	return rc < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

int serve_nbd_open_doors(struct quire_nbd *nbd, const struct serve_nbd *a)
{
	struct quire_error err;
	int rc = CLI_DONE;

	if (a->inetd && quire_nbd_connect_fd(nbd, STDIN_FILENO, &err) < 0)
		return cli_fail_text(err.text);
	for (unsigned i = 0; rc == CLI_DONE && i < a->n_addresses; i++)
		rc = open_door(nbd, a->addresses[i]);
	return rc;
}

/* ---- running ---- */

static void stop(void *nbd)
{
	quire_nbd_stop(nbd);
}

int serve_nbd_print_doors(const struct quire_nbd *nbd)
{
	char text[512];

	for (unsigned i = 0; quire_nbd_address(nbd, i, text, sizeof(text)) == 0; i++)
		printf("serving %s (pid %ld)\n", text, (long)getpid());
	return cli_finish_output();
}

static int run(struct quire_nbd *nbd, const struct serve_nbd *a)
{
	struct serve_waiter waiter;
	/* Whoever has passed a socket knows it, and standard output may be something else to him. */
	int rc = a->inetd || a->inherited ? CLI_DONE : serve_nbd_print_doors(nbd);

	if (rc == CLI_DONE)
		rc = serve_waiter_start(&waiter, stop, nbd);
	if (rc != CLI_DONE)
		return rc;
	int failed = quire_nbd_run(nbd);
	serve_waiter_end(&waiter);
	return failed < 0 ? cli_fail("serve", "%s", strerror(-failed)) : CLI_DONE;
}

static int add_export(struct quire_nbd *nbd, const struct serve_nbd *a)
{
	struct quire_error err;
	int rc;

	if (a->file != NULL)
		rc = quire_nbd_add_file(nbd, a->name, a->file, a->read_only ? QUIRE_NBD_READ_ONLY : 0, &err);
	else if (a->memory_bytes != 0)
		rc = quire_nbd_add_memory(nbd, a->name, a->memory_bytes, &err);
	else
		rc = quire_nbd_add_swap(nbd, a->name, a->swap.pool, a->swap.size_bytes, &err);
	return rc < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

static int serve(struct serve_nbd *a)
{
	struct quire_error err;
	struct quire_nbd *nbd;
	sigset_t set;

	serve_signals_block(&set);
	if (quire_nbd_create(&a->options, &nbd, &err) < 0)
		return cli_fail_text(err.text);
	int rc = serve_swap_open(&a->swap);
	if (rc == CLI_DONE)
		rc = add_export(nbd, a);
	if (rc == CLI_DONE)
		rc = serve_nbd_open_doors(nbd, a);
	if (rc == CLI_DONE)
		rc = run(nbd, a);
	int closed = quire_nbd_destroy(nbd);
	serve_swap_close(&a->swap);
	if (closed < 0 && rc == CLI_DONE)
		rc = cli_fail(a->file != NULL ? a->file : "serve", "closing: %s", strerror(-closed));
	return rc;
}

/* ---- arguments ---- */

static void print_help(void)
{
	printf("usage: quire serve STORE --nbd ADDRESS… [VOLUME…] [OPTION]…\n"
	       "       quire serve --nbd ADDRESS… (--file F | --memory BYTES | --swap …) [OPTION]…\n"
	       "       quire serve --inetd (--file F | --memory BYTES | --swap …) [OPTION]…\n\n"
	       "Serves volumes and snapshots of a store, or a file or block device, or a disk in memory, by the NBD protocol,\n"
	       "until SIGTERM or SIGINT. A store is held as `quire serve STORE` does it (quire serve --help), so verbs go on.\n\n"
	       "  --nbd ADDRESS      unix:PATH (mode 0600), tcp:HOST:PORT (tcp: is this machine, port 10809),\n"
	       "                     or inherited, the sockets that systemd passes; may be repeated\n"
	       "  --inetd            the one connection that is standard input\n"
	       "  VOLUME             a volume, or a snapshot: VOLUME@SNAPSHOT (default: all, and those that come later); in\n"
	       "                     another class than capacity CLASS:VOLUME, and so is the export's name\n"
	       "  --class CLASS      volumes of this class alone: capacity, staging, pmem; may be repeated (default: all\n"
	       "                     classes). If it is one, names are without it\n"
	       "  --map-bytes BYTES  of memory for the map of all volumes, at most (default 8M)\n"
	       "  --budget BYTES, --callers N  as of a store without --nbd\n"
	       "  --file F           or this is served\n"
	       "  --memory BYTES     or this: zeros at first, gone at the end\n"
	       SERVE_SWAP_HELP
	       "  --name NAME        of the export (default: the empty name)\n"
	       "  --read-only        no writes\n"
	       "  --tls-certificates DIR  TLS, for everybody: server-cert.pem, server-key.pem\n"
	       "  --tls-verify       clients show a certificate that DIR/ca-cert.pem has signed\n"
	       "  --tls-psk FILE     TLS, for everybody, by keys that both sides know (psktool makes the file)\n"
	       "  --plain-remote     listen beyond this machine without TLS\n"
	       "  --connections N    at once (default 64); others wait\n"
	       "  --requests N       of a connection, under way (default 128)\n"
	       "  --bytes BYTES      of requests under way, of all connections (default 512M)\n"
	       "  --help             this text\n");
}

static bool is_address(const char *text)
{
	return strncmp(text, "unix:", 5) == 0 || strncmp(text, "tcp:", 4) == 0 || strcmp(text, "inherited") == 0;
}

enum { OPTION_NBD = 256, OPTION_INETD, OPTION_FILE, OPTION_MEMORY, OPTION_SWAP, OPTION_NAME, OPTION_READ_ONLY, OPTION_CERTIFICATES,
       OPTION_VERIFY, OPTION_PSK, OPTION_PLAIN, OPTION_CLASS, OPTION_MAP, OPTION_BUDGET, OPTION_CALLERS, OPTION_CONNECTIONS, OPTION_REQUESTS, OPTION_BYTES };

static const struct option longs[] = {
	{ "nbd", required_argument, NULL, OPTION_NBD },
	{ "inetd", no_argument, NULL, OPTION_INETD },
	{ "file", required_argument, NULL, OPTION_FILE },
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "swap", required_argument, NULL, OPTION_SWAP },
	{ "name", required_argument, NULL, OPTION_NAME },
	{ "read-only", no_argument, NULL, OPTION_READ_ONLY },
	{ "tls-certificates", required_argument, NULL, OPTION_CERTIFICATES },
	{ "tls-verify", no_argument, NULL, OPTION_VERIFY },
	{ "tls-psk", required_argument, NULL, OPTION_PSK },
	{ "plain-remote", no_argument, NULL, OPTION_PLAIN },
	{ "class", required_argument, NULL, OPTION_CLASS },
	{ "map-bytes", required_argument, NULL, OPTION_MAP },
	{ "budget", required_argument, NULL, OPTION_BUDGET },
	{ "callers", required_argument, NULL, OPTION_CALLERS },
	{ "connections", required_argument, NULL, OPTION_CONNECTIONS },
	{ "requests", required_argument, NULL, OPTION_REQUESTS },
	{ "bytes", required_argument, NULL, OPTION_BYTES },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int take_class(struct serve_nbd *a)
{
	enum quire_class cls;

	if (!parse_class(optarg, &cls))
		return cli_usage(optarg, "no class: capacity, staging, pmem");
	a->classes[cls] = true;
	return CLI_DONE;
}

static bool names_classes(const struct serve_nbd *a)
{
	bool any = false;

	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++)
		any |= a->classes[i];
	return any;
}

static int take_number(struct serve_nbd *a, int option)
{
	uint64_t n;

	if (option == OPTION_MEMORY)
		return cli_parse_bytes(optarg, &a->memory_bytes) ? CLI_DONE : cli_usage(optarg, "not a size");
	if (option == OPTION_BYTES)
		return cli_parse_bytes(optarg, &a->options.bytes) && a->options.bytes >= 32u << 20
		               ? CLI_DONE
		               : cli_usage(optarg, "not a size of 32 MiB or more");
	if (option == OPTION_MAP)
		return cli_parse_bytes(optarg, &a->map_bytes) && a->map_bytes >= 256u << 10
		               ? CLI_DONE
		               : cli_usage(optarg, "not a size of 256 KiB or more");
	if (option == OPTION_BUDGET || option == OPTION_CALLERS)
		return serve_store_take(&a->held, option == OPTION_BUDGET ? 'b' : 'c', optarg);
	if (!cli_parse_count(optarg, 4096, &n))
		return cli_usage(optarg, "not a number, of 4096 at most");
	*(option == OPTION_CONNECTIONS ? &a->options.connections : &a->options.requests) = (unsigned)n;
	return CLI_DONE;
}

static int take(void *arg, int option)
{
	struct serve_nbd *a = arg;

	switch (option) {
	case OPTION_NBD:
		if (!is_address(optarg))
			return cli_usage(optarg, "not unix:PATH, tcp:HOST:PORT or inherited");
		if (a->n_addresses == SERVE_NBD_ADDRESSES)
			return cli_usage(optarg, "more than %u addresses", SERVE_NBD_ADDRESSES);
		a->addresses[a->n_addresses++] = optarg;
		a->inherited |= strcmp(optarg, "inherited") == 0;
		return CLI_DONE;
	case OPTION_INETD:
		a->inetd = true;
		return CLI_DONE;
	case OPTION_FILE:
		a->file = optarg;
		return CLI_DONE;
	case OPTION_SWAP:
		return serve_swap_take(&a->swap, optarg);
	case OPTION_NAME:
		a->name = optarg;
		return CLI_DONE;
	case OPTION_READ_ONLY:
		a->read_only = true;
		return CLI_DONE;
	case OPTION_CERTIFICATES:
		a->options.tls_certificates = optarg;
		return CLI_DONE;
	case OPTION_VERIFY:
		a->options.tls_verify_clients = true;
		return CLI_DONE;
	case OPTION_PSK:
		a->options.tls_psk = optarg;
		return CLI_DONE;
	case OPTION_CLASS:
		return take_class(a);
	case OPTION_PLAIN:
		a->options.plain_remote = true;
		return CLI_DONE;
	default:
		return take_number(a, option);
	}
}

/* What there is of a file or memory alone, or of a store alone, is not given for the other. */
static int check(struct serve_nbd *a, int n_words, char **words)
{
	unsigned n_alone = (a->file != NULL) + (a->memory_bytes != 0) + (a->swap.size_bytes != 0);

	if (n_words > 0 && n_alone > 0)
		return cli_usage(words[0], "with --file, --memory or --swap, no store");
	if (n_words == 0 && n_alone != 1)
		return cli_usage("serve", "a store, or one of --file, --memory and --swap");
	if (n_words == 0 && a->file == NULL && a->read_only)
		return cli_usage("--read-only", "of memory that is empty");
	if (a->inetd && (a->n_addresses > 0 || n_words > 0))
		return cli_usage("--inetd", "serves the one connection, no addresses and no store");
	if (n_words > 0 && a->name[0] != '\0')
		return cli_usage("--name", "volumes have names");
	if (n_words == 0 && (names_classes(a) || a->map_bytes != 0 || a->held.given))
		return cli_usage("serve", "--class, --map-bytes, --budget, --callers: which store?");
	if (n_words > 0)
		a->held.path = words[0];
	a->volumes = words + 1;
	a->n_volumes = n_words > 1 ? (unsigned)n_words - 1 : 0;
	return CLI_DONE;
}

int serve_nbd(int argc, char **argv)
{
	struct serve_nbd a = {.name = "", .options = {.size = sizeof(a.options)}, .held = SERVE_STORE_DEFAULTS};
	int rc = cli_options(argc, argv, longs, print_help, take, &a);
	if (rc != CLI_GO_ON)
		return rc;
	rc = check(&a, argc - optind, argv + optind);
	if (rc != CLI_DONE)
		return rc;
	return a.held.path != NULL ? serve_store(&a.held, NULL, &a, NULL) : serve(&a);
}
