/* check_repair.c - `quire check --repair`: the store's own repair, then the logs in which something is to be made again are opened, which
 * does that; then it is looked at once more, since only what isn't found any more is repaired. Records that are lost get a mark in their
 * place in the same way, and are lost all the same.
 *
 * A dry run opens the logs to read, which makes again in memory what would be made again on the medium: the store may be a daemon's, which
 * has it open to write. A log that somebody has open in the daemon isn't opened by either of them, so it stays as it is, and both say so.
 */
#include "check.h"
#include "log_table.h"
#include "progress.h"
#include "volume_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One that waits for its log to be opened. */
struct waiting {
	struct waiting *next;
	struct quire_repair_finding finding;
	char *text;  /* owned */
	bool lost;
};

struct repair {
	struct session *session;
	const struct check_args *args;
	struct json json;
	struct progress progress;
	struct waiting *first, **last; /* owned */
	uint64_t n_rebuilt, n_lost, all_bytes;
	bool no_memory;
};

/* ---- told ---- */

static void tell_line(struct repair *r, const struct quire_repair_finding *f, bool lost)
{
	FILE *out = r->session->out;

	progress_end(&r->progress);
	fprintf(out, "%s (object %llu, class %s, at %llu): %s: ", f->text, (unsigned long long)f->id, class_words[f->cls],
	        (unsigned long long)f->offset, strerror(-f->error));
	if (!lost)
		fputs(r->args->dry_run ? "can be rebuilt\n" : "rebuilt\n", out);
	else if (f->lost_bytes == 0)
		fputs("lost\n", out);
	else
		fprintf(out, "lost: %llu bytes of it, from %llu on\n", (unsigned long long)f->lost_bytes,
		        (unsigned long long)f->lost_from);
}

static void tell(struct repair *r, const struct quire_repair_finding *f, bool lost)
{
	*(lost ? &r->n_lost : &r->n_rebuilt) += 1;
	if (!r->args->json) {
		tell_line(r, f, lost);
		return;
	}
	json_open(&r->json, NULL, '{');
	json_uint(&r->json, "object", f->id);
	json_string(&r->json, "class", class_words[f->cls]);
	json_uint(&r->json, "offset", f->offset);
	json_uint(&r->json, "error", (uint64_t)-f->error);
	json_string(&r->json, "text", f->text);
	json_string(&r->json, "remedy", lost ? "lost" : "rebuilt");
	if (lost && f->lost_bytes != 0) {
		json_uint(&r->json, "lost_from", f->lost_from);
		json_uint(&r->json, "lost_bytes", f->lost_bytes);
	}
	json_close(&r->json, '}');
}

static void keep(struct repair *r, const struct quire_repair_finding *f)
{
	struct waiting *w = calloc(1, sizeof(*w));

	if (w == NULL || (w->text = strdup(f->text)) == NULL) {
		free(w);
		r->no_memory = true;
		return;
	}
	w->finding = *f;
	w->lost = f->lost_bytes != 0;
	w->finding.text = w->text;
	*r->last = w;
	r->last = &w->next;
}

static void found(void *arg, const struct quire_repair_finding *f)
{
	struct repair *r = arg;

	if (f->remedy == QUIRE_REMEDY_REOPEN)
		keep(r, f);
	else
		tell(r, f, f->remedy == QUIRE_REMEDY_LOST);
}

static int progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	struct repair *r = arg;

	r->all_bytes = all_bytes;
	progress_update(&r->progress, all_bytes > 0 ? (double)done_bytes / (double)all_bytes : 0);
	return atomic_load(&r->session->canceled);
}

/* ---- logs ---- */

/* True of what is said of that log. */
static bool is_about(const struct waiting *w, const char *name)
{
	size_t n = strlen(name);

	return strncmp(w->text, "log ", 4) == 0 && strncmp(w->text + 4, name, n) == 0 && w->text[4 + n] == ':';
}

static bool waits(const struct repair *r, const char *name)
{
	bool any = false;

	for (const struct waiting *w = r->first; w != NULL; w = w->next)
		any |= is_about(w, name);
	return any;
}

static void lose(struct repair *r, const char *name)
{
	for (struct waiting *w = r->first; w != NULL; w = w->next)
		w->lost |= is_about(w, name);
}

