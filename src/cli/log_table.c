/* log_table.c - see log_table.h.
 *
 * An entry: OPENING → OPEN → CLOSING → gone. Of one name there is one entry; whoever finds it OPENING or CLOSING waits until
 * that is over, as the library opens a log once at a time. It is opened and closed without the lock. Who wants it alone leaves it
 * OPENING until he has closed it.
 *
 * Invariants (under the lock): an entry has a log exactly while it is OPEN, and then at least one user.
 */
#include "log_table.h"

#include "log_verbs.h"
#include "progress.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define LOOKS 5          /* at a log that somebody else writes */
#define CHECK_TURN_MS 10 /* a check has each log open for a moment */
#define CHECK_TURNS 3000

struct log_entry {
	struct log_entry *next;  /* owned by the table */
	struct quire_log *log;   /* owned; NULL: OPENING or CLOSING */
	unsigned n_users;
	char name[QUIRE_LOG_NAME_MAX + 1];
};

void log_table_init(struct log_table *table)
{
	pthread_mutex_init(&table->lock, NULL);
	pthread_cond_init(&table->settled, NULL);
	table->first = NULL;
}

void log_table_fini(struct log_table *table)
{
	pthread_cond_destroy(&table->settled);
	pthread_mutex_destroy(&table->lock);
}

/* ---- opening ---- */

struct opening {
	struct session *session;
	struct progress progress;
};

static int on_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	struct opening *o = arg;

	progress_update(&o->progress, all_bytes > 0 ? (double)done_bytes / (double)all_bytes : 0);
	return atomic_load(&o->session->canceled);
}

/* What a writer changes while it is looked at may look like this. */
static bool may_be_passing(int rc)
{
	return rc == -EUCLEAN || rc == -EBADMSG || rc == -ESTALE;
}

static int open_log(struct session *s, const char *name, bool writes, bool read_only, struct quire_log **ret_log)
{
	struct opening o = {.session = s};
	const struct quire_log_open_options opts = {
		.size = sizeof(opts), .progress = on_progress, .arg = &o, .read_only = read_only};
	struct quire_error err = {0};
	int rc = -ECANCELED, looks = 0, turns = 0;

	progress_begin(&o.progress, s->err);
	progress_step(&o.progress, "opening the log");
	while (!atomic_load(&s->canceled)) {
		rc = quire_log_open(s->store, name, &opts, ret_log, &err);
		if (rc == -EBUSY && s->served && turns++ < CHECK_TURNS)
			(void)poll(NULL, 0, CHECK_TURN_MS);
		else if (writes || s->served || !may_be_passing(rc) || ++looks == LOOKS)
			break;
		else if (session_look_again(s, &err) < 0)
			break;
	}
	progress_end(&o.progress);
	if (rc == -ECANCELED)
		return log_fail(s, name, "%s", session_why(s, rc));
	return rc < 0 ? session_fail_text(s, err.text) : CLI_DONE;
}

/* ---- the table ---- */

static struct log_entry **find(struct log_table *table, const char *name)
{
	struct log_entry **at = &table->first;

	while (*at != NULL && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

static void drop_locked(struct log_table *table, const char *name)
{
	struct log_entry **at = find(table, name), *entry = *at;

	*at = entry->next;
	free(entry);
	pthread_cond_broadcast(&table->settled);
}

static struct log_entry *find_settled_locked(struct log_table *table, const char *name)
{
	struct log_entry *entry;

	while ((entry = *find(table, name)) != NULL && entry->log == NULL)
		pthread_cond_wait(&table->settled, &table->lock);
	return entry;
}

/* An entry of the log, which is open: the caller uses it. */
static bool share_locked(struct log_table *table, const char *name, struct quire_log **ret_log)
{
	struct log_entry *entry = find_settled_locked(table, name);

	if (entry == NULL)
		return false;
	entry->n_users++;
	*ret_log = entry->log;
	return true;
}

static struct log_entry *add_locked(struct log_table *table, const char *name)
{
	struct log_entry *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return NULL;
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	entry->next = table->first;
	table->first = entry;
	return entry;
}

int log_get(struct session *s, const char *name, bool writes, struct quire_log **ret_log)
{
	struct log_table *table = s->logs;

	if (table == NULL)
		return open_log(s, name, writes, false, ret_log);
	pthread_mutex_lock(&table->lock);
	bool shared = share_locked(table, name, ret_log);
	struct log_entry *entry = shared ? NULL : add_locked(table, name);
	pthread_mutex_unlock(&table->lock);
	if (shared)
		return CLI_DONE;
	if (entry == NULL)
		return log_fail(s, name, "%s", strerror(ENOMEM));
	int code = open_log(s, name, writes, false, ret_log);
	pthread_mutex_lock(&table->lock);
	if (code == CLI_DONE) {
		entry->log = *ret_log;
		entry->n_users = 1;
		pthread_cond_broadcast(&table->settled);
	} else {
		drop_locked(table, name);
	}
	pthread_mutex_unlock(&table->lock);
	return code;
}

int log_put(struct session *s, struct quire_log *log)
{
	struct log_table *table = s->logs;

	if (table == NULL)
		return quire_log_close(log);
	pthread_mutex_lock(&table->lock);
	struct log_entry *entry = table->first;
	while (entry->log != log)
		entry = entry->next;
	bool last = --entry->n_users == 0;
	if (last)
		entry->log = NULL;
	pthread_mutex_unlock(&table->lock);
	if (!last)
		return 0;
	int rc = quire_log_close(log);
	pthread_mutex_lock(&table->lock);
	drop_locked(table, entry->name);
	pthread_mutex_unlock(&table->lock);
	return rc;
}

/* The caller drops the entry. CLI_FAILED: it was said. */
static int claim(struct session *s, const char *name)
{
	pthread_mutex_lock(&s->logs->lock);
	bool in_use = find_settled_locked(s->logs, name) != NULL;
	bool claimed = !in_use && add_locked(s->logs, name) != NULL;
	pthread_mutex_unlock(&s->logs->lock);
	if (in_use)
		return log_fail(s, name, "is in use, and mended only when it is opened");
	return claimed ? CLI_DONE : log_fail(s, name, "%s", strerror(ENOMEM));
}

int log_open_alone(struct session *s, const char *name, bool read_only)
{
	struct quire_log *log;
	int code = s->logs != NULL ? claim(s, name) : CLI_DONE;

	if (code != CLI_DONE)
		return code;
	code = open_log(s, name, !read_only, read_only, &log);
	int rc = code == CLI_DONE ? quire_log_close(log) : 0;
	if (s->logs != NULL) {
		pthread_mutex_lock(&s->logs->lock);
		drop_locked(s->logs, name);
		pthread_mutex_unlock(&s->logs->lock);
	}
	return rc < 0 ? log_fail(s, name, "%s", session_why(s, rc)) : code;
}

void log_settle(struct session *s, const char *name)
{
	if (s->logs == NULL)
		return;
	pthread_mutex_lock(&s->logs->lock);
	(void)find_settled_locked(s->logs, name);
	pthread_mutex_unlock(&s->logs->lock);
}
