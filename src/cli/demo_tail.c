/* demo_tail.c - the tail of a measurement, and whether two of them differ.
 *
 * A contest of seconds on a machine in use says little of a thousandth of the requests: a pause of
 * the machine makes a tail of any server's. So a tail is the median over the slices of the time;
 * two are apart only if three quarters of the slices of one lie below three quarters of the
 * other's; and nothing is said where other programs had much of a CPU while one was measured.
 */
#include "demo_client.h"

#include <math.h>

#define SLICES_TO_COMPARE 4 /* fewer have no quarters */
#define OTHERS_MAX 0.1      /* of one CPU, what other programs may have */

uint64_t demo_tail_ns(const struct demo_measurement *m, double share)
{
	unsigned rank = (unsigned)ceil(share * m->n_slices);

	if (m->n_slices == 0)
		return 0;
	return m->slice_p999_ns[rank == 0 ? 0 : rank - 1];
}

static bool stands_out(const struct demo_measurement *shorter, const struct demo_measurement *longer)
{
	return shorter->n_slices >= SLICES_TO_COMPARE && longer->n_slices >= SLICES_TO_COMPARE &&
	       demo_tail_ns(shorter, 0.75) < demo_tail_ns(longer, 0.25);
}

static bool was_disturbed(const struct demo_measurement *m)
{
	return m->other_seconds > OTHERS_MAX * m->seconds;
}

enum demo_comparison demo_tail_compare(const struct demo_measurement *ours, const struct demo_measurement *theirs)
{
	if (was_disturbed(ours) || was_disturbed(theirs))
		return DEMO_DISTURBED;
	if (stands_out(ours, theirs))
		return DEMO_SHORTER;
	return stands_out(theirs, ours) ? DEMO_LONGER : DEMO_ALIKE;
}
