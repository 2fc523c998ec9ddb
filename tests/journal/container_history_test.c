/* container_history_test.c - random histories of a two-log container against a model, and scripted ones cut at every
 * event. As history_test.c, with compactions.
 *
 * The model: what the active log holds, in order, and how much of it was promised; and during a compaction the same
 * for the other log. A crash during a compaction finds the one or the other, by the generation. */
#include "histories.h"

#include "../../src/journal/container_internal.h"

#include <errno.h>
#include <string.h>

#define N_WRITERS_MAX 3u

struct entry {
	uint64_t no;
	uint32_t id;
};

struct contents {
	struct entry entries[MAX_IDS]; /* by number */
	uint64_t n, n_promised;        /* promised: entries of the first so many */
};

static struct history {
	bool created;
	struct container *container;
	uint64_t first[2];
	struct contents logs[2];          /* the active one, and that of a compaction */
	unsigned active;
	bool compacting, ending;          /* ending: END may be durable */
	uint64_t n_at_end;                /* entries that END comes after */
	uint64_t generation;
	uint32_t under_way[N_WRITERS_MAX + 1]; /* id + 1 */
	uint32_t next_id;
	unsigned n_writers;
	uint64_t n_compactions, n_aborts;
} h;

/* Where an append that is called now goes. The switch is inside cstart, so only the container knows. */
static struct contents *target(void)
{
	return &h.logs[h.container->target != h.container->active ? !h.active : h.active];
}

/* Appends may return in another order than that of their numbers. */
static void contents_add(struct contents *c, uint64_t no, uint32_t id)
{
	uint64_t i = c->n++;

	for (; i > 0 && c->entries[i - 1].no > no; i--)
		c->entries[i] = c->entries[i - 1];
	assert_true(i == 0 || c->entries[i - 1].no < no);
	c->entries[i] = (struct entry){.no = no, .id = id};
}

static void promise(struct contents *c, uint64_t no)
{
	if (sim_is_cut(e.sim))
		return;
	while (c->n_promised < c->n && c->entries[c->n_promised].no <= no)
		c->n_promised++;
}

/* ---- writers ---- */

static int append(unsigned index, uint32_t id, uint64_t *ret_no)
{
	struct contents *to = target();

	h.under_way[index] = id + 1;
	int rc = record_append_container(h.container, id, ret_no);
	if (rc == -ENOSPC || rc == -EFBIG)
		h.under_way[index] = container_error(h.container) < 0 ? id + 1 : 0;
	if (rc < 0)
		return rc;
	h.under_way[index] = 0;
	contents_add(to, *ret_no, id);
	played.n_records++;
	return 0;
}

struct writer {
	unsigned index, n_steps;
};

static void write_records(void *arg)
{
	struct writer *w = arg;

	for (unsigned i = 0; i < w->n_steps && h.next_id < MAX_IDS; i++) {
		struct contents *to = target();
		uint64_t no;
		int rc = append(w->index, h.next_id++, &no);

		if (rc < 0)
			break;
		if (env_below(&e, 3) == 0) {
			rc = container_sync(h.container, no, NULL);
			if (rc < 0)
				break;
			/* Between cstart and cend nothing is promised; if the log has been given up since, neither. */
			if (to == &h.logs[h.active])
				promise(to, no);
		}
		if (env_below(&e, 8) == 0)
			quire_co_yield();
	}
	h.n_writers--;
}

/* Half of the active log's records go over. */
static int compact(void)
{
	struct contents *old = &h.logs[h.active], *new = &h.logs[!h.active];
	uint64_t no;

	new->n = new->n_promised = 0;
	h.compacting = true;
	int rc = container_cstart(h.container);
	if (rc < 0) {
		h.compacting = h.container->target != h.container->active;
		return rc;
	}
	if (!sim_is_cut(e.sim))
		old->n_promised = old->n;
	for (uint64_t i = 0; i < old->n && rc == 0; i++)
		if (env_below(&e, 2) == 0)
			rc = append(N_WRITERS_MAX, old->entries[i].id, &no);
	if (rc == 0 && env_below(&e, 10) != 0) {
		h.n_at_end = new->n;
		h.ending = true;
		rc = container_cend(h.container);
	} else if (rc == 0) {
		rc = -ECANCELED;
	}
	if (rc == 0) {
		h.active = !h.active;
		h.logs[h.active].n_promised = sim_is_cut(e.sim) ? 0 : h.n_at_end;
		if (!sim_is_cut(e.sim)) {
			h.generation++;
			h.compacting = h.ending = false;
			h.n_compactions++;
			return 0;
		}
		h.active = !h.active;
		return -EIO;
	}
	if (container_error(h.container) == 0 && container_cabort(h.container) == 0) {
		h.compacting = h.ending = false;
		h.n_aborts++;
	}
	return rc;
}

/* ---- reopening ---- */

static bool id_is_under_way(uint32_t id)
{
	for (unsigned i = 0; i <= N_WRITERS_MAX; i++)
		if (h.under_way[i] == id + 1)
			return true;
	return false;
}

static void judge_seen(const struct contents *want, uint64_t n_least)
{
	uint64_t k = 0;

	assert_int_equal(seen.n_wrong, 0);
	for (uint64_t i = 0; i < seen.n; i++) {
		if (k < want->n && want->entries[k].id == seen.ids[i])
			k++;
		else
			assert_true(id_is_under_way(seen.ids[i]));
	}
	if (k < n_least && played.damage)
		played.n_short++;
	else
		assert_true(k >= n_least);
}

