/* replay_report.c - the results as tables and as JSON. */
#include "replay.h"

#include <inttypes.h>

static void table_map(FILE *out, const struct result *r)
{
	fprintf(out, "\nthe ids modulo %" PRIu64 " through a real map\n", r->n_file_pages);
	fprintf(out, "%12s %9s %9s %9s %9s   simulated with as many frames:", "budget, MiB", "frames", "want",
	        "raw", "raw costs");
	for (unsigned s = 0; s < N_SIMS; s++)
		fprintf(out, " %8s", sim_names[s]);
	fputc('\n', out);
	for (size_t i = 0; i < r->n_maps; i++) {
		const struct map_run *m = &r->maps[i];
		fprintf(out, "%12.1f %9" PRIu32 " %9.4f %9.4f %+9.4f %32s", (double)m->budget_bytes / (1 << 20),
		        m->n_want_frames, m->want_miss_ratio, m->raw_miss_ratio,
		        m->raw_miss_ratio - m->want_miss_ratio, "");
		for (unsigned s = 0; s < N_SIMS; s++)
			fprintf(out, " %8.4f", m->sim_miss_ratios[s]);
		fputc('\n', out);
	}
}

void report_table(FILE *out, const struct result *results, size_t n)
{
	for (const struct result *r = results; r < results + n; r++) {
		fprintf(out, "%s%s: %" PRIu64 " accesses to %" PRIu32 " pages; miss ratios\n%12s", r > results ? "\n" : "",
		        r->name, r->n_accesses, r->n_pages, "frames");
		for (unsigned s = 0; s < N_SIMS; s++)
			fprintf(out, " %9s", sim_names[s]);
		fputc('\n', out);
		for (const struct point *p = r->points; p < r->points + r->n_points; p++) {
			if (!p->is_asked)
				continue;
			fprintf(out, "%12" PRIu32, p->n_frames);
			for (unsigned s = 0; s < N_SIMS; s++)
				fprintf(out, " %9.4f", p->miss_ratios[s]);
			fputc('\n', out);
		}
		if (r->n_maps > 0)
			table_map(out, r);
	}
}

static void json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ')
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void json_ratios(FILE *out, const double *miss_ratios)
{
	for (unsigned s = 0; s < N_SIMS; s++)
		fprintf(out, "%s\"%s\": %.8f", s == 0 ? "" : ", ", sim_names[s], miss_ratios[s]);
}

static void json_maps(FILE *out, const struct result *r)
{
	fprintf(out, ",\n  \"file_pages\": %" PRIu64 ", \"maps\": [", r->n_file_pages);
	for (size_t i = 0; i < r->n_maps; i++) {
		const struct map_run *m = &r->maps[i];
		fprintf(out, "%s\n   {\"budget_bytes\": %" PRIu64 ", \"want_frames\": %" PRIu32 ", \"raw_frames\": %" PRIu32
		        ", \"want\": %.8f, \"raw\": %.8f, \"simulated\": {",
		        i == 0 ? "" : ",", m->budget_bytes, m->n_want_frames, m->n_raw_frames, m->want_miss_ratio,
		        m->raw_miss_ratio);
		json_ratios(out, m->sim_miss_ratios);
		fputs("}}", out);
	}
	fputs("]", out);
}

void report_json(FILE *out, const struct result *results, size_t n)
{
	fputs("{\"traces\": [", out);
	for (const struct result *r = results; r < results + n; r++) {
		const char *between = "";
		fprintf(out, "%s\n {\"trace\": ", r > results ? "," : "");
		json_string(out, r->name);
		fprintf(out, ", \"accesses\": %" PRIu64 ", \"pages\": %" PRIu32 ", \"sizes\": [", r->n_accesses, r->n_pages);
		for (const struct point *p = r->points; p < r->points + r->n_points; p++) {
			if (!p->is_asked)
				continue;
			fprintf(out, "%s\n  {\"frames\": %" PRIu32 ", ", between, p->n_frames);
			json_ratios(out, p->miss_ratios);
			fputc('}', out);
			between = ",";
		}
		fputs("]", out);
		if (r->n_maps > 0)
			json_maps(out, r);
		fputc('}', out);
	}
	fputs("\n]}\n", out);
}
