/* replay_read.h - traces from files: lines of text, or libCacheSim's oracleGeneral records. */
#ifndef BENCH_REPLAY_READ_H
#define BENCH_REPLAY_READ_H

#include "replay_trace.h"

enum trace_format {
	TRACE_BY_NAME = 0, /* oracleGeneral if the name says so; else text, if it is text */
	TRACE_CSV,
	TRACE_ORACLE,
};

struct trace_options {
	enum trace_format format;
	const char *column; /* of text: number from 1, or name in the header; NULL: see --help */
};

#define TRACE_WHY_BYTES 160

/* 0, or a negative errno and in why, TRACE_WHY_BYTES long, the reason: -EINVAL for what is
 * wrong with the content, else what the system said. */
int trace_read(const char *path, const struct trace_options *opts, struct trace *ret_trace, char *why);

#endif
