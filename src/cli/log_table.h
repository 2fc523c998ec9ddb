/* log_table.h - a log is opened for a verb; in a daemon once for all verbs that use it at a time.
 *
 * Any thread. What is got is put by the same session. Cursors and operations on a log are its user's, and closed before
 * he puts it.
 */
#ifndef CLI_LOG_TABLE_H
#define CLI_LOG_TABLE_H

#include "session.h"

#include <quire/log.h>
#include <pthread.h>

/* The open logs of a daemon. */
struct log_table {
	pthread_mutex_t lock;
	pthread_cond_t settled;   /* an entry came, or went */
	struct log_entry *first;  /* owned */
};

void log_table_init(struct log_table *table);
void log_table_fini(struct log_table *table); /* nobody has a log */

/* Opens it, or shares it. Blocks, with a bar; CLI_FAILED: it was said. Beside a writer that is no daemon, whose
 * changes may come in between, a log that is read is looked at again (session_look_again). */
int log_get(struct session *s, const char *name, bool writes, struct quire_log **ret_log);

/* The last one closes it: 0, or what that failed with. */
int log_put(struct session *s, struct quire_log *log);

/* Opens it and closes it, for what becomes of it then: if it is opened to write, what can be made again is. read_only: nothing is written, but
 * it is seen whether it can be opened. Others wait meanwhile. Blocks, with a bar; CLI_FAILED: it was said, also that somebody in this daemon
 * uses it. */
int log_open_alone(struct session *s, const char *name, bool read_only);

/* Until nobody in this daemon is just opening it, or closing it. */
void log_settle(struct session *s, const char *name);

#endif
