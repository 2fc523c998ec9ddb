/* container_open.c - which of a container's two logs is the active one, and opening it. Why it is right: see container.c. */
#include "container_internal.h"

#include "../base/fail.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static int out_of_place(const struct container_delivery *d, const struct journal_place *at)
{
	return quire_fail(d->err, -EUCLEAN, "%s: a container's log with a record that can't stand where it does, in the segment at %llu, offset %u",
	                  d->container->o.journal.device->name, (unsigned long long)at->segment, at->offset);
}

/* Each record of a log: ours are taken in, the others handed on. */
int container_deliver(void *arg, const struct journal_place *at, uint16_t type, const void *payload, uint32_t len_bytes)
{
	struct container_delivery *d = arg;
	struct container_log_state *state = d->state;
	struct container_start_le start;
	struct container_end_le end;
	bool first = state->n_seen++ == 0;

	if (first != (type == FRAME_CONTAINER_START))
		return out_of_place(d, at);
	if (first) {
		if (len_bytes != sizeof(start))
			return out_of_place(d, at);
		memcpy(&start, payload, sizeof(start));
		state->generation = le64toh(start.generation);
		state->complete = start.complete != 0;
		state->n_own++;
		return 0;
	}
	if (type == FRAME_CONTAINER_END) {
		if (len_bytes != sizeof(end) || state->complete)
			return out_of_place(d, at);
		memcpy(&end, payload, sizeof(end));
		if (le64toh(end.generation) != state->generation)
			return out_of_place(d, at);
		state->complete = true;
		state->n_own++;
		return 0;
	}
	return d->fn != NULL ? d->fn(d->arg, at, type, payload, len_bytes) : 0;
}

/* The header alone. */
static int probe(struct container *c, unsigned index, struct frame_segment *ret, struct quire_error *err)
{
	struct journal_options o = container_log_options(c, index);
	struct scan s;
	int rc = scan_init(&s, &o, c->logs[index].first_segment, false, err);

	if (rc == 0)
		*ret = s.first;
	scan_fini(&s);
	return rc;
}

/* Reads a whole log only to learn its state. */
static void inspect(struct container *c, unsigned index, struct container_log_state *state, struct quire_error *err)
{
	struct journal_options o = container_log_options(c, index);
	struct container_delivery d = {.container = c, .state = state, .err = err};
	struct scan s;
	int rc = scan_init(&s, &o, c->logs[index].first_segment, false, err);

	if (rc == 0)
		rc = scan_all(&s, UINT64_MAX, container_deliver, &d);
	scan_fini(&s);
	state->rc = rc < 0 ? rc : 0;
}

#define UNREAD 2u /* it may be right */

/* Of two logs that can't be opened what is graver is told: what could not be read before what is damaged, and that before what is absent. */
static unsigned gravity(int rc)
{
	return rc == 0 || rc == -EUCLEAN ? 0 : rc == -EBADMSG ? 1 : UNREAD;
}

/* Which of two logs is the active one: its index, or a negative errno. */
static int choose(struct container *c, struct container_log_state states[2], struct quire_error *err)
{
	struct quire_error errors[2] = {{0}, {0}};
	bool good[2];

	for (unsigned i = 0; i < 2; i++) {
		states[i].rc = probe(c, i, &states[i].first, &errors[i]);
		states[i].has_header = states[i].rc == 0;
		if (states[i].rc == -ENOMEM)
			return quire_fail(err, -ENOMEM, "%s: a container", c->o.journal.device->name);
	}
	if (states[0].has_header != states[1].has_header)
		return states[1].has_header;
	for (unsigned i = 0; i < 2 && states[0].has_header; i++)
		inspect(c, i, &states[i], &errors[i]);
	for (unsigned i = 0; i < 2; i++)
		good[i] = states[i].rc == 0 && states[i].complete;
	if (good[0] && good[1] && states[0].generation == states[1].generation)
		return quire_fail(err, -EUCLEAN, "%s: a container with two logs of one generation",
		                  c->o.journal.device->name);
	if (good[0] && good[1])
		return states[1].generation > states[0].generation;
	if (good[0] || good[1])
		return good[1];
	unsigned which = gravity(states[1].rc) > gravity(states[0].rc);
	if (states[which].rc == 0)
		return quire_fail(err, -EUCLEAN, "%s: no log of the container is complete", c->o.journal.device->name);
	if (err != NULL)
		*err = errors[which];
	return states[which].rc;
}

/* Beside a writer the log may have been given up while it was read: see invariant 3. first: its header before. */
static int still_the_same(struct container *c, unsigned index, const struct frame_segment *first, struct quire_error *err)
{
	struct frame_segment now;
	int rc = probe(c, index, &now, err);

	if (gravity(rc) == UNREAD)
		return rc;
	if (rc != 0 || !frame_segment_same(&now, first))
		return quire_fail(err, -ESTALE, "%s: the container was compacted while it was read", c->o.journal.device->name);
	return 0;
}

/* Opens the log that was chosen, and gives its records to fn. */
static int open_active(struct container *c, unsigned index, struct container_log_state *state, int other_rc,
                       struct container_delivery *d, struct journal_recovery *ret, struct quire_error *err)
{
	struct container_log *log = &c->logs[index];
	struct journal_options o = container_log_options(c, index);

	state->generation = state->n_own = state->n_seen = 0;
	state->complete = false;
	int rc = journal_open(&o, log->first_segment, c->read_only, container_deliver, d, ret, &log->journal, err);
	int same = c->read_only ? still_the_same(c, index, &state->first, err) : 0;
	if (same < 0)
		return same;
	if (rc < 0)
		return rc;
	/* So the other was the active one: what kept us from its header is what is wrong. */
	if (!state->complete)
		return quire_fail(err, other_rc < 0 ? other_rc : -EUCLEAN, "%s: the container's active log",
		                  o.device->name);
	log->generation = state->generation;
	log->n_own = state->n_own;
	c->active = c->target = index;
	return 0;
}

int container_open(const struct container_options *o, const uint64_t first[2], bool read_only,
                   journal_record_fn fn, void *arg, struct journal_recovery *ret,
                   struct container **ret_container, struct quire_error *err)
{
	struct container_log_state states[2] = {{0}, {0}};
	struct container *c;
	int rc = container_new(o, first, &c, err);

	if (rc < 0)
		return rc;
	c->read_only = read_only;
	/* Beside a writer one log may be looked at before it is begun, and the other after it was erased. */
	for (int n_tries = 0; n_tries == 0 || (rc < 0 && read_only && n_tries < 3); n_tries++) {
		memset(states, 0, sizeof(states));
		rc = choose(c, states, err);
	}
	if (rc >= 0) {
		unsigned active = (unsigned)rc, other = !active;
		struct container_delivery d = {.container = c, .state = &states[active], .err = err, .fn = fn, .arg = arg};
		rc = open_active(c, active, &states[active], states[other].rc, &d, ret, err);
		if (rc == 0 && !read_only) {
			rc = container_erase_header(c, other);
			if (rc < 0)
				quire_fail(err, rc, "%s: erasing a container's log", o->journal.device->name);
		}
	}
	if (rc < 0) {
		container_free(c);
		return rc;
	}
	*ret_container = c;
	return 0;
}
