/* zone.c - where single small objects go: units that were written before.
 *
 * A durable write into a hole of a file takes twice the time of one over written blocks, as the file system
 * must commit where they are. So a zone of free units is overwritten with zeros, in one go, and small objects
 * that are committed one by one are placed in it, one behind the other. What comes in batches is written in long runs
 * and needs none of this.
 *
 * While it is prepared a zone is in use, so that nobody writes there; then it is free again, like all free space, and
 * the zone is no more than a hint: who comes later may find that another has taken some of it, and does without.
 */
#include "store_internal.h"

#include <errno.h>

#define MAX_UNITS 1024u
#define SHARE 64u /* of the class, at most */

/* `preparing` is the caller's. */
static int prepare(struct store *s, unsigned class_no)
{
	struct store_class *c = &s->classes[class_no];
	uint64_t want = c->space.n_units / SHARE < MAX_UNITS ? c->space.n_units / SHARE : MAX_UNITS, start, n;
	int rc = -ENOSPC;

	store_lock(s);
	/* Not where space is short: others would miss it meanwhile. */
	if (want > 0 && freemap_available(&c->space, 0) > 8 * want)
		rc = freemap_alloc(&c->space, want, 1, FREEMAP_WHOLE, &start, &n);
	store_unlock(s);
	if (rc < 0)
		return rc;
	rc = store_zero(c->device, start * FORMAT_UNIT_BYTES, n * FORMAT_UNIT_BYTES);
	store_lock(s);
	store_give_locked(s, class_no, start, n);
	if (rc == 0) {
		c->zone.next = start;
		c->zone.end = start + n;
	}
	store_unlock(s);
	return rc;
}

int zone_alloc(struct store *s, unsigned class_no, uint64_t n_units, uint64_t *ret_start)
{
	struct store_class *c = &s->classes[class_no];
	int rc = -ENOSPC;

	store_lock(s);
	bool prepares = c->zone.end - c->zone.next < n_units && !c->zone.preparing;
	if (prepares) {
		c->zone.preparing = true;
		store_unlock(s);
		(void)prepare(s, class_no);
		store_lock(s);
		c->zone.preparing = false;
	}
	if (c->zone.end - c->zone.next >= n_units) {
		rc = freemap_take(&c->space, c->zone.next, n_units);
		if (rc == 0) {
			c->space.n_promised -= n_units;
			*ret_start = c->zone.next;
			c->zone.next += n_units;
		} else {
			c->zone.next = c->zone.end = 0;
		}
	}
	store_unlock(s);
	return rc;
}
