/* world.c - see world.h; and the lives of a store.
 *
 * A life: the media get their faults, a cut is planned, the store is opened, then each face's things, which are held against
 * what was promised in the lives before; coroutines of all faces take their operations; the power goes, or the process, or everything is
 * closed. The last life that a plan has may damage the media: see damage.c for what is asked then. Behind the last one comes a peaceful opening, in which all
 * there is is read, and the store's own check must find nothing.
 *
 * Media are formatted once a process, half of them full of what was there before, and cloned for each history. Cache and loop stay: what a
 * history leaves in them would show as a leak of the budget, or as a history that doesn't repeat. */
#include "world.h"

#include "damage.h"

#include "../../src/cache/core.h"
#include "../support/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Units of capacity, staging, pmem. Small, since a crash is as long as what is read after it. */
static const uint64_t image_units[][STORE_N_CLASSES] = {
	{900, 0, 0},
	{600, 0, 500},
	{700, 600, 0},
	{500, 800, 500},
};
#define N_IMAGES (sizeof(image_units) / sizeof(image_units[0]))

const struct face_ops *world_face(unsigned face)
{
	static const struct face_ops *const all[N_FACES] = {&blob_face, &map_face, &mdc_face, &log_face, &volume_face, &tmem_face, &nbd_face};

	return all[face];
}

const char *const sum_names[N_SUMS] = {
	"lives",         "operations",  "cuts",    "deaths",          "errors told",  "times memory refused", "I/Os damaged",
	"refused opens", "unreadable",  "repaired", "endless", "transactions",    "compactions",  "maps",                 "pages pinned", "raw loads",
	"records",       "not promised and lost", "segments sealed", "destaged",        "checkpoints",  "segments cleaned",     "pages spilled",
	"images saved",  "hang-ups",
};

uint64_t world_bytes(const struct world *w, unsigned class_no)
{
	return image_units[w->plan.image][class_no] * PAGE;
}

static bool takes_part(const struct world *w, unsigned face)
{
	return (w->plan.faces & 1u << face) != 0;
}

/* ---- told ---- */

void world_say(const struct world *w, const char *format, ...)
{
	va_list args;

	if (!w->verbose)
		return;
	va_start(args, format);
	(void)fprintf(stderr, "life %u: ", w->life_no);
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
	va_end(args);
}

void world_fail(const struct world *w, const char *file, int line, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)fprintf(stderr, "%s:%d: seed %llu, life %u: %s\n", file, line, (unsigned long long)w->plan.seed, w->life_no, text);
	(void)fflush(stderr);
	abort();
}

/* ---- power ---- */

bool world_power_is_gone(void *arg)
{
	struct world *w = arg;

	if (!env_is_cut(&w->e))
		return false;
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		if (w->e.sims[i] != NULL && !sim_is_cut(w->e.sims[i]))
			sim_cut(w->e.sims[i], w->life->cut_choice + i);
	return true;
}

static void cut(struct world *w)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		if (w->e.sims[i] != NULL && !sim_is_cut(w->e.sims[i]))
			sim_cut(w->e.sims[i], w->life->cut_choice + i);
}

void world_die(void *arg)
{
	struct world *w = arg;

	if (env_is_cut(&w->e) || w->heirs[0] != NULL)
		return;
	world_say(w, "the process dies");
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		if (w->e.sims[i] == NULL)
			continue;
		must(w, sim_clone(w->e.sims[i], w->life->random + i, &w->heirs[i]) == 0);
		sim_cut(w->e.sims[i], 0);
	}
}

bool world_excuses(struct world *w, int64_t rc)
{
	if (rc >= 0)
		return false;
	if (world_power_is_gone(w))
		return true;
	if (!w->faulty)
		world_fail(w, __FILE__, __LINE__, "error %lld", (long long)rc);
	w->sums[SUM_ERRORS]++;
	return true;
}

/* Nothing would ever happen any more. I/O that never ends may be why: then the power goes, of those media too that outlived the cut of another. */
static bool idle(void *arg)
{
	struct world *w = arg;
	bool all_cut = true;

	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		all_cut &= w->e.sims[i] == NULL || sim_is_cut(w->e.sims[i]);
	if (w->life == NULL || (w->life->faults & 1u << FAULT_NEVER) == 0 || all_cut)
		return false;
	world_say(w, "everybody waits for ever");
	w->sums[SUM_ENDLESS]++;
	cut(w);
	return true;
}

