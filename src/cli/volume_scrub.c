/* volume_scrub.c - `quire volume scrub`: what of a volume can't be read, and that nothing else is so. */
#include "json.h"
#include "progress.h"
#include "volume_verbs.h"

#include <errno.h>
#include <string.h>

struct scrub {
	struct session *s;
	struct progress progress;
	bool json;
	struct json j;
};

static void damaged(void *arg, uint64_t offset, uint64_t len_bytes, int error)
{
	struct scrub *scrub = arg;
	const char *why = error == -EBADMSG ? "a checksum is wrong" : strerror(-error);

	if (!scrub->json) {
		fprintf(scrub->s->out, "%llu\t%llu\t%s\n", (unsigned long long)offset, (unsigned long long)len_bytes, why);
		return;
	}
	json_open(&scrub->j, NULL, '{');
	json_uint(&scrub->j, "offset", offset);
	json_uint(&scrub->j, "bytes", len_bytes);
	json_string(&scrub->j, "error", why);
	json_close(&scrub->j, '}');
}

static int on_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	struct scrub *scrub = arg;

	progress_update(&scrub->progress, all_bytes > 0 ? (double)done_bytes / (double)all_bytes : 1);
	return atomic_load(&scrub->s->canceled) ? -ECANCELED : 0;
}

int volume_scrub(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct scrub scrub = {.s = s, .json = args->json};
	const struct quire_volume_scrub how = {.size = sizeof(how), .bytes_per_second = args->rate_bytes, .damaged = damaged,
	                                       .progress = on_progress, .arg = &scrub};
	struct quire_volume *volume;
	int64_t n = quire_volume_open(group, args->name, &volume);

	if (n < 0)
		return volume_fail(s, args->name, (int)n);
	json_init(&scrub.j, s->out);
	if (args->json)
		json_open(&scrub.j, NULL, '[');
	progress_begin(&scrub.progress, s->err);
	progress_step(&scrub.progress, "scrubbing");
	n = quire_volume_scrub(volume, &how);
	progress_end(&scrub.progress);
	quire_volume_close(volume);
	if (args->json)
		json_close(&scrub.j, ']');
	if (n < 0)
		return volume_fail(s, args->name, (int)n);
	return n > 0 ? session_fail(s, args->name, "%llu bytes are damaged", (unsigned long long)n) : CLI_DONE;
}
