/* volume_table.c - see volume_table.h.
 *
 * The lock is held while a group is opened: who needs it waits, whoever needs another one does, too.
 *
 * Invariants: a group in the table is open, and stays so until the table's end.
 */
#include "volume_table.h"

#include "store_verbs.h"

#include <errno.h>
#include <string.h>

void volume_table_init(struct volume_table *table, struct quire_store *store)
{
	pthread_mutex_init(&table->lock, NULL);
	table->store = store;
	table->options.size = sizeof(table->options);
}

int volume_table_fini(struct volume_table *table)
{
	int rc = 0;

	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++) {
		int closed = quire_volumes_close(table->groups[i]);
		rc = rc < 0 ? rc : closed;
		table->groups[i] = NULL;
	}
	pthread_mutex_destroy(&table->lock);
	return rc;
}

int volume_table_get(struct volume_table *table, enum quire_class cls, bool makes, struct quire_volumes **ret_group, struct quire_error *err)
{
	struct quire_volumes_options opts = table->options;
	int rc = 0;

	opts.cls = cls;
	opts.existing = !makes;
	pthread_mutex_lock(&table->lock);
	if (table->groups[cls] == NULL)
		rc = quire_volumes_open(table->store, &opts, &table->groups[cls], err);
	if (rc == 0)
		*ret_group = table->groups[cls];
	pthread_mutex_unlock(&table->lock);
	return rc;
}

void volume_table_export(const struct volume_table *table, enum quire_class cls, const char *name, char ret[VOLUME_EXPORT_BYTES])
{
	bool plain = table->nbd_plain || cls == QUIRE_CLASS_CAPACITY;

	snprintf(ret, VOLUME_EXPORT_BYTES, "%s%s%s", plain ? "" : class_words[cls], plain ? "" : ":", name);
}

/* ---- for verbs ---- */

static bool has_class(struct session *s, enum quire_class cls)
{
	struct quire_store_stat stat;

	return quire_store_stat(s->store, &stat) < 0 || stat.classes[cls].present;
}

int volumes_get(struct session *s, enum quire_class cls, bool makes, struct quire_volumes **ret_group)
{
	const struct quire_volumes_options opts = {.size = sizeof(opts), .cls = cls, .existing = !makes};
	struct quire_error err = {0};

	*ret_group = NULL;
	if (!has_class(s, cls))
		return session_fail(s, s->path, "the store has no class %s", class_words[cls]);
	int rc = s->volumes != NULL ? volume_table_get(s->volumes, cls, makes, ret_group, &err)
	                            : quire_volumes_open(s->store, &opts, ret_group, &err);
	return rc < 0 && rc != -ENOENT ? session_fail_text(s, err.text) : CLI_DONE;
}

int volumes_put(struct session *s, struct quire_volumes *group)
{
	return s->volumes != NULL ? 0 : quire_volumes_close(group); /* which takes NULL */
}

void volumes_offer(struct session *s, enum quire_class cls, struct quire_volumes *group, const char *name)
{
	struct volume_table *table = s->volumes;
	char export[VOLUME_EXPORT_BYTES];
	struct quire_error err;

	if (table == NULL || table->nbd == NULL || !table->nbd_all || !table->nbd_classes[cls])
		return;
	volume_table_export(table, cls, name, export);
	(void)quire_nbd_add_volume(table->nbd, export, group, name, table->nbd_flags, &err);
}

int volumes_withdraw(struct session *s, enum quire_class cls, const char *name, bool *ret_was)
{
	struct volume_table *table = s->volumes;
	char export[VOLUME_EXPORT_BYTES];
	int rc = -ENOENT;

	if (table != NULL && table->nbd != NULL && table->nbd_classes[cls]) {
		volume_table_export(table, cls, name, export);
		rc = quire_nbd_remove(table->nbd, export);
	}
	*ret_was = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}
