/* damage.c - see damage.h. Bits have flipped, writes were lost or went elsewhere. What was promised can't be kept then, but:
 *
 *   1. the store opens, or is refused with a reason: no crash, no hang;
 *   2. whatever is read is what was once written there, or an error: never other bytes;
 *   3. where something could not be read, the store's check finds something.
 */
#include "damage.h"

#include "../../src/store/format.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define FOOTER_USED_BYTES offsetof(struct log_footer_le, zeros)

static void flip(struct world *w, struct sim *sim, uint64_t bit)
{
	uint8_t byte;

	sim_peek(sim, bit / 8, &byte, 1);
	byte ^= (uint8_t)(1u << bit % 8);
	sim_poke(sim, bit / 8, &byte, 1);
	w->sums[SUM_DAMAGED]++;
}

/* They are read when the store is opened, which is before I/O damages what it reads; and of bits taken anywhere hardly one would be theirs. */
static void rot_footers(struct world *w, struct sim *sim, uint64_t bytes, uint64_t *random)
{
	uint8_t magic[sizeof(FORMAT_LOG_FOOTER_MAGIC) - 1];

	for (uint64_t at = 0; at < bytes; at += PAGE) {
		sim_peek(sim, at, magic, sizeof(magic));
		if (memcmp(magic, FORMAT_LOG_FOOTER_MAGIC, sizeof(magic)) == 0 && random_below(random, 4) == 0)
			flip(w, sim, at * 8 + random_below(random, FOOTER_USED_BYTES * 8));
	}
}

void damage_at_rest(struct world *w)
{
	uint64_t random = w->life->random;

	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		struct sim *sim = w->e.sims[i];
		uint64_t bytes = sim == NULL ? 0 : world_bytes(w, i);
		for (unsigned n = i != QUIRE_CLASS_PMEM || sim == NULL ? 0 : 1 + (unsigned)random_below(&random, 20); n > 0; n--)
			flip(w, sim, random_below(&random, bytes * 8));
		rot_footers(w, sim, bytes, &random);
	}
}

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
