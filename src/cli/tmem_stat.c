/* tmem_stat.c - `quire tmem stat`: what the pools of a running service hold and have saved, and whom it serves. */
#include "cli.h"
#include "tmem_facts.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCHEME "unix:"

static int report(const struct quire_tmem_stat *t, const struct quire_tmem_service_stat *s, bool as_json)
{
	struct json j;

	if (as_json) {
		json_init(&j, stdout);
		json_open(&j, NULL, '{');
		tmem_facts_json(&j, t);
		json_uint(&j, "clients", s->n_clients);
		json_uint(&j, "clients_ever", s->n_connected);
		json_uint(&j, "clients_refused", s->n_refused);
		json_uint(&j, "clients_dropped", s->n_dropped);
		json_uint(&j, "messages", s->n_messages);
		json_uint(&j, "requests", s->n_requests);
		json_uint(&j, "sleeps", s->n_sleeps);
		json_uint(&j, "kept_pools", s->n_kept);
		json_uint(&j, "saves", s->n_saved);
		json_uint(&j, "save_errors", s->n_save_errors);
		json_close(&j, '}');
	} else {
		tmem_facts_text(stdout, t);
		printf("clients %" PRIu64 ", this one among them; ever %" PRIu64 ", refused %" PRIu64 ", dropped %" PRIu64 "; messages %" PRIu64
		       ", requests %" PRIu64 "\npools kept %" PRIu64 ", saves %" PRIu64 ", failed %" PRIu64 "\n",
		       s->n_clients, s->n_connected, s->n_refused, s->n_dropped, s->n_messages, s->n_requests, s->n_kept, s->n_saved,
		       s->n_save_errors);
	}
	return cli_finish_output();
}

int tmem_stat(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	const struct quire_tmem_client_options opts = {.size = sizeof(opts), .n_slots = 1, .slot_bytes = 4096};
	struct quire_tmem_service_stat service;
	struct quire_tmem_client *client;
	struct quire_tmem_stat tmem;
	struct quire_error err;
	bool as_json = false;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (option != 'j')
			return cli_bad_option(argc, argv, option);
		as_json = true;
	}
	if (argc - optind != 1 || strncmp(argv[optind], SCHEME, strlen(SCHEME)) != 0)
		return cli_usage("tmem stat", "which service? unix:PATH");
	if (quire_tmem_connect(argv[optind] + strlen(SCHEME), &opts, &client, &err) < 0)
		return cli_fail_text(err.text);
	int rc = quire_tmem_remote_service_stat(client, &tmem, &service);
	quire_tmem_disconnect(client);
	return rc < 0 ? cli_fail(argv[optind], "%s", strerror(-rc)) : report(&tmem, &service, as_json);
}