static void model_follows(void)
{
	struct contents *c = &h.logs[h.active];

	c->n = c->n_promised = seen.n;
	/* Numbers of an opened container begin at those of its log. */
	for (uint64_t i = 0; i < seen.n; i++)
		c->entries[i] = (struct entry){.no = seen.places[i].record_no, .id = seen.ids[i]};
	h.compacting = h.ending = false;
	memset(h.under_way, 0, sizeof(h.under_way));
}

static int reopen(void)
{
	struct container_options o = {.journal = env_options(&e)};
	struct container_usage usage;
	struct quire_error err = {0};

	seen.n = seen.n_wrong = 0;
	int rc = container_open(&o, h.first, false, seen_add, &seen, NULL, &h.container, &err);
	if (rc < 0)
		h.container = NULL;
	if (sim_is_cut(e.sim))
		return rc < 0 ? rc : -EIO;
	if (rc == -EBADMSG || rc == -EUCLEAN) {
		if (!played.damage)
			fail_msg("seed %llu: %s", (unsigned long long)played.seed, err.text);
		played.refused = true;
		played.n_refused++;
		return rc;
	}
	if (rc < 0)
		return rc;
	container_usage(h.container, &usage);
	assert_int_equal(usage.n_records, seen.n);
	if (played.damage && usage.generation < h.generation) {
		played.refused = true; /* a write that END or the erasing depended on was lost */
	} else if (usage.generation == h.generation) {
		judge_seen(&h.logs[h.active], h.logs[h.active].n_promised);
	} else {
		assert_true(h.ending && usage.generation == h.generation + 1);
		h.active = !h.active;
		judge_seen(&h.logs[h.active], h.n_at_end);
	}
	h.generation = usage.generation;
	model_follows();
	env_forget(&e);
	container_segments(h.container, env_take, &e);
	return 0;
}

static int begin(void)
{
	struct container_options o = {.journal = env_options(&e)};

	env_forget(&e);
	h.first[0] = env_extent(&e);
	h.first[1] = env_extent(&e);
	h.active = 0;
	h.compacting = h.ending = false;
	h.generation = 1;
	h.logs[0].n = h.logs[0].n_promised = 0;
	memset(h.under_way, 0, sizeof(h.under_way));
	int rc = container_create(&o, h.first, &h.container, NULL);
	if (rc < 0)
		h.container = NULL;
	h.created = rc == 0 && !sim_is_cut(e.sim);
	return rc;
}

/* ---- sessions ---- */

static bool io_may_fail(void)
{
	return played.faults.eio_read != 0 || played.faults.eio_write != 0 || played.faults.enospc != 0;
}

static void session(void *arg)
{
	struct writer writers[N_WRITERS_MAX];
	int rc = h.created ? reopen() : begin();

	(void)arg;
	for (unsigned round = 0; round < 3 && rc == 0; round++) {
		unsigned n = 1 + (unsigned)env_below(&e, N_WRITERS_MAX);
		h.n_writers = n;
		for (unsigned i = 0; i < n; i++) {
			writers[i] = (struct writer){.index = i, .n_steps = (unsigned)env_below(&e, played.n_steps_max)};
			assert_int_equal(quire_co_spawn(e.loop, write_records, &writers[i]), 0);
		}
		/* At once with the writers, or after they are done. */
		bool after = env_below(&e, 2) == 0;
		while (after && h.n_writers > 0)
			quire_co_yield();
		if (env_below(&e, 3) != 0)
			(void)compact();
		while (h.n_writers > 0)
			quire_co_yield();
		rc = container_error(h.container) < 0 || sim_is_cut(e.sim) || h.compacting ? -EIO : 0;
	}
	if (rc == 0 && env_below(&e, 8) == 0) {
		seen.n = seen.n_wrong = 0;
		if (container_read(h.container, seen_add, &seen) == 0)
			judge_seen(&h.logs[h.active], h.logs[h.active].n);
		else
			assert_true(played.damage || sim_is_cut(e.sim) || io_may_fail());
	}
	container_close(h.container);
	h.container = NULL;
}

static void history_begin(uint64_t seed, bool scripted)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	h.created = false;
	env_make(&e, scripted ? 16 : 6 + (unsigned)(seed % 12), seed, &none);
	h.next_id = (uint32_t)env_below(&e, MAX_IDS / 2);
	record_sizes_draw(&e);
	played.n_steps_max = scripted ? 20 : env_below(&e, 4) == 0 ? 60 : 12;
}

static struct sim_faults draw_faults(void)
{
	struct sim_faults f = {.cut_ends_io = true, .max_delay_turns = (unsigned)env_below(&e, 4)};

	f.tear_4k = env_below(&e, 4) == 0;
	f.ordered = env_below(&e, 4) == 0;
	f.eio_write = env_below(&e, 6) == 0 ? 1u << 27 : 0;
	f.eio_read = env_below(&e, 12) == 0 ? 1u << 26 : 0;
	f.enospc = env_below(&e, 8) == 0 ? 1u << 26 : 0;
	if (played.damage) {
		f.lose = env_below(&e, 2) == 0 ? 1u << 27 : 0;
		f.misdirect = env_below(&e, 2) == 0 ? 1u << 27 : 0;
		f.bit_rot = env_below(&e, 2) == 0 ? 1u << 27 : 0;
	}
	return f;
}

/* ---- many ---- */

static void forget(void)
{
	memset(&h, 0, sizeof(h));
}

static void tell(void)
{
	print_message("%llu compactions, %llu given up", (unsigned long long)h.n_compactions, (unsigned long long)h.n_aborts);
}

static struct histories kind = {
	.name = "container",
	.n_long = 20000,
	.n_long_damaged = 10000,
	.n_sessions = 5,
	.n_events = 40,
	.forget = forget,
	.begin = history_begin,
	.session = session,
	.draw_faults = draw_faults,
	.tell = tell,
};

int main(void)
{
	return histories_main(&kind);
}
