/* tmem_facts.c - the counters of pools: what was put, what each way of saving took off, what the rest is made of. */
#include "tmem_facts.h"

#include "cli.h"

#include <inttypes.h>

/* In bytes; the first adds up from what follows it. */
struct fact {
	const char *key, *text;
	uint64_t bytes;
};

#define N_SAVINGS 8
#define N_HELD 6

static void savings_of(const struct quire_tmem_stat *s, struct fact f[N_SAVINGS])
{
	f[0] = (struct fact){"page_bytes", "put", s->page_bytes};
	f[1] = (struct fact){"same_saved_bytes", "saved: pages of one word", s->same_saved_bytes};
	f[2] = (struct fact){"dedup_saved_bytes", "saved: duplicates", s->dedup_saved_bytes};
	f[3] = (struct fact){"compress_saved_bytes", "saved: compression", s->compress_saved_bytes};
	f[4] = (struct fact){"recompress_saved_bytes", "saved: recompression", s->recompress_saved_bytes};
	f[5] = (struct fact){"spilled_bytes", "spilled to a store", s->spilled_bytes};
	f[6] = (struct fact){"remote_bytes", "on other machines", s->remote_bytes};
	f[7] = (struct fact){"content_bytes", "contents that are left", s->content_bytes};
}

static void held_of(const struct quire_tmem_stat *s, struct fact f[N_HELD])
{
	f[0] = (struct fact){"held_bytes", "held", s->held_bytes};
	f[1] = (struct fact){"content_bytes", "contents", s->content_bytes};
	f[2] = (struct fact){"head_bytes", "their heads", s->head_bytes};
	f[3] = (struct fact){"rounding_bytes", "rounding of slots", s->rounding_bytes};
	f[4] = (struct fact){"hole_bytes", "holes between slots", s->hole_bytes};
	f[5] = (struct fact){"index_bytes", "index", s->index_bytes};
}

void tmem_facts_json(struct json *j, const struct quire_tmem_stat *s)
{
	struct fact savings[N_SAVINGS], held[N_HELD];

	savings_of(s, savings);
	held_of(s, held);
	json_uint(j, "pages", s->n_pages);
	json_uint(j, "pages_same", s->n_same);
	json_uint(j, "pages_shared", s->n_shared);
	json_uint(j, "contents_raw", s->n_raw);
	for (unsigned i = 0; i < N_SAVINGS; i++)
		json_uint(j, savings[i].key, savings[i].bytes);
	for (unsigned i = 0; i < N_HELD; i++)
		if (i != 1) /* it stands among the savings */
			json_uint(j, held[i].key, held[i].bytes);
	json_uint(j, "budget_bytes", s->budget_bytes);
	json_uint(j, "puts", s->n_puts);
	json_uint(j, "puts_refused", s->n_put_refused);
	json_uint(j, "gets", s->n_gets);
	json_uint(j, "get_hits", s->n_get_hits);
	json_uint(j, "flushed", s->n_flushed);
	json_uint(j, "evicted", s->n_evicted);
	json_uint(j, "damaged", s->n_damaged);
	json_uint(j, "slots_moved", s->n_moved);
}

static void print_sum(FILE *out, const struct fact *f, unsigned n)
{
	char text[CLI_BYTES_TEXT];

	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s%-28s %12s  %5.1f %%\n", i == 0 ? "" : "  ", f[i].text, cli_format_bytes(f[i].bytes, text),
		        f[0].bytes > 0 ? 100 * (double)f[i].bytes / (double)f[0].bytes : 0);
}

void tmem_facts_text(FILE *out, const struct quire_tmem_stat *s)
{
	struct fact savings[N_SAVINGS], held[N_HELD];

	savings_of(s, savings);
	held_of(s, held);
	fprintf(out, "%" PRIu64 " pages: %" PRIu64 " of one word, %" PRIu64 " shared; %" PRIu64 " contents kept as they are\n",
	        s->n_pages, s->n_same, s->n_shared, s->n_raw);
	print_sum(out, savings, N_SAVINGS);
	print_sum(out, held, N_HELD);
	fprintf(out, "puts %" PRIu64 ", refused %" PRIu64 "; gets %" PRIu64 ", found %" PRIu64 "; flushed %" PRIu64 ", evicted %" PRIu64
	        ", damaged %" PRIu64 "\n",
	        s->n_puts, s->n_put_refused, s->n_gets, s->n_get_hits, s->n_flushed, s->n_evicted, s->n_damaged);
}
