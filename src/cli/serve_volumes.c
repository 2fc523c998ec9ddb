/* serve_volumes.c - the volumes and snapshots of a store that is held, of one class or of several, as exports by NBD.
 *
 * Names of volumes are each class's own. So if several classes are served, exports of other classes than `capacity` are CLASS:NAME,
 * whether there are two of a name or not: an export's name never depends on what else there is.
 *
 * The server has a thread of its own; verbs that make or remove volumes add and remove exports meanwhile (volume_table.h). It is stopped
 * first, when all verbs are over, then the groups are closed, then the store.
 */
#include "serve_nbd.h"

#include "store_verbs.h"

#include <errno.h>
#include <string.h>

static void *run(void *arg)
{
	struct serve_nbd *a = arg;

	a->ran = quire_nbd_run(a->nbd);
	return NULL;
}

static int add(struct serve_nbd *a, struct volume_table *table, enum quire_class cls, const char *name)
{
	char export[VOLUME_EXPORT_BYTES];
	struct quire_error err;

	volume_table_export(table, cls, name, export);
	int rc = quire_nbd_add_volume(a->nbd, export, table->groups[cls], name, table->nbd_flags, &err);
	return rc < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

/* NAME or CLASS:NAME; a volume's name has no colon. Without a class: the one that is served, of several `capacity`. False: it names none. */
static bool class_of(const struct volume_table *table, const char *word, enum quire_class *ret)
{
	size_t n = strcspn(word, ":");
	unsigned cls = 0;

	if (word[n] == ':')
		while (cls < QUIRE_N_CLASSES && (strlen(class_words[cls]) != n || memcmp(word, class_words[cls], n) != 0))
			cls++;
	else if (table->nbd_plain)
		while (!table->nbd_classes[cls])
			cls++;
	*ret = (enum quire_class)cls;
	return cls < QUIRE_N_CLASSES;
}

static int add_word(struct serve_nbd *a, struct volume_table *table, const char *word)
{
	const char *colon = strchr(word, ':'), *name = colon != NULL ? colon + 1 : word;
	enum quire_class cls;

	if (!class_of(table, word, &cls))
		return cli_fail("serve", "%s: no class: capacity, staging, pmem", word);
	if (!table->nbd_classes[cls] || table->groups[cls] == NULL)
		return cli_fail("serve", "%s: no volumes of class %s", word, class_words[cls]);
	return add(a, table, cls, name);
}

static int add_exports(struct serve_nbd *a, struct volume_table *table)
{
	int rc = CLI_DONE;

	for (unsigned i = 0; rc == CLI_DONE && i < a->n_volumes; i++)
		rc = add_word(a, table, a->volumes[i]);
	for (unsigned cls = 0; rc == CLI_DONE && a->n_volumes == 0 && cls < QUIRE_N_CLASSES; cls++) {
		struct quire_volume_info info = {.id = 0};
		while (rc == CLI_DONE && table->groups[cls] != NULL && table->nbd_classes[cls] &&
		       quire_volume_ls(table->groups[cls], info.id, &info) == 1)
			rc = info.partial ? CLI_DONE : add(a, table, (enum quire_class)cls, info.name);
	}
	return rc;
}

/* Which classes are served; what of them has volumes is opened. */
static int open_groups(const struct serve_nbd *a, struct volume_table *table)
{
	struct quire_store_stat stat;
	struct quire_volumes *group;
	struct quire_error err;
	unsigned n = 0;

	int rc = quire_store_stat(table->store, &stat);
	if (rc < 0)
		return cli_fail(a->held.path, "%s", strerror(-rc));
	for (unsigned cls = 0; cls < QUIRE_N_CLASSES; cls++)
		n += a->classes[cls];
	table->nbd_plain = n == 1;
	for (unsigned cls = 0; cls < QUIRE_N_CLASSES; cls++) {
		if (a->classes[cls] && !stat.classes[cls].present)
			return cli_fail(a->held.path, "the store has no class %s", class_words[cls]);
		table->nbd_classes[cls] = n == 0 ? stat.classes[cls].present : a->classes[cls];
		rc = table->nbd_classes[cls] ? volume_table_get(table, (enum quire_class)cls, false, &group, &err) : 0;
		if (rc < 0 && rc != -ENOENT)
			return cli_fail_text(err.text);
	}
	return CLI_DONE;
}

int serve_volumes_start(struct serve_nbd *a, struct volume_table *table)
{
	struct quire_error err;

	table->options.map_bytes = a->map_bytes;
	table->nbd_flags = a->read_only ? QUIRE_NBD_READ_ONLY : 0;
	int rc = open_groups(a, table);
	if (rc != CLI_DONE)
		return rc;
	if (quire_nbd_create(&a->options, &a->nbd, &err) < 0)
		return cli_fail_text(err.text);
	rc = add_exports(a, table);
	if (rc == CLI_DONE)
		rc = serve_nbd_open_doors(a->nbd, a);
	if (rc != CLI_DONE)
		return rc;
	int failed = pthread_create(&a->thread, NULL, run, a);
	if (failed != 0)
		return cli_fail("serve", "%s", strerror(failed));
	a->runs = true;
	table->nbd = a->nbd;
	table->nbd_all = a->n_volumes == 0;
	return CLI_DONE;
}

int serve_volumes_announce(const struct serve_nbd *a)
{
	return a->inherited ? CLI_DONE : serve_nbd_print_doors(a->nbd);
}

int serve_volumes_stop(struct serve_nbd *a)
{
	int rc = CLI_DONE;

	if (a->runs) {
		quire_nbd_stop(a->nbd);
		pthread_join(a->thread, NULL);
		if (a->ran < 0)
			rc = cli_fail("serve", "%s", strerror(-a->ran));
	}
	int closed = quire_nbd_destroy(a->nbd);
	if (closed < 0 && rc == CLI_DONE)
		rc = cli_fail(a->held.path, "closing its volumes: %s", strerror(-closed));
	return rc;
}
