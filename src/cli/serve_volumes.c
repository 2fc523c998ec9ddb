/* serve_volumes.c - the volumes and snapshots of a store that is held, as exports by NBD.
 *
 * The server has a thread of its own; verbs that make or remove volumes add and remove exports meanwhile (volume_table.h). It is stopped
 * first, when all verbs are over, then the groups are closed, then the store.
 */
#include "serve_nbd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void *run(void *arg)
{
	struct serve_nbd *a = arg;

	a->ran = quire_nbd_run(a->nbd);
	return NULL;
}

static int add(struct serve_nbd *a, struct quire_volumes *group, const char *name)
{
	struct quire_error err;
	int rc = quire_nbd_add_volume(a->nbd, name, group, name, a->read_only ? QUIRE_NBD_READ_ONLY : 0, &err);

	return rc < 0 ? cli_fail_text(err.text) : CLI_DONE;
}

static int add_exports(struct serve_nbd *a, struct quire_volumes *group)
{
	struct quire_volume_info info = {.id = 0};
	int rc = CLI_DONE;

	for (unsigned i = 0; rc == CLI_DONE && i < a->n_volumes; i++)
		rc = add(a, group, a->volumes[i]);
	while (rc == CLI_DONE && a->n_volumes == 0 && quire_volume_ls(group, info.id, &info) == 1)
		rc = add(a, group, info.name);
	return rc;
}

int serve_volumes_start(struct serve_nbd *a, struct volume_table *table)
{
	struct quire_volumes *group;
	struct quire_error err;

	table->options.map_bytes = a->map_bytes;
	if (volume_table_get(table, a->cls, &group, &err) < 0)
		return cli_fail_text(err.text);
	if (quire_nbd_create(&a->options, &a->nbd, &err) < 0)
		return cli_fail_text(err.text);
	int rc = add_exports(a, group);
	if (rc == CLI_DONE)
		rc = serve_nbd_open_doors(a->nbd, a);
	if (rc != CLI_DONE)
		return rc;
	int failed = pthread_create(&a->thread, NULL, run, a);
	if (failed != 0)
		return cli_fail("serve", "%s", strerror(failed));
	a->runs = true;
	table->nbd = a->nbd;
	table->nbd_class = a->cls;
	table->nbd_all = a->n_volumes == 0;
	table->nbd_flags = a->read_only ? QUIRE_NBD_READ_ONLY : 0;
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