/* ---- faults ---- */

static uint32_t rate_of(const struct plan_life *life, enum fault_no fault)
{
	return (life->faults & 1u << fault) != 0 ? life->rate : 0;
}

/* What damages the media is not there while the store is opened: what can't be told from what a crash has torn would be lost. */
static struct sim_faults faults_of(const struct world *w, const struct plan_life *life, bool damaging)
{
	struct sim_faults f = {.cut_ends_io = true, .tear_4k = w->plan.tear_4k, .ordered = w->plan.ordered};

	if (life == NULL)
		return f;
	f.max_delay_turns = (life->faults & 1u << FAULT_SLOW) != 0 ? 1 + (unsigned)(life->random % 4) : 0;
	f.shorten = (life->faults & 1u << FAULT_SHORT) != 0 ? 1u << 30 : 0;
	f.eio_read = rate_of(life, FAULT_EIO_READ) / 2;
	f.eio_write = rate_of(life, FAULT_EIO_WRITE);
	f.eio_flush = rate_of(life, FAULT_EIO_FLUSH);
	f.enospc = rate_of(life, FAULT_ENOSPC);
	f.never = rate_of(life, FAULT_NEVER) / 2;
	f.bit_rot = damaging ? rate_of(life, FAULT_ROT) : 0;
	f.lose = damaging ? rate_of(life, FAULT_LOSE) : 0;
	f.misdirect = damaging ? rate_of(life, FAULT_MISDIRECT) : 0;
	return f;
}

static void set_faults(struct world *w, const struct plan_life *life, bool damaging)
{
	struct sim_faults f = faults_of(w, life, damaging);

	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		/* What is mapped has no other copy, and may be read long after it was verified: it is damaged between lives. */
		if (i == QUIRE_CLASS_PMEM)
			f.bit_rot = f.misdirect = 0;
		if (w->e.sims[i] != NULL)
			sim_set_faults(w->e.sims[i], &f);
	}
	memory_refuse(life != NULL && (life->faults & 1u << FAULT_MEMORY) != 0 ? 40 : 0, w->plan.seed);
}

static bool has_errors(unsigned faults)
{
	return faults >> FAULT_EIO_READ != 0;
}

static void plan_cut(struct world *w)
{
	struct sim *sim = w->e.sims[w->life->cut_class];

	if (w->life->end != END_CUT)
		return;
	if (sim == NULL)
		sim = w->e.sims[0];
	sim_cut_at(sim, sim_n_events(sim) + w->life->cut_after, w->life->cut_choice);
}

/* ---- opened and closed ---- */

static void found(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	(void)fprintf(stderr, "  found %d, object %llu, class %u, offset %llu: %s\n", error, (unsigned long long)id, class_no,
	              (unsigned long long)offset, text);
	(void)arg;
}

static void check(struct world *w, bool structure_only)
{
	struct store_check how = {.structure_only = structure_only};
	int64_t n = store_check(w->e.store, &how);

	if (n == 0 || (n < 0 && world_excuses(w, n)) || world_power_is_gone(w) || w->faulty)
		return;
	how.found = found;
	world_fail(w, __FILE__, __LINE__, "check: %lld findings, %lld again", (long long)n, (long long)store_check(w->e.store, &how));
}

static void open_all(struct env *e, void *arg)
{
	struct world *w = arg;
	int rc = env_open(e);

	world_say(w, "open: %d %s", rc, rc < 0 ? e->err.text : "");
	if (rc < 0) {
		e->store = NULL;
		(void)world_excuses(w, rc);
		return;
	}
	if (!w->unmended)
		check(w, w->life->random % 4 != 1); /* what a cut has left, before anybody mends it */
	bool all_open = true;
	for (unsigned i = 0; i < N_FACES; i++) {
		if (!takes_part(w, i))
			continue;
		w->is_open[i] = world_face(i)->open(w);
		all_open &= w->is_open[i];
		world_say(w, "%s: %s", face_names[i], w->is_open[i] ? "open" : "not open");
	}
	w->unmended &= w->faulty || !all_open;
	if (w->life->random % 4 == 0)
		check(w, false);
}

