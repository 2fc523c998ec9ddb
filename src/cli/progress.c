/* progress.c - a bar on a terminal. */
#include "progress.h"

#include <time.h>
#include <unistd.h>

#define BAR_CELLS 30
#define REDRAW_NS 100000000u

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void progress_begin(struct progress *p, FILE *out)
{
	p->out = out;
	p->shown = isatty(fileno(out)) == 1;
	p->drawn_ns = 0;
	p->what = "";
}

void progress_step(struct progress *p, const char *what)
{
	p->what = what;
	p->drawn_ns = 0;
}

void progress_update(struct progress *p, double done)
{
	if (!p->shown)
		return;
	uint64_t now = now_ns();
	if (now - p->drawn_ns < REDRAW_NS)
		return;
	p->drawn_ns = now;

	char bar[BAR_CELLS + 1];
	done = done < 0 ? 0 : done > 1 ? 1 : done;
	for (int i = 0; i < BAR_CELLS; i++)
		bar[i] = i < (int)(done * BAR_CELLS) ? '#' : '.';
	bar[BAR_CELLS] = '\0';
	fprintf(p->out, "\r\033[K[%s] %3.0f %%  %s", bar, done * 100, p->what);
	fflush(p->out);
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", p->out);
}
