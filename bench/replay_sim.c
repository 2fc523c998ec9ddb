/* replay_sim.c - the policies by name. */
#include "replay_sim.h"

const char *const sim_names[N_SIMS] = { "quire", "s3-fifo", "lru", "fifo", "min" };

int sim_run(enum sim sim, const struct trace *t, uint32_t n_frames, uint64_t *ret_misses)
{
	static int (*const runs[N_SIMS])(const struct trace *, uint32_t, uint64_t *) = {
		sim_quire, sim_s3fifo, sim_lru, sim_fifo, sim_min,
	};
	return runs[sim](t, n_frames, ret_misses);
}