static void close_all(struct env *e, void *arg)
{
	struct world *w = arg;
	struct store_stat stat;

	store_stat(e->store, &stat);
	w->sums[SUM_TRANSACTIONS] += stat.n_transactions;
	w->sums[SUM_COMPACTIONS] += stat.n_compactions;
	for (unsigned i = N_FACES; i-- > 0;) {
		if (w->is_open[i])
			world_face(i)->close(w);
		w->is_open[i] = false;
	}
	env_close(e);
}

/* ---- a life ---- */

struct worker {
	struct world *w;
	unsigned face, no;
};

static void work(void *arg)
{
	const struct worker *me = arg;
	struct world *w = me->w;

	for (unsigned i = 0; i < w->plan.n_ops && !env_is_cut(&w->e); i++) {
		const struct plan_op *op = &w->plan.ops[i];
		static_assert(PLAN_OPS <= 1u << 11, "two seeds share no draws");
		uint64_t random = w->plan.seed << 11 ^ op->number;
		if (op->life != w->life_no || op->face != me->face || op->worker != me->no)
			continue;
		world_say(w, "op %u: %s %u", op->number, face_names[me->face], me->no);
		w->sums[SUM_OPS]++;
		bool goes_on = world_face(me->face)->step(w, me->no, random_next(&random));
		world_say(w, "op %u: done", op->number);
		if (!goes_on)
			break;
	}
	w->n_working--;
}

static void die_some_time(void *arg)
{
	struct world *w = arg;

	for (uint64_t n = w->life->cut_after; n > 0 && w->n_working > 0; n--)
		(void)quire_co_yield();
	world_die(w);
}

static void spawn_workers(struct world *w, struct worker workers[N_FACES * PLAN_WORKERS])
{
	w->n_working = 0;
	for (unsigned i = 0; i < N_FACES * PLAN_WORKERS; i++) {
		workers[i] = (struct worker){w, i / PLAN_WORKERS, i % PLAN_WORKERS};
		if (!w->is_open[workers[i].face])
			continue;
		w->n_working++;
		must(w, quire_co_spawn(w->e.loop, work, &workers[i]) == 0);
	}
	if (w->life->end == END_DEATH)
		must(w, quire_co_spawn(w->e.loop, die_some_time, w) == 0);
}

/* Nothing of a life's I/O is left; the next begins with the media as they are, or as a dead process left them. */
static void pass_on(struct world *w)
{
	bool is_cut = env_is_cut(&w->e), is_dead = w->heirs[0] != NULL;

	w->sums[SUM_CUTS] += is_cut && !is_dead;
	w->sums[SUM_DEATHS] += is_dead;
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		if (w->e.sims[i] == NULL)
			continue;
		sim_cut_at(w->e.sims[i], UINT64_MAX, 0);
		w->history = w->history * 31 + sim_history_hash(w->e.sims[i]);
		w->sums[SUM_DAMAGED] += sim_n_damaged(w->e.sims[i]);
		if (w->heirs[i] == NULL)
			continue;
		sim_destroy(w->e.sims[i]);
		w->e.sims[i] = w->heirs[i];
		w->heirs[i] = NULL;
	}
}

static void live(struct world *w, const struct plan_life *life)
{
	struct worker workers[N_FACES * PLAN_WORKERS];

	w->life = life;
	w->sums[SUM_LIVES]++;
	w->faulty = has_errors(life->faults);
	w->damaged |= (life->faults & FAULTS_DAMAGE) != 0;
	set_faults(w, life, false);
	plan_cut(w);
	env_run(&w->e, open_all, w);
	if (w->e.store != NULL) {
		set_faults(w, life, true);
		spawn_workers(w, workers);
		must(w, quire_loop_run(w->e.loop) == 0);
		if (life->end == END_CUT_IDLE)
			cut(w);
		(void)world_power_is_gone(w);
		env_run(&w->e, close_all, w);
	}
	w->unmended |= w->faulty;
	(void)world_power_is_gone(w);
	if (w->heirs[0] == NULL && life->end == END_CUT && !env_is_cut(&w->e))
		cut(w); /* it was not used as much as that */
	pass_on(w);
	if ((life->faults & 1u << FAULT_ROT) != 0)
		damage_at_rest(w);
}

/* ---- a history ---- */

static void last_check(struct env *e, void *arg)
{
	struct world *w = arg;

	open_all(e, w);
	check(w, false);
	close_all(e, w);
}

