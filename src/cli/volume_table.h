/* volume_table.h - the volumes of a class are opened for a verb; in a daemon once, for all verbs and doors, until it ends.
 *
 * Any thread. What is got is put by the same session.
 */
#ifndef CLI_VOLUME_TABLE_H
#define CLI_VOLUME_TABLE_H

#include "session.h"

#include <pthread.h>
#include <quire/nbd.h>
#include <quire/volume.h>

/* A daemon's: its groups, and the server that has their volumes as exports. */
struct volume_table {
	pthread_mutex_t lock;
	struct quire_store *store;  /* borrowed */
	struct quire_volumes *groups[QUIRE_N_CLASSES]; /* owned; NULL: not asked for yet */
	struct quire_volumes_options options;
	struct quire_nbd *nbd;      /* borrowed; NULL: none */
	bool nbd_classes[QUIRE_N_CLASSES]; /* whose volumes it serves */
	bool nbd_plain;             /* one class was asked for: exports have the names of volumes. Else: volume_table_export */
	bool nbd_all;               /* those too that come later */
	unsigned nbd_flags;
};

#define VOLUME_EXPORT_BYTES (2 * QUIRE_VOLUME_NAME_MAX + 2 + 16)

void volume_table_init(struct volume_table *table, struct quire_store *store);
int volume_table_fini(struct volume_table *table); /* nobody has a group. 0, or what closing one failed with; then all are gone, too */
/* Opens it, or shares it; until the table's end; makes: also if there is none yet. Blocks. Fails as quire_volumes_open. */
int volume_table_get(struct volume_table *table, enum quire_class cls, bool makes, struct quire_volumes **ret_group, struct quire_error *err);
/* The name of the export of a volume: its own; CLASS:NAME, if it is not of class capacity and several are served. */
void volume_table_export(const struct volume_table *table, enum quire_class cls, const char *name, char ret[VOLUME_EXPORT_BYTES]);

/* CLI_FAILED: it was said. NULL: there was never a volume, and none is to be made. */
int volumes_get(struct session *s, enum quire_class cls, bool makes, struct quire_volumes **ret_group);
/* 0, or what closing it failed with. */
int volumes_put(struct session *s, struct quire_volumes *group);

/* A daemon that serves all has one more to serve: it is there, or that is no failure of the verb. */
void volumes_offer(struct session *s, enum quire_class cls, struct quire_volumes *group, const char *name);
/* It is not served any more; -EBUSY: a client has it. *ret_was: it was served. */
int volumes_withdraw(struct session *s, enum quire_class cls, const char *name, bool *ret_was);

#endif
