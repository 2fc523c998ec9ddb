/* replay_sim.h - a trace through a cache of n_frames pages under one policy or another. */
#ifndef BENCH_REPLAY_SIM_H
#define BENCH_REPLAY_SIM_H

#include "replay_trace.h"

enum sim {
	SIM_QUIRE,  /* the code that the library's caches run */
	SIM_S3FIFO, /* as its authors run it */
	SIM_LRU,
	SIM_FIFO,
	SIM_MIN,    /* Belady's limit: no cache that takes in each page it misses does better */
	N_SIMS,
};

extern const char *const sim_names[N_SIMS];

/* Counts misses. n_frames is at least 1. Time in proportion to the trace, memory to its
 * pages (MIN: 5 bytes an access). -ENOMEM. */
int sim_run(enum sim sim, const struct trace *t, uint32_t n_frames, uint64_t *ret_misses);

int sim_quire(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses);
int sim_s3fifo(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses);
int sim_lru(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses);
int sim_fifo(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses);
int sim_min(const struct trace *t, uint32_t n_frames, uint64_t *ret_misses);

#endif
