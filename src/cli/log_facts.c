/* log_facts.c - `quire log create|ls|trim|stat|rm`. */
#include "json.h"
#include "log_table.h"
#include "log_text.h"
#include "log_verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int log_create(struct session *s, const struct log_args *args)
{
	struct quire_error err = {0};
	int rc = quire_log_create(s->store, args->name, &args->create, &err);

	if (rc == -ENOENT)
		return log_fail(s, args->name, "the store has no class %s", class_words[args->create.cls]);
	return rc < 0 ? session_fail_text(s, err.text) : CLI_DONE;
}

int log_rm(struct session *s, const struct log_args *args)
{
	struct quire_error err = {0};

	log_settle(s, args->name);
	int rc = quire_log_rm(s->store, args->name, &err);
	if (rc == -EBUSY)
		return log_fail(s, args->name, "in use");
	return rc < 0 ? session_fail_text(s, err.text) : CLI_DONE;
}

/* ---- ls ---- */

static void write_info(struct json *j, const struct quire_log_info *info)
{
	json_string(j, "name", info->name);
	json_uint(j, "id", info->id);
	json_string(j, "class", class_words[info->cls]);
	json_uint(j, "segment_bytes", info->segment_bytes);
	json_uint(j, "segments", info->n_segments);
	json_uint(j, "allocated_bytes", info->allocated_bytes);
	json_uint(j, "retain_bytes", info->retain_bytes);
	json_uint(j, "retain_ns", info->retain_ns);
	json_uint(j, "retain_records", info->retain_records);
	json_bool(j, "keys", info->keys);
	json_string(j, "destage_to", info->destage ? class_words[info->destage_to] : NULL);
	json_uint(j, "destage_keep_bytes", info->destage_keep_bytes);
	json_uint(j, "segments_destaged", info->n_destaged);
	json_bool(j, "open", info->open);
}

int log_ls(struct session *s, const struct log_args *args)
{
	struct quire_log_info info;
	struct json j;

	json_init(&j, s->out);
	if (args->json)
		json_open(&j, NULL, '[');
	for (uint64_t after = 0; quire_log_ls(s->store, after, &info) > 0 && !atomic_load(&s->canceled); after = info.id) {
		if (args->json) {
			json_open(&j, NULL, '{');
			write_info(&j, &info);
			json_close(&j, '}');
		} else if (args->details) {
			fprintf(s->out, "%s\t%s\t%u\t%llu\t%llu\n", info.name, class_words[info.cls], info.segment_bytes,
			        (unsigned long long)info.n_segments, (unsigned long long)info.allocated_bytes);
		} else {
			fprintf(s->out, "%s\n", info.name);
		}
	}
	if (args->json)
		json_close(&j, ']');
	return CLI_DONE;
}

/* ---- trim ---- */

int log_trim(struct session *s, const struct log_args *args)
{
	struct quire_log *log;
	struct json j;

	if (log_get(s, args->name, true, &log) != CLI_DONE)
		return CLI_FAILED;
	int64_t n = quire_log_trim(log, args->below);
	uint64_t first = quire_log_first(log);
	int rc = log_put(s, log);
	if (n < 0 || rc < 0)
		return log_fail(s, args->name, "%s", strerror(n < 0 ? (int)-n : -rc));
	if (!args->json) {
		fprintf(s->out, "%lld %s freed, the oldest record is %llu\n", (long long)n, n == 1 ? "segment" : "segments",
		        (unsigned long long)first);
		return CLI_DONE;
	}
	json_init(&j, s->out);
	json_open(&j, NULL, '{');
	json_uint(&j, "segments_freed", (uint64_t)n);
	json_uint(&j, "first_lsn", first);
	json_close(&j, '}');
	return CLI_DONE;
}

/* ---- stat ---- */

static const char *error_word(int error)
{
	return error < 0 ? strerror(-error) : "none";
}

