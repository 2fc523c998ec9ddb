/* replay_svg.c - miss-ratio curves: misses over the size of the cache, its axis logarithmic. */
#include "replay.h"

#include <inttypes.h>
#include <math.h>

#define WIDTH 720.0
#define HEIGHT 400.0
#define LEFT 64.0
#define RIGHT 110.0
#define TOP 44.0
#define BOTTOM 52.0

/* Told apart by the colour-blind too (Okabe and Ito), and by their dashes. */
static const struct {
	const char *colour, *dashes;
} styles[N_SIMS] = {
	{ "#d55e00", "none" }, { "#009e73", "6 3" }, { "#0072b2", "none" }, { "#cc79a7", "none" }, { "#555555", "2 3" },
};

struct axes {
	double first, last; /* logarithms of the least and the greatest size */
	double top;         /* the greatest ratio */
};

static double x_of(const struct axes *a, double n_frames)
{
	double width = a->last > a->first ? a->last - a->first : 1;
	return LEFT + (log10(n_frames) - a->first) / width * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct axes *a, double ratio)
{
	return HEIGHT - BOTTOM - ratio / a->top * (HEIGHT - TOP - BOTTOM);
}

static struct axes axes_of(const struct result *r)
{
	struct axes a = { log10(r->points[0].n_frames), log10(r->points[r->n_points - 1].n_frames), 0.1 };
	for (size_t i = 0; i < r->n_points; i++)
		for (unsigned s = 0; s < N_SIMS; s++)
			a.top = fmax(a.top, ceil(r->points[i].miss_ratios[s] * 10) / 10);
	return a;
}

static void text(FILE *out, const char *s)
{
	for (; *s != '\0'; s++) {
		switch (*s) {
		case '<':
			fputs("&lt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		default:
			fputc((unsigned char)*s < ' ' ? '?' : *s, out);
		}
	}
}

static void grid(FILE *out, const struct axes *a)
{
	for (double ratio = 0; ratio < a->top + 0.01; ratio += 0.1) {
		double y = y_of(a, ratio);
		fprintf(out, "<path d='M%.1f %.1fH%.1f' stroke='#ddd'/><text x='%.1f' y='%.1f' text-anchor='end'>%.1f</text>\n",
		        LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4, ratio);
	}
	for (double n = pow(10, ceil(a->first)); log10(n) <= a->last; n *= 10) {
		double x = x_of(a, n);
		fprintf(out, "<path d='M%.1f %.1fV%.1f' stroke='#ddd'/><text x='%.1f' y='%.1f' text-anchor='middle'>%.0f</text>\n",
		        x, TOP, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18, n);
	}
	fprintf(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>pages in the cache</text>\n",
	        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
	fprintf(out, "<text transform='translate(18 %.1f) rotate(-90)' text-anchor='middle'>miss ratio</text>\n",
	        (TOP + HEIGHT - BOTTOM) / 2);
}

static void curve(FILE *out, const struct axes *a, const struct result *r, unsigned s)
{
	fprintf(out, "<polyline fill='none' stroke='%s' stroke-width='2' stroke-dasharray='%s' points='",
	        styles[s].colour, styles[s].dashes);
	for (size_t i = 0; i < r->n_points; i++)
		fprintf(out, "%.1f,%.1f ", x_of(a, r->points[i].n_frames), y_of(a, r->points[i].miss_ratios[s]));
	fputs("'/>\n", out);
	double y = TOP + 10 + 20 * s, x = WIDTH - RIGHT + 12;
	fprintf(out, "<path d='M%.1f %.1fh24' stroke='%s' stroke-width='2' stroke-dasharray='%s'/>"
	        "<text x='%.1f' y='%.1f'>%s</text>\n",
	        x, y, styles[s].colour, styles[s].dashes, x + 30, y + 4, sim_names[s]);
}

static void chart(FILE *out, const struct result *r, size_t index)
{
	struct axes a = axes_of(r);
	fprintf(out, "<g transform='translate(0 %.0f)'>\n<text x='%.1f' y='26' font-size='14'>", HEIGHT * (double)index,
	        LEFT);
	text(out, r->name);
	fprintf(out, ": %" PRIu64 " accesses to %" PRIu32 " pages</text>\n", r->n_accesses, r->n_pages);
	grid(out, &a);
	for (unsigned s = N_SIMS; s-- > 0;)
		curve(out, &a, r, s);
	fputs("</g>\n", out);
}

void report_svg(FILE *out, const struct result *results, size_t n)
{
	fprintf(out, "<svg xmlns='http://www.w3.org/2000/svg' width='%.0f' height='%.0f' font-family='sans-serif' "
	        "font-size='12' fill='#222'>\n<rect width='100%%' height='100%%' fill='#fff'/>\n",
	        WIDTH, HEIGHT * (double)n);
	for (size_t i = 0; i < n; i++)
		chart(out, &results[i], i);
	fputs("</svg>\n", out);
}
