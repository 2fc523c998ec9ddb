/* stat.c - `quire info STORE`: what a store is; `quire stat STORE`: how it is. */
#include "json.h"
#include "store_verbs.h"

#include <quire/log.h>

#include <getopt.h>
#include <string.h>

struct stat_args {
	bool json;
};

static int take_json(struct session *s, void *arg, int option)
{
	struct stat_args *args = arg;

	(void)s;
	(void)option;
	args->json = true;
	return CLI_DONE;
}

static int parse_about(struct session *s, int argc, char **argv, void *args, const char **ret_path, const char *help)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const struct session_syntax syntax = {.shorts = ":h", .longs = longs, .help = help};
	int rc = session_options(s, argc, argv, &syntax, take_json, args);

	if (rc != CLI_GO_ON)
		return rc;
	if (argc - optind != 1)
		return session_usage(s, argv[0], "which store?");
	*ret_path = argv[optind];
	return CLI_DONE;
}

static int parse_info(struct session *s, int argc, char **argv, void *args, const char **ret_path, bool *ret_writes)
{
	(void)ret_writes;
	return parse_about(s, argc, argv, args, ret_path,
	                   "usage: quire info STORE [--json]\n\nWhat the store is: its id, format and classes.\n");
}

static int parse_stat(struct session *s, int argc, char **argv, void *args, const char **ret_path, bool *ret_writes)
{
	(void)ret_writes;
	return parse_about(s, argc, argv, args, ret_path,
	                   "usage: quire stat STORE [--json]\n\nWhat the store holds, and what it has done since it was "
	                   "opened.\n");
}

/* ---- info ---- */

static const char *const media[] = {"direct", "buffered", "pmem"};

static const char *granularity_word(const struct quire_class_stat *c)
{
	if (c->medium != QUIRE_MEDIUM_PMEM)
		return "block";
	return c->granularity_bytes == 1 ? "byte" : c->granularity_bytes == 64 ? "cache line" : "page";
}

static const char *durable_word(const struct quire_class_stat *c)
{
	return c->durable == QUIRE_DURABLE_POWER ? "power" : "process";
}

static void info_json(struct session *s, const struct quire_store_stat *st, const char *uuid)
{
	struct json j;

	json_init(&j, s->out);
	json_open(&j, NULL, '{');
	json_string(&j, "uuid", uuid);
	json_uint(&j, "format_version", st->format_version);
	json_bool(&j, "served", s->served);
	json_open(&j, "classes", '{');
	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++) {
		if (!st->classes[i].present)
			continue;
		json_open(&j, class_words[i], '{');
		json_string(&j, "path", st->classes[i].path);
		json_uint(&j, "bytes", st->classes[i].bytes);
		json_string(&j, "medium", media[st->classes[i].medium]);
		json_string(&j, "granularity", granularity_word(&st->classes[i]));
		json_uint(&j, "granularity_bytes", st->classes[i].granularity_bytes);
		json_string(&j, "durable", durable_word(&st->classes[i]));
		json_close(&j, '}');
	}
	json_close(&j, '}');
	json_close(&j, '}');
}

static int run_info(struct session *s, const void *args)
{
	struct quire_store_stat st;
	char uuid[37], text[CLI_BYTES_TEXT];
	int rc = quire_store_stat(s->store, &st);

	if (rc < 0)
		return session_fail(s, s->path, "%s", strerror(-rc));
	format_uuid(st.uuid, uuid);
	if (((const struct stat_args *)args)->json) {
		info_json(s, &st, uuid);
		return CLI_DONE;
	}
	fprintf(s->out, "store     %s\nuuid      %s\nformat    %u\nserved    %s\n", s->path, uuid, st.format_version,
	        s->served ? "by a daemon" : "no");
	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++)
		if (st.classes[i].present)
			fprintf(s->out, "%-9s %s (%s; %s, granularity %s, durable beyond %s)\n", class_words[i],
			        st.classes[i].path, cli_format_bytes(st.classes[i].bytes, text),
			        media[st.classes[i].medium], granularity_word(&st.classes[i]),
			        durable_word(&st.classes[i]));
	return CLI_DONE;
}

/* ---- stat ---- */

struct figure {
	const char *key;
	uint64_t value;
};

static void stat_print(struct session *s, bool json, const struct figure *figures, unsigned n,
                       const struct quire_store_stat *st)
{
	struct json j;

	if (!json) {
		for (unsigned i = 0; i < n; i++)
			fprintf(s->out, "%-22s %llu\n", figures[i].key, (unsigned long long)figures[i].value);
	} else {
		json_init(&j, s->out);
		json_open(&j, NULL, '{');
		for (unsigned i = 0; i < n; i++)
			json_uint(&j, figures[i].key, figures[i].value);
		json_open(&j, "classes", '{');
	}
	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++) {
		const struct quire_class_stat *c = &st->classes[i];
		if (!c->present)
			continue;
		if (!json) {
			fprintf(s->out, "%s: bytes %llu, used %llu, free %llu, pending %llu\n", class_words[i],
			        (unsigned long long)c->bytes, (unsigned long long)c->used_bytes,
			        (unsigned long long)c->free_bytes, (unsigned long long)c->pending_bytes);
			continue;
		}
		json_open(&j, class_words[i], '{');
		json_uint(&j, "bytes", c->bytes);
		json_uint(&j, "used_bytes", c->used_bytes);
		json_uint(&j, "free_bytes", c->free_bytes);
		json_uint(&j, "pending_bytes", c->pending_bytes);
		json_close(&j, '}');
	}
	if (json) {
		json_close(&j, '}');
		json_close(&j, '}');
	}
}

static int run_stat(struct session *s, const void *args)
{
	struct quire_store_stat st;
	struct quire_cache_stat c;
	struct quire_log_info log;
	uint64_t n_logs = 0, n_segments = 0, log_bytes = 0;
	int rc = quire_store_stat(s->store, &st);

	if (rc == 0)
		rc = quire_cache_stat(s->cache, &c);
	if (rc < 0)
		return session_fail(s, s->path, "%s", strerror(-rc));
	for (uint64_t after = 0; quire_log_ls(s->store, after, &log) > 0; after = log.id) {
		n_logs++;
		n_segments += log.n_segments;
		log_bytes += log.allocated_bytes;
	}
	const struct figure figures[] = {
		{"objects", st.n_objects},
		{"open", st.n_open},
		{"uncommitted", st.n_uncommitted},
		{"containers", st.n_containers},
		{"logs", n_logs},
		{"log_segments", n_segments},
		{"log_bytes", log_bytes},
		{"catalogue_bytes", st.catalogue_bytes},
		{"catalogue_live_bytes", st.catalogue_live_bytes},
		{"transactions", st.n_transactions},
		{"compactions", st.n_compactions},
		{"index_bytes", st.index_bytes},
		{"checksum_errors", st.n_checksum_errors},
		{"memory_budget_bytes", c.budget},
		{"memory_used_bytes", c.used},
		{"memory_pools_bytes", c.tmem},
		{"second_chance_bytes", c.second_chance},
		{"second_chance_pages", c.second_chance_pages},
		{"second_chance_hits", c.n_second_chance_hits},
		{"pages_read", c.n_fills},
	};
	stat_print(s, ((const struct stat_args *)args)->json, figures, sizeof(figures) / sizeof(figures[0]), &st);
	return CLI_DONE;
}

const struct store_verb info_store_verb = {"info", sizeof(struct stat_args), parse_info, run_info};
const struct store_verb stat_verb = {"stat", sizeof(struct stat_args), parse_stat, run_stat};
