/* serve_ublk_volume.c - a volume or snapshot of a store that is held, as a block device of this machine.
 *
 * The server has a thread of its own. It is stopped first, when all verbs are over, then the groups are closed, then the store.
 */
#include "serve_ublk.h"

#include <string.h>

static void say(struct serve_ublk *a, bool *what)
{
	pthread_mutex_lock(&a->lock);
	*what = true;
	pthread_cond_signal(&a->change);
	pthread_mutex_unlock(&a->lock);
}

static void on_ready(struct quire_ublk *ublk, void *arg)
{
	struct serve_ublk *a = arg;

	say(a, &a->ready);
}

static void *run(void *arg)
{
	struct serve_ublk *a = arg;
	struct quire_error err;

	a->ran = quire_ublk_run(a->ublk, &err) < 0 ? cli_fail_text(err.text) : CLI_DONE;
	say(a, &a->over);
	return NULL;
}

/* Until it serves, or has failed to. */
static int wait_for_it(struct serve_ublk *a)
{
	pthread_mutex_lock(&a->lock);
	while (!a->ready && !a->over)
		pthread_cond_wait(&a->change, &a->lock);
	bool ready = a->ready;
	pthread_mutex_unlock(&a->lock);
	return ready ? CLI_DONE : CLI_FAILED;
}

int serve_ublk_start(struct serve_ublk *a, struct volume_table *table)
{
	struct quire_volumes *group;
	struct quire_error err;

	a->options.ready = on_ready;
	a->options.ready_arg = a;
	table->options.map_bytes = a->map_bytes;
	if (quire_ublk_create(&a->options, &a->ublk, &err) < 0 || volume_table_get(table, a->cls, false, &group, &err) < 0 ||
	    quire_ublk_add_volume(a->ublk, a->id, group, a->volume, a->read_only ? QUIRE_UBLK_READ_ONLY : 0, &err) < 0)
		return cli_fail_text(err.text);
	int failed = pthread_create(&a->thread, NULL, run, a);
	if (failed != 0)
		return cli_fail("serve", "%s", strerror(failed));
	a->runs = true;
	return wait_for_it(a);
}

int serve_ublk_stop(struct serve_ublk *a)
{
	int rc = CLI_DONE;

	if (a->runs) {
		quire_ublk_stop(a->ublk);
		pthread_join(a->thread, NULL);
		rc = a->ran;
	}
	int closed = quire_ublk_destroy(a->ublk);
	return closed < 0 && rc == CLI_DONE ? cli_fail(a->volume, "closing: %s", strerror(-closed)) : rc;
}
