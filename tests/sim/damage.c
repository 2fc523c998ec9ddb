/* damage.c - see damage.h. Bits have flipped, writes were lost or went elsewhere. What was promised can't be kept then, but:
 *
 *   1. the store opens, or is refused with a reason: no crash, no hang;
 *   2. whatever is read is what was once written there, or an error: never other bytes;
 *   3. where something could not be read, the store's check finds something.
 */
#include "damage.h"

#include <errno.h>
#include <stdio.h>

/* As quire/store.h has them for an open. */
static bool is_a_reason(int rc)
{
	static const int reasons[] = {-EBADMSG, -EUCLEAN, -ESTALE, -ENOENT, -ENOTSUP, -EIO};

	for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (rc == reasons[i])
			return true;
	return false;
}

void damage_look(struct env *e, void *arg)
{
	struct store_check how = {.found = NULL};
	struct world *w = arg;
	unsigned n_errors = 0;
	int rc = env_open(e);

	world_say(w, "open after damage: %d %s", rc, rc < 0 ? e->err.text : "");
	if (rc < 0) {
		if (!is_a_reason(rc) || e->err.text[0] == 0)
			world_fail(w, __FILE__, __LINE__, "refused with %d, \"%s\"", rc, e->err.text);
		e->store = NULL;
		w->sums[SUM_UNOPENED]++;
		return;
	}
	for (unsigned i = 0; i < N_FACES; i++)
		if ((w->plan.faces & 1u << i) != 0)
			n_errors += world_face(i)->look(w);
	w->sums[SUM_UNREADABLE] += n_errors;
	int64_t n_found = store_check(e->store, &how);
	world_say(w, "%u errors, check: %lld", n_errors, (long long)n_found);
	if (n_errors > 0 && n_found == 0)
		world_fail(w, __FILE__, __LINE__, "%u could not be read, and check finds nothing", n_errors);
	env_close(e);
}
