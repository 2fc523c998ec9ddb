/* split.c - how much of the memory is for compressed copies.
 *
 * Pages that leave the arena are remembered by a ghost, and a page that comes again by its rank: how many that left after it are
 * still away. Had the arena been larger by as many pages, it would not have left. Copies that reach to a rank serve the fills
 * below it. So from the fills by rank follows what any division of the memory would have cost:
 *
 *   fills │▇▇▆▆▅▅▅▄▄▄▄▃▃▃▂▂▂▁▁            the arena d pages smaller: as many fills more as there are on d pages at its end,
 *         └┬────────┬────────▶ rank       copies n more, which reach n - d further: fills there take a copy's time, not a
 *          arena    copies                read's, and no compressing of what left in vain
 *
 * How far copies reach is not how many there are: they leave by a policy of their own, and pages that are resident have some. So it
 * is taken from what is seen, the rank below which lie as many fills as came from copies, and goes with their number. How
 * many fit into a byte is what they take, and of those that were tried what part could be compressed.
 *
 * N_SIZES divisions are compared, and the part for copies goes a quarter of the way to the best, if that would have cost less by a
 * 32nd: so it keeps still where it is right, or as good. It takes no step before the last one has been used. A small part may cost
 * more than none, where every page is compressed and few of them come back from there, and a large one less: that is why all are
 * looked at, and not only the next one. Where copies save nothing (data don't get smaller, a read takes no longer than a
 * copy, or all that is asked for fits) the best is none: then a 256th is left, by which it is found out when that has changed.
 *
 * Counts are halved at each look, so they follow what changes.
 */
#include "split.h"

#include <string.h>

#define LEAST_SHARE 256u
#define N_SIZES 29u        /* 32nds of the limit, from none to 7/8 */
#define FEW 16u            /* fills that may be chance */
#define USUAL_RATIO 2u     /* pages to a page of copies, before it is known, */
#define ENOUGH_COPIES 64u  /* as it is from so many */
#define MEAN_OF 1024u
#define MOST_NS 200000u    /* a thread that was put aside meanwhile took all of its absence */

void split_init(struct split *s, uint64_t limit_bytes)
{
	memset(s, 0, sizeof(*s));
	s->target_bytes = split_least_bytes(limit_bytes);
}

uint64_t split_least_bytes(uint64_t limit_bytes)
{
	return limit_bytes / LEAST_SHARE;
}

void split_fill(struct split *s, bool from_copy, uint64_t rank, uint64_t n)
{
	s->n_fills++;
	if (rank < n * SPLIT_REACH)
		s->fills[from_copy][rank * SPLIT_BINS / (n * SPLIT_REACH)]++;
	else
		s->n_unknown++;
}

void split_spent(struct split *s, enum split_cost cost, uint64_t ns)
{
	if (s->n_spent[cost] == MEAN_OF) {
		s->spent_ns[cost] /= 2;
		s->n_spent[cost] /= 2;
	}
	s->spent_ns[cost] += ns < MOST_NS ? ns : MOST_NS;
	s->n_spent[cost]++;
}

uint64_t split_mean_ns(const struct split *s, enum split_cost cost)
{
	static const uint64_t guesses_ns[N_SPLIT_COSTS] = {[SPLIT_READ] = 20000, [SPLIT_COPY] = 2500, [SPLIT_COMPRESS] = 4000};

	return s->n_spent[cost] == 0 ? guesses_ns[cost] : s->spent_ns[cost] / s->n_spent[cost];
}

static double fills_at(const struct split *s, unsigned bin)
{
	return (double)s->fills[false][bin] + (double)s->fills[true][bin];
}

/* Fills of ranks below that, in bins; what is negative lies in the arena, and is taken to be as at its end. */
static double fills_below(const struct split *s, double rank)
{
	double sum = 0;

	if (rank < 0)
		return rank * fills_at(s, 0);
	for (unsigned bin = 0; bin < SPLIT_BINS && rank > 0; bin++, rank -= 1)
		sum += fills_at(s, bin) * (rank < 1 ? rank : 1);
	return sum;
}