static void take_media(struct world *w)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++)
		if (w->images[w->plan.image][i] != NULL)
			must(w, sim_clone(w->images[w->plan.image][i], w->plan.seed + i, &w->e.sims[i]) == 0);
}

static void drop_media(struct world *w)
{
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		sim_destroy(w->e.sims[i]);
		w->e.sims[i] = NULL;
	}
	(void)quire_loop_run(w->e.loop);
}

void world_run(struct world *w, const struct plan *plan)
{
	static const struct plan_life peace = {.end = END_CLOSE};

	w->plan = *plan;
	w->damaged = w->unmended = false;
	w->history = 0;
	w->e.seed = plan->seed;
	w->e.slack_bytes = plan->seed % 2 == 0 ? 1 + plan->seed % 8000 : 0;
	take_media(w);
	for (unsigned i = 0; i < N_FACES; i++)
		if (takes_part(w, i))
			world_face(i)->begin(w);
	uint64_t n_refused = memory_n_refused();
	for (w->life_no = 0; w->life_no < plan->n_lives; w->life_no++)
		live(w, &plan->lives[w->life_no]);
	w->life = &peace;
	w->faulty = w->damaged;
	set_faults(w, NULL, false);
	env_run(&w->e, w->damaged ? damage_look : last_check, w);
	for (unsigned i = 0; i < N_FACES; i++)
		if (takes_part(w, i))
			world_face(i)->end(w);
	w->life = NULL;
	w->sums[SUM_REFUSED] += memory_n_refused() - n_refused;
	pass_on(w);
	drop_media(w);
}

/* ---- life of the world ---- */

static void format(struct env *e, void *arg)
{
	struct world *w = arg;

	must(w, env_format(e) == 0);
	must(w, env_open(e) == 0);
	for (unsigned i = 0; i < N_FACES; i++)
		if (world_face(i)->format != NULL)
			world_face(i)->format(w);
	env_close(e);
}

/* As what somebody else has used before. */
static void fill(struct sim *sim, uint64_t bytes, uint64_t random)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (uint64_t at = 0; at < bytes; at += PAGE) {
		for (unsigned i = 0; i < PAGE / sizeof(page[0]); i++)
			page[i] = random_next(&random);
		sim_poke(sim, at, page, PAGE);
	}
}

static void make_image(struct world *w, unsigned no)
{
	const struct sim_faults none = {.cut_ends_io = true};

	w->plan.image = no;
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		uint64_t bytes = image_units[no][i] * PAGE;
		if (bytes == 0)
			continue;
		must(w, (i == 2 ? sim_create_pmem : sim_create)(bytes, i + 1, &none, &w->e.sims[i]) == 0);
		if (no % 2 == 1)
			fill(w->e.sims[i], bytes, i);
	}
	env_run(&w->e, format, w);
	for (unsigned i = 0; i < STORE_N_CLASSES; i++) {
		w->images[no][i] = w->e.sims[i];
		w->e.sims[i] = NULL;
	}
}

void world_init(struct world *w, bool verbose)
{
	struct quire_loop_options loop = {.size = sizeof(loop), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1, .suspend_faults = true};
	struct quire_cache_options cache = {.size = sizeof(cache), .budget_bytes = 64u << 20, .reserve_bytes = 1u << 30,
	                                    .no_probation = true, .no_second_chance = true, .signal_faults = true};

	*w = (struct world){.verbose = verbose};
	idle_watch(idle, w);
	must(w, quire_loop_create(&loop, &w->e.loop, NULL) == 0);
	must(w, quire_cache_open(&cache, &w->cache, NULL) == 0);
	w->public_face = (struct face){.cache = w->cache, .lock = -1};
	w->e.cache = w->cache;
	w->e.face = &w->public_face;
	for (unsigned i = 0; i < N_IMAGES; i++)
		make_image(w, i);
}

void world_fini(struct world *w)
{
	for (unsigned i = 0; i < N_IMAGES * STORE_N_CLASSES; i++)
		sim_destroy(w->images[i / STORE_N_CLASSES][i % STORE_N_CLASSES]);
	must(w, quire_loop_run(w->e.loop) == 0);
	must(w, quire_loop_destroy(w->e.loop) == 0);
	must(w, quire_cache_close(w->cache) == 0);
}
