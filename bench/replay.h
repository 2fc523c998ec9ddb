/* replay.h - what was measured, and the ways it is told. */
#ifndef BENCH_REPLAY_H
#define BENCH_REPLAY_H

#include "replay_sim.h"

#include <stdbool.h>
#include <stdio.h>

struct point {
	uint32_t n_frames;
	bool is_asked; /* for the table; the others are for the curve alone */
	double miss_ratios[N_SIMS];
};

/* One size through a real map, twice: hits told by want, and hidden in raw loads. */
struct map_run {
	uint64_t budget_bytes;
	double want_miss_ratio, raw_miss_ratio;
	uint32_t n_want_frames, n_raw_frames; /* resident at once, the mean of the trace's second half */
	double sim_miss_ratios[N_SIMS];       /* with n_want_frames */
};

struct result {
	const char *name;       /* borrowed: an argument */
	uint64_t n_accesses;
	uint32_t n_pages;
	struct point *points;   /* owned; by size */
	size_t n_points;
	uint64_t n_file_pages;  /* of the map */
	struct map_run *maps;   /* owned */
	size_t n_maps;
};

void report_table(FILE *out, const struct result *results, size_t n);
void report_json(FILE *out, const struct result *results, size_t n);

/* A chart for each trace, one below the other. */
void report_svg(FILE *out, const struct result *results, size_t n);

/* The file that a trace's ids are folded into: pages. */
uint64_t map_file_pages(const struct trace *t);

/* Replays a folded trace through a real map of that many pages with a budget of n_frames pages, or
 * the least there is. 0, or a negative errno and in why, TRACE_WHY_BYTES long, the reason. */
int map_replay(const struct trace *folded, uint64_t n_file_pages, uint32_t n_frames, struct map_run *ret, char *why);

#endif