/* Opened, it makes again what can be; if it can't be opened, why was said, and what was found in it stays. */
static void open_log(struct repair *r, const char *name)
{
	if (!waits(r, name))
		return;
	if (log_open_alone(r->session, name, r->args->dry_run) != CLI_DONE)
		lose(r, name);
}

/* The same of the volumes of a class, whose log has a name that no other log has. Opened they write, where the store may be written: in a daemon
 * a dry run leaves them alone. */
static void open_volumes(struct repair *r, enum quire_class cls)
{
	struct quire_volumes *group;
	char name[32];

	(void)snprintf(name, sizeof(name), ".volumes-%s", class_words[cls]);
	if (!waits(r, name) || (r->args->dry_run && r->session->served))
		return;
	bool opened = volumes_get(r->session, cls, false, &group) == CLI_DONE;
	if (opened)
		opened = volumes_put(r->session, group) == 0;
	if (!opened)
		lose(r, name);
}

/* Found once more: it is as it was. */
static void still_there(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset, const char *text)
{
	struct repair *r = arg;

	(void)error;
	(void)text;
	for (struct waiting *w = r->first; w != NULL; w = w->next)
		w->lost |= w->finding.id == id && w->finding.cls == cls && w->finding.offset == offset;
}

static int canceled(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	(void)done_bytes;
	(void)all_bytes;
	return atomic_load(&((struct repair *)arg)->session->canceled);
}

static int64_t open_logs(struct repair *r)
{
	const struct quire_check_options again = {
		.size = sizeof(again), .structure_only = true, .found = still_there, .progress = canceled, .arg = r};
	struct quire_log_info info = {0};
	int64_t n = 0;

	progress_end(&r->progress);
	while (quire_log_ls(r->session->store, info.id, &info) == 1)
		open_log(r, info.name);
	for (unsigned cls = 0; cls < QUIRE_N_CLASSES; cls++)
		open_volumes(r, (enum quire_class)cls);
	if (!r->args->dry_run)
		n = quire_store_check(r->session->store, &again);
	for (const struct waiting *w = r->first; w != NULL && n >= 0; w = w->next)
		tell(r, &w->finding, w->lost);
	return n;
}

/* ---- all ---- */

static void forget(struct repair *r)
{
	for (struct waiting *w = r->first, *next; w != NULL; w = next) {
		next = w->next;
		free(w->text);
		free(w);
	}
}

static int64_t repair(struct repair *r)
{
	const struct quire_repair_options o = {
		.size = sizeof(o),
		.dry_run = r->args->dry_run,
		.structure_only = r->args->structure_only,
		.max_bytes_per_s = r->args->rate,
		.found = found,
		.progress = progress,
		.arg = r,
	};

	progress_begin(&r->progress, r->session->err);
	progress_step(&r->progress, r->args->dry_run ? "checking" : "repairing");
	int64_t n = quire_store_repair(r->session->store, &o);
	if (n >= 0 && r->no_memory)
		n = -ENOMEM;
	if (n >= 0 && r->first != NULL) {
		int64_t opened = open_logs(r);
		n = opened < 0 ? opened : n;
	}
	progress_end(&r->progress);
	return n;
}

int check_repair(struct session *s, const struct check_args *args)
{
	struct repair r = {.session = s, .args = args};
	char text[CLI_BYTES_TEXT];

	r.last = &r.first;
	if (args->json) {
		json_init(&r.json, s->out);
		json_open(&r.json, NULL, '{');
		json_open(&r.json, "findings", '[');
	}
	int64_t n = repair(&r);
	forget(&r);
	if (args->json) {
		json_close(&r.json, ']');
		json_bool(&r.json, "complete", n >= 0);
		json_uint(&r.json, "bytes", r.all_bytes);
		json_uint(&r.json, "rebuilt", r.n_rebuilt);
		json_uint(&r.json, "lost", r.n_lost);
		json_close(&r.json, '}');
	}
	if (n < 0)
		return session_fail(s, s->path, "repair: %s", session_why(s, (int)n));
	if (!args->json)
		fprintf(s->out, "%s: %s, %llu %s, %llu lost\n", s->path, cli_format_bytes(r.all_bytes, text),
		        (unsigned long long)r.n_rebuilt, args->dry_run ? "can be rebuilt" : "rebuilt",
		        (unsigned long long)r.n_lost);
	return r.n_lost > 0 ? CLI_FAILED : r.n_rebuilt > 0 ? CLI_REBUILT : CLI_DONE;
}
