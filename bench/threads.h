/* threads.h - what the parts of bench-threads share. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "map_miss.h"

/* Measures and prints what sharing costs on this machine; 0, or a negative errno after a line on stderr. */
int threads_costs(void);

#endif
