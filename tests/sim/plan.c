/* plan.c - the swarm: most seeds get few faces and few kinds of faults, so that those which are there are there often. */
#include "plan.h"

#include "../support/random.h"

#include <string.h>

#define N_IMAGES 4u

const char *const face_names[N_FACES] = {"blob", "map", "mdc", "log", "volume", "tmem", "nbd"};
const char *const fault_names[N_FAULTS] = {"cut",    "death", "slow",   "short", "eio-read", "eio-write", "eio-flush",
                                           "enospc", "never", "memory", "rot",   "lose",     "misdirect"};

/* How many of ten histories have it; one in eight has all faces. */
static const unsigned face_chances[N_FACES] = {6, 4, 4, 6, 5, 2, 2};
static const unsigned fault_chances[N_FAULTS] = {9, 5, 6, 5, 2, 2, 2, 2, 1, 1, 1, 1, 1};

/* Of a life: operations at most, and coroutines. */
static const struct {
	unsigned most_ops, n_workers;
} amounts[N_FACES] = {{30, 2}, {24, 1}, {14, 1}, {40, 2}, {40, 2}, {8, 2}, {10, 1}};

static unsigned draw_faces(uint64_t *random)
{
	unsigned faces = 0;

	if (random_below(random, 8) == 0)
		return (1u << N_FACES) - 1;
	for (unsigned i = 0; i < N_FACES; i++)
		faces |= (random_below(random, 10) < face_chances[i]) << i;
	if ((faces & 1u << FACE_MAP) != 0)
		faces |= 1u << FACE_BLOB;
	if ((faces & 1u << FACE_NBD) != 0)
		faces |= 1u << FACE_VOLUME;
	return faces != 0 ? faces : 1u << random_below(random, 2) * FACE_LOG;
}

static unsigned draw_faults(uint64_t *random)
{
	unsigned faults = 0;

	for (unsigned i = 0; i < N_FAULTS; i++)
		faults |= (random_below(random, 10) < fault_chances[i]) << i;
	return faults;
}

/* Maps are of blobs; what is served is a volume. */
static unsigned with_what_they_need(unsigned faces)
{
	if ((faces & 1u << FACE_BLOB) == 0)
		faces &= ~(1u << FACE_MAP);
	if ((faces & 1u << FACE_VOLUME) == 0)
		faces &= ~(1u << FACE_NBD);
	return faces;
}

/* What goes wrong at the media is not in each life, and what damages them in the last one alone, since no model knows what there is
 * after that. */
static unsigned life_faults(unsigned faults, bool is_last, uint64_t *random)
{
	unsigned errors = 0;

	for (unsigned i = FAULT_EIO_READ; i < FAULT_ROT; i++)
		errors |= 1u << i;
	if (random_below(random, 3) != 0)
		faults &= ~errors;
	if (!is_last)
		faults &= ~FAULTS_DAMAGE;
	return faults;
}

static enum life_end draw_end(unsigned faults, uint64_t *random)
{
	uint64_t r = random_below(random, 10);

	if (r == 0)
		return END_CLOSE;
	if ((faults & 1u << FAULT_DEATH) != 0 && r < 4)
		return END_DEATH;
	if ((faults & 1u << FAULT_CUT) == 0)
		return END_CLOSE;
	return r < 9 ? END_CUT : END_CUT_IDLE;
}

static struct plan_life draw_life(unsigned faults, bool is_last, uint64_t *random)
{
	struct plan_life life = {.faults = life_faults(faults, is_last, random)};

	life.end = draw_end(life.faults, random);
	life.cut_class = (unsigned)random_below(random, 3);
	life.cut_after = random_below(random, random_below(random, 3) == 0 ? 20 : 400);
	life.cut_choice = random_below(random, 4) == 0 ? random_below(random, 2) : 2 + random_below(random, 1u << 30);
	life.rate = 1u << (25 + random_below(random, 4));
	life.random = random_next(random);
	return life;
}

/* As it was drawn, or closed, where what would have ended it is left out: nothing is drawn here, so all else stays. */
static enum life_end end_without(enum life_end end, unsigned faults)
{
	if (end == END_DEATH)
		return (faults & 1u << FAULT_DEATH) != 0 ? END_CLOSE : end;
	return (faults & 1u << FAULT_CUT) != 0 ? END_CLOSE : end;
}

/* What a process that died has left under way is found by the next one, and is promised then: often the power goes at once, while nothing
 * has written there again. */
static bool ends_at_once(const struct plan *p, unsigned life)
{
	const struct plan_life *l = &p->lives[life];

	return life > 0 && l[-1].end == END_DEATH && (l->end == END_CUT || l->end == END_CUT_IDLE) && l->random % 4 != 0;
}

/* Draws as many numbers whatever is left out. */
static void draw_ops(struct plan *p, unsigned life, const struct plan_less *less, uint64_t *random, uint16_t *number)
{
	for (unsigned face = 0; face < N_FACES; face++) {
		unsigned n = (unsigned)random_below(random, amounts[face].most_ops + 1);
		for (unsigned i = 0; i < n; i++) {
			uint8_t worker = (uint8_t)random_below(random, amounts[face].n_workers);
			bool is_left_out = (p->faces & 1u << face) == 0 || (less->lives & 1u << life) != 0 || ends_at_once(p, life);
			if (*number == PLAN_OPS)
				return;
			if (!is_left_out && !less->ops[*number])
				p->ops[p->n_ops++] = (struct plan_op){*number, (uint8_t)life, (uint8_t)face, worker};
			(*number)++;
		}
	}
}

void plan_make(struct plan *ret, uint64_t seed, const struct plan_less *less)
{
	uint64_t random = seed;
	uint16_t number = 0;

	memset(ret, 0, sizeof(*ret));
	ret->seed = seed;
	ret->image = (unsigned)random_below(&random, N_IMAGES);
	ret->tear_4k = random_below(&random, 5) == 0;
	ret->ordered = random_below(&random, 7) == 0;
	ret->faces = draw_faces(&random) & ~less->faces;
	ret->faces = with_what_they_need(ret->faces);
	unsigned faults = draw_faults(&random);
	ret->n_lives = 2 + (unsigned)random_below(&random, PLAN_LIVES - 1);
	for (unsigned i = 0; i < ret->n_lives; i++) {
		ret->lives[i] = draw_life(faults, i + 1 == ret->n_lives, &random);
		ret->lives[i].faults &= ~less->faults;
		ret->lives[i].end = end_without(ret->lives[i].end, less->faults);
		if ((less->lives & 1u << i) != 0)
			ret->lives[i] = (struct plan_life){.end = END_CLOSE};
		if (ends_at_once(ret, i))
			ret->lives[i].end = END_CUT_IDLE;
		draw_ops(ret, i, less, &random, &number);
	}
}
