/* damage.c - see damage.h. Bits have flipped, writes were lost or went elsewhere. What was promised can't be kept then, but:
 *
 *   1. the store opens, or is refused with a reason: no crash, no hang;
 *   2. whatever is read is what was once written there, or an error: never other bytes;
 *   3. where something could not be read, the store's check finds something;
 *   4. a plan of a repair writes nothing, and says what the repair then does; and behind that no more is unreadable than was before.
 */
#include "damage.h"

#include "../../src/store/format.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define FOOTER_USED_BYTES offsetof(struct log_footer_le, zeros)
#define SUPERBLOCK_USED_BYTES offsetof(struct superblock_le, zeros)

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

/* One copy, which the other one mends; or both, and the store is refused. */
static void rot_superblocks(struct world *w, uint64_t *random)
{
	for (unsigned n = (unsigned)random_below(random, 8) == 0 ? 1 + (unsigned)random_below(random, 3) : 0; n > 0; n--)
		flip(w, w->e.sims[0], (random_below(random, 2) * FORMAT_SUPERBLOCK_STEP + random_below(random, SUPERBLOCK_USED_BYTES)) * 8);
}

void damage_at_rest(struct world *w)
{
	uint64_t random = w->life->random;

	rot_superblocks(w, &random);

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

static unsigned look_all(struct world *w)
{
	unsigned n_errors = 0;

	for (unsigned i = 0; i < N_FACES; i++)
		if ((w->plan.faces & 1u << i) != 0)
			n_errors += world_face(i)->look(w);
	return n_errors;
}

struct settled {
	struct world *world;
	uint64_t n[STORE_REOPEN + 1];
};

static void count_remedy(void *arg, const struct store_finding *f)
{
	struct settled *s = arg;

	s->n[f->remedy]++;
	world_say(s->world, "%d at %llu of class %u: remedy %d: %s", f->error, (unsigned long long)f->offset, f->class_no, (int)f->remedy, f->text);
}

static uint64_t written_bytes(const struct world *w)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		n += w->e.sims[i] != NULL ? sim_n_written_bytes(w->e.sims[i]) : 0;
	return n;
}

/* What a check has found, at least: who mends a page of checksums knows besides which pages are lost. */
static struct settled settle(struct world *w, enum store_repair repair, int64_t n_found)
{
	struct settled s = {.world = w};
	const struct store_check how = {.repair = repair, .settled = count_remedy, .arg = &s};
	int64_t n = store_check(w->e.store, &how);

	if (n < n_found)
		world_fail(w, __FILE__, __LINE__, "%lld findings to be settled of %lld", (long long)n, (long long)n_found);
	return s;
}

/* How many findings are lost, or wait for somebody to open them. */
static uint64_t repair(struct world *w, int64_t n_found)
{
	uint64_t before = written_bytes(w);
	struct settled planned = settle(w, STORE_REPAIR_PLAN, n_found);

	must(w, written_bytes(w) == before);
	struct settled done = settle(w, STORE_REPAIR_DO, n_found);
	must(w, memcmp(planned.n, done.n, sizeof(done.n)) == 0);
	w->sums[SUM_REPAIRED] += done.n[STORE_REBUILT];
	return done.n[STORE_LOST] + done.n[STORE_REOPEN];
}

static void say_found(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	world_say(arg, "%d of %llu at %llu of class %u: %s", error, (unsigned long long)id, (unsigned long long)offset, class_no, text);
}

void damage_look(struct env *e, void *arg)
{
	struct world *w = arg;
	const struct store_check how = {.found = say_found, .arg = w};
	int rc = env_open(e);

	world_say(w, "open after damage: %d %s", rc, rc < 0 ? e->err.text : "");
	if (rc < 0) {
		if (!is_a_reason(rc) || e->err.text[0] == 0)
			world_fail(w, __FILE__, __LINE__, "refused with %d, \"%s\"", rc, e->err.text);
		e->store = NULL;
		w->sums[SUM_UNOPENED]++;
		return;
	}
	unsigned n_errors = look_all(w);
	w->sums[SUM_UNREADABLE] += n_errors;
	int64_t n_found = store_check(e->store, &how);
	world_say(w, "%u errors, check: %lld", n_errors, (long long)n_found);
	if (n_errors > 0 && n_found == 0)
		world_fail(w, __FILE__, __LINE__, "%u could not be read, and check finds nothing", n_errors);
	uint64_t n_left = repair(w, n_found);
	env_close(e);
	must(w, env_open(e) == 0 && look_all(w) <= n_errors);
	int64_t n_still = store_check(e->store, &how);
	if (n_still < 0 || (uint64_t)n_still > n_left)
		world_fail(w, __FILE__, __LINE__, "%llu findings were left, now there are %lld", (unsigned long long)n_left, (long long)n_still);
	env_close(e);
}
