/* progress.h - one line on stderr that shows how far a verb is; silent where that is no terminal.
 *
 * Not thread-safe. Redrawn ten times a second at most, so that it may be called from a hot loop.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
	FILE *out;  /* borrowed */
	bool shown; /* it is a terminal */
	uint64_t drawn_ns;
	const char *what; /* borrowed: until the next progress_step */
};

void progress_begin(struct progress *p, FILE *out);

/* Names what is done now; drawn with the next update. */
void progress_step(struct progress *p, const char *what);

/* done: 0 to 1. */
void progress_update(struct progress *p, double done);

/* Takes the line away, so that the report stands alone. */
void progress_end(struct progress *p);

#endif
