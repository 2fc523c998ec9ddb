/* volume_facts.c - `quire volume ls|stat|map|diff`: what there is, and which blocks. */
#include "json.h"
#include "volume_verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXTENTS 1024u /* that are asked for at once */

static const char *const kinds[] = {[QUIRE_VOLUME_HOLE] = "hole", [QUIRE_VOLUME_ZERO] = "zero", [QUIRE_VOLUME_DATA] = "data"};

/* ---- ls ---- */

static void write_info(struct json *j, const struct quire_volume_info *info)
{
	json_string(j, "name", info->name);
	json_uint(j, "id", info->id);
	json_uint(j, "bytes", info->size_bytes);
	json_uint(j, "generation", info->generation);
	json_uint(j, "origin", info->origin);
	json_bool(j, "snapshot", info->snapshot);
	json_bool(j, "durable", info->durable);
	json_bool(j, "reserve", info->reserve);
	json_bool(j, "open", info->open);
	json_bool(j, "over", info->over);
	json_bool(j, "partial", info->partial);
}

int volume_ls(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_volume_info info = {.id = 0};
	struct json j;

	json_init(&j, s->out);
	if (args->json)
		json_open(&j, NULL, '[');
	while (group != NULL && quire_volume_ls(group, info.id, &info) == 1 && !atomic_load(&s->canceled)) {
		if (args->json) {
			json_open(&j, NULL, '{');
			write_info(&j, &info);
			json_close(&j, '}');
		} else if (args->details) {
			fprintf(s->out, "%s\t%llu\t%llu\t%s\n", info.name, (unsigned long long)info.size_bytes,
			        (unsigned long long)info.generation, info.partial ? "partial" : info.snapshot ? "snapshot" : info.durable ? "durable" : "volume");
		} else {
			fprintf(s->out, "%s\n", info.name);
		}
	}
	if (args->json)
		json_close(&j, ']');
	return CLI_DONE;
}

/* ---- extents ---- */

struct walk {
	struct session *s;
	/* Each extent in order. */
	void (*extent)(struct walk *w, const struct quire_volume_extent *extent);
	bool json;
	struct json j;
	uint64_t kind_bytes[3], n_extents;
};

static int64_t walk_part(struct walk *w, struct quire_volume *volume, struct quire_volume_extent *extents, uint64_t *offset, uint64_t end)
{
	int64_t n = quire_volume_status(volume, *offset, end - *offset, 0, extents, EXTENTS, NULL);

	for (int64_t i = 0; i < n; i++) {
		w->extent(w, &extents[i]);
		*offset = extents[i].offset + extents[i].len_bytes;
	}
	return n;
}

static int walk(struct walk *w, struct quire_volumes *group, const char *name)
{
	struct quire_volume_extent *extents = calloc(EXTENTS, sizeof(extents[0]));
	struct quire_volume *volume = NULL;
	int64_t rc = extents == NULL ? -ENOMEM : quire_volume_open(group, name, &volume);
	uint64_t end = rc == 0 ? quire_volume_bytes(volume) : 0;

	for (uint64_t offset = 0; rc >= 0 && offset < end;)
		rc = atomic_load(&w->s->canceled) ? -ECANCELED : walk_part(w, volume, extents, &offset, end);
	quire_volume_close(volume);
	free(extents);
	return rc < 0 ? (int)rc : 0;
}

/* ---- map and diff ---- */

static void write_extent(struct walk *w, const struct quire_volume_extent *extent)
{
	if (!w->json) {
		fprintf(w->s->out, "%llu\t%llu\t%s\t%s\t%llu\n", (unsigned long long)extent->offset, (unsigned long long)extent->len_bytes,
		        kinds[extent->kind], extent->shared ? "shared" : "own", (unsigned long long)extent->generation);
		return;
	}
	json_open(&w->j, NULL, '{');
	json_uint(&w->j, "offset", extent->offset);
	json_uint(&w->j, "bytes", extent->len_bytes);
	json_string(&w->j, "kind", kinds[extent->kind]);
	json_bool(&w->j, "shared", extent->shared);
	json_uint(&w->j, "generation", extent->generation);
	json_close(&w->j, '}');
}

static void begin_list(struct walk *w)
{
	json_init(&w->j, w->s->out);
	if (w->json)
		json_open(&w->j, NULL, '[');
}

static void end_list(struct walk *w)
{
	if (w->json)
		json_close(&w->j, ']');
}

int volume_map(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct walk w = {.s = s, .extent = write_extent, .json = args->json};

	begin_list(&w);
	int rc = walk(&w, group, args->name);
	if (rc < 0)
		return volume_fail(s, args->name, rc);
	end_list(&w);
	return CLI_DONE;
}

/* A generation: a number, or that of the volume's snapshot, "@NAME". False: it was said. */
static bool find_generation(struct session *s, const struct volume_args *args, struct quire_volumes *group, uint64_t *ret)
{
	char snapshot[2 * QUIRE_VOLUME_NAME_MAX + 2];
	struct quire_volume_info info;

	if (args->since[0] != '@')
		return cli_parse_count(args->since, UINT64_MAX, ret);
	snprintf(snapshot, sizeof(snapshot), "%.*s%s", (int)strcspn(args->name, "@"), args->name, args->since);
	int rc = quire_volume_find(group, snapshot, &info);
	if (rc < 0)
		(void)volume_fail(s, snapshot, rc);
	else
		*ret = info.generation;
	return rc == 0;
}