/* The rank, in bins, to which copies reach now; where all fills come from them, that of the last: nobody knows what lies behind it. */
static double reach(const struct split *s)
{
	double left = 0;
	unsigned bin = 0, end = SPLIT_BINS;

	while (end > 0 && fills_at(s, end - 1) <= 0)
		end--;
	for (unsigned i = 0; i < end; i++)
		left += (double)s->fills[true][i];
	while (bin < end && fills_at(s, bin) <= left)
		left -= fills_at(s, bin++);
	return bin + (bin < end && fills_at(s, bin) > 0 ? left / fills_at(s, bin) : 0);
}

struct model {
	double copies_a_byte; /* in bins: how far a byte more of them reaches */
	double bytes_a_bin;   /* of the arena */
	double all, read_ns, copy_ns, compress_ns;
};

static struct model model_of(const struct split *s, const struct split_facts *f)
{
	double kept = s->n_tried == 0 ? 1 : (double)s->n_kept / s->n_tried, ratio = USUAL_RATIO, part = 1;
	struct model m = {
		.bytes_a_bin = (double)f->limit_bytes * SPLIT_REACH / SPLIT_BINS,
		.all = fills_below(s, SPLIT_BINS),
		.read_ns = (double)split_mean_ns(s, SPLIT_READ),
		.copy_ns = (double)split_mean_ns(s, SPLIT_COPY),
		.compress_ns = (double)split_mean_ns(s, SPLIT_COMPRESS),
	};

	if (f->n_copies >= ENOUGH_COPIES && f->copies_bytes > 0) {
		double bins = (double)f->n_copies * (double)f->page_bytes / m.bytes_a_bin, seen = reach(s);

		ratio = (double)f->n_copies * (double)f->page_bytes / (double)f->copies_bytes;
		/* Where there are hardly any, what is seen is chance. */
		part = bins > 1 && seen < bins ? seen / bins : 1;
	}
	m.copies_a_byte = kept * ratio * part / m.bytes_a_bin;
	return m;
}

/* What the fills of known rank would have taken, with so many bytes of copies. */
static double cost_of(const struct split *s, const struct model *m, double bytes)
{
	double less = (bytes - (double)s->target_bytes) / m->bytes_a_bin; /* of the arena, in bins */
	double end = -less, far = m->copies_a_byte * bytes - less;
	double came = m->all - fills_below(s, end), from_copies = fills_below(s, far) - fills_below(s, end);

	if (bytes <= 0 || from_copies < 0)
		from_copies = 0;
	return from_copies * m->copy_ns + (came - from_copies) * (m->read_ns + (bytes > 0 ? m->compress_ns : 0));
}

static uint64_t best_bytes(const struct split *s, const struct split_facts *f)
{
	struct model m = model_of(s, f);
	double now = cost_of(s, &m, (double)s->target_bytes), best = now;
	uint64_t bytes = s->target_bytes;

	for (unsigned i = 0; i < N_SIZES; i++) {
		double cost = cost_of(s, &m, (double)f->limit_bytes / 32 * i);

		if (cost < best) {
			best = cost;
			bytes = f->limit_bytes / 32 * i;
		}
	}
	return best < now - now / 32 ? bytes : s->target_bytes;
}

static void halve(struct split *s)
{
	for (unsigned i = 0; i < SPLIT_BINS; i++) {
		s->fills[false][i] /= 2;
		s->fills[true][i] /= 2;
	}
	s->n_unknown /= 2;
	s->n_tried /= 2;
	s->n_kept /= 2;
	s->n_fills = 0;
}

void split_look(struct split *s, const struct split_facts *f)
{
	uint64_t least = split_least_bytes(f->limit_bytes), slack = f->limit_bytes / 64, now = s->target_bytes;

	if (fills_below(s, SPLIT_BINS) >= FEW) {
		uint64_t best = best_bytes(s, f), step = best > now ? (best - now) / 4 : (now - best) / 4;

		step = step < slack ? slack : step;
		if (best > now && f->copies_bytes + slack >= now)
			s->target_bytes = best - now < step ? best : now + step;
		else if (best < now && f->copies_bytes <= now + slack)
			s->target_bytes = now - best < step ? best : now - step;
	}
	if (s->target_bytes < least)
		s->target_bytes = least;
	if (s->target_bytes > f->limit_bytes - f->limit_bytes / 8)
		s->target_bytes = f->limit_bytes - f->limit_bytes / 8;
	halve(s);
}