static void write_segments(struct json *j, const struct quire_log_segment *segments, unsigned n)
{
	char time[LOG_TIME_TEXT];

	json_open(j, "all_segments", '[');
	for (unsigned i = 0; i < n; i++) {
		const struct quire_log_segment *g = &segments[i];
		json_open(j, NULL, '{');
		json_uint(j, "object", g->id);
		json_string(j, "class", class_words[g->cls]);
		json_bool(j, "sealed", g->sealed);
		json_uint(j, "first_lsn", g->first_lsn);
		json_uint(j, "end_lsn", g->end_lsn);
		json_uint(j, "bytes", g->len_bytes);
		if (g->sealed) {
			json_string(j, "first_time", log_format_time(g->first_time_ns, time));
			json_string(j, "last_time", log_format_time(g->last_time_ns, time));
		}
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void write_stat_json(struct session *s, const struct quire_log_stat *st, const struct quire_log_segment *segments,
                            unsigned n)
{
	struct json j;

	json_init(&j, s->out);
	json_open(&j, NULL, '{');
	write_info(&j, &st->info);
	json_uint(&j, "first_lsn", st->first_lsn);
	json_uint(&j, "visible", st->visible);
	json_uint(&j, "durable", st->durable);
	json_uint(&j, "records", st->durable - st->first_lsn);
	json_uint(&j, "sealed", st->n_sealed);
	json_uint(&j, "memory_bytes", st->memory_bytes);
	json_uint(&j, "cursors", st->n_cursors);
	json_uint(&j, "recovered", st->n_recovered);
	json_uint(&j, "seals", st->n_seals);
	json_uint(&j, "keys_in_memory", st->n_keys);
	json_uint(&j, "ram_reads", st->n_ram_reads);
	json_uint(&j, "direct_reads", st->n_direct_reads);
	json_uint(&j, "promoted_pages", st->n_promoted);
	json_string(&j, "error", st->error < 0 ? strerror(-st->error) : NULL);
	json_string(&j, "upkeep_error", st->upkeep_error < 0 ? strerror(-st->upkeep_error) : NULL);
	write_segments(&j, segments, n);
	json_close(&j, '}');
}

static void write_limit(struct session *s, const char *key, uint64_t limit, const char *unit)
{
	if (limit > 0)
		fprintf(s->out, "%-15s %llu%s\n", key, (unsigned long long)limit, unit);
	else
		fprintf(s->out, "%-15s no limit\n", key);
}

static void write_stat(struct session *s, const struct quire_log_stat *st)
{
	fprintf(s->out, "name            %s\nclass           %s\nsegment bytes   %u\n", st->info.name,
	        class_words[st->info.cls], st->info.segment_bytes);
	const struct {
		const char *key;
		uint64_t value;
	} figures[] = {
		{"records", st->durable - st->first_lsn}, {"first lsn", st->first_lsn},       {"durable", st->durable},
		{"visible", st->visible},             {"segments", st->info.n_segments},  {"sealed", st->n_sealed},
		{"allocated bytes", st->info.allocated_bytes}, {"memory bytes", st->memory_bytes}, {"cursors", st->n_cursors},
		{"recovered", st->n_recovered},           {"seals", st->n_seals},
		{"destaged", st->info.n_destaged},        {"keys", st->n_keys},
	};
	for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		fprintf(s->out, "%-15s %llu\n", figures[i].key, (unsigned long long)figures[i].value);
	write_limit(s, "retain bytes", st->info.retain_bytes, "");
	write_limit(s, "retain time", st->info.retain_ns / 1000000000u, " s");
	write_limit(s, "retain records", st->info.retain_records, "");
	fprintf(s->out, "error           %s\nupkeep error    %s\n", error_word(st->error), error_word(st->upkeep_error));
}

int log_stat(struct session *s, const struct log_args *args)
{
	struct quire_log_segment *segments = NULL;
	struct quire_log_stat st;
	struct quire_log *log;

	if (log_get(s, args->name, false, &log) != CLI_DONE)
		return CLI_FAILED;
	unsigned room = quire_log_segments(log, NULL, 0) + 16, n = 0;
	int rc = quire_log_stat(log, &st);
	segments = calloc(room, sizeof(segments[0]));
	if (segments == NULL)
		rc = -ENOMEM;
	else
		n = quire_log_segments(log, segments, room);
	(void)log_put(s, log);
	if (rc < 0)
		(void)log_fail(s, args->name, "%s", strerror(-rc));
	else if (args->json)
		write_stat_json(s, &st, segments, n < room ? n : room);
	else
		write_stat(s, &st);
	free(segments);
	return rc < 0 ? CLI_FAILED : CLI_DONE;
}