static int write_diff(struct walk *w, struct quire_volume_diff *diff)
{
	struct quire_volume_extent *extents = calloc(EXTENTS, sizeof(extents[0]));
	int64_t n = extents == NULL ? -ENOMEM : 1;

	begin_list(w);
	while (n > 0) {
		n = atomic_load(&w->s->canceled) ? -ECANCELED : quire_volume_diff_next(diff, extents, EXTENTS);
		for (int64_t i = 0; i < n; i++)
			w->extent(w, &extents[i]);
	}
	if (n == 0)
		end_list(w);
	free(extents);
	return (int)n;
}

/* Of `to`, from `from` on, or, if that is NULL, a generation. */
static int diff_names(struct walk *w, struct quire_volumes *group, const char *from, const char *to, uint64_t since)
{
	struct quire_volume *before = NULL, *now = NULL;
	struct quire_volume_diff *diff = NULL;
	int rc = from != NULL ? quire_volume_open(group, from, &before) : 0;

	if (rc < 0)
		return volume_fail(w->s, from, rc);
	rc = quire_volume_open(group, to, &now);
	if (rc == 0)
		rc = quire_volume_diff_begin(before, now, since, &diff);
	if (rc == 0)
		rc = write_diff(w, diff);
	quire_volume_diff_end(diff);
	quire_volume_close(now);
	quire_volume_close(before);
	return rc < 0 ? volume_fail(w->s, to, rc) : CLI_DONE;
}

int volume_diff(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct walk w = {.s = s, .extent = write_extent, .json = args->json};
	uint64_t since = 0;

	if (args->other != NULL)
		return diff_names(&w, group, args->name, args->other, 0);
	return find_generation(s, args, group, &since) ? diff_names(&w, group, NULL, args->name, since) : CLI_FAILED;
}

/* ---- stat ---- */

static void count(struct walk *w, const struct quire_volume_extent *extent)
{
	w->kind_bytes[extent->kind] += extent->len_bytes;
	w->n_extents += extent->kind == QUIRE_VOLUME_DATA;
}

struct fact {
	const char *key;
	uint64_t value;
};

static void write_facts(struct session *s, struct json *j, bool json, const struct fact *facts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (json)
			json_uint(j, facts[i].key, facts[i].value);
		else
			fprintf(s->out, "%-16s %llu\n", facts[i].key, (unsigned long long)facts[i].value);
	}
}

static int stat_one(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct walk w = {.s = s, .extent = count};
	struct quire_volume_info info;
	struct quire_volume_stat st;
	struct json j;
	int rc = quire_volume_find(group, args->name, &info);

	if (rc == 0)
		rc = quire_volume_stat(group, args->name, &st);
	if (rc == 0)
		rc = walk(&w, group, args->name);
	if (rc < 0)
		return volume_fail(s, args->name, rc);
	const struct fact facts[] = {
		{"data_bytes", w.kind_bytes[QUIRE_VOLUME_DATA]}, {"unique_bytes", st.unique_bytes}, {"shared_bytes", st.shared_bytes},
		{"reserved_bytes", st.reserved_bytes},
		{"zero_bytes", w.kind_bytes[QUIRE_VOLUME_ZERO]}, {"hole_bytes", w.kind_bytes[QUIRE_VOLUME_HOLE]},
		{"extents", w.n_extents},
	};
	json_init(&j, s->out);
	if (args->json) {
		json_open(&j, NULL, '{');
		write_info(&j, &info);
	} else {
		fprintf(s->out, "%-16s %s\n%-16s %llu\n%-16s %llu\n", "name", info.name, "bytes", (unsigned long long)info.size_bytes,
		        "generation", (unsigned long long)info.generation);
	}
	write_facts(s, &j, args->json, facts, sizeof(facts) / sizeof(facts[0]));
	if (args->json)
		json_close(&j, '}');
	return CLI_DONE;
}

int volume_stat(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_volumes_stat st;
	struct json j;

	if (args->name != NULL)
		return stat_one(s, args, group);
	int rc = quire_volumes_stat(group, &st);
	if (rc < 0)
		return session_fail(s, s->path, "%s", strerror(-rc));
	const struct fact facts[] = {
		{"volumes", st.n_volumes}, {"snapshots", st.n_snapshots}, {"generation", st.generation}, {"segments", st.n_segments},
		{"live_bytes", st.live_bytes}, {"allocated_bytes", st.allocated_bytes}, {"reclaimable_bytes", st.reclaimable_bytes},
		{"reserved_bytes", st.reserved_bytes}, {"checkpoints", st.n_checkpoints},
		{"cleaned", st.n_cleaned}, {"moved_bytes", st.moved_bytes}, {"map_cap_bytes", st.map_cap_bytes}, {"map_bytes", st.map_bytes},
		{"map_hits", st.n_map_hits}, {"map_misses", st.n_map_misses},
	};
	json_init(&j, s->out);
	if (args->json)
		json_open(&j, NULL, '{');
	write_facts(s, &j, args->json, facts, sizeof(facts) / sizeof(facts[0]));
	if (args->json) {
		json_string(&j, "error", st.error < 0 ? strerror(-st.error) : NULL);
		json_string(&j, "checkpoint_error", st.checkpoint_error < 0 ? strerror(-st.checkpoint_error) : NULL);
		json_close(&j, '}');
	} else {
		fprintf(s->out, "%-16s %s\n%-16s %s\n", "error", st.error < 0 ? strerror(-st.error) : "none", "checkpoint_error",
		        st.checkpoint_error < 0 ? strerror(-st.checkpoint_error) : "none");
	}
	return CLI_DONE;
}
