/* progress.c - a bar on a terminal. */
#include "progress.h"
#include "cli.h"

#include <unistd.h>

#define BAR_CELLS 30
#define REDRAW_NS 100000000u

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
	uint64_t now = cli_now_ns();
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
