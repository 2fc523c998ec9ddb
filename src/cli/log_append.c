/* log_append.c - `quire log append`: records from the caller's input, durable in groups.
 *
 * What has been read is taken in at once, and one sync is under way at any time while there is something to make durable:
 * what comes meanwhile is of the next. So a line alone is durable as soon as its own write is, and a million of them are
 * durable in as many writes as the device has time for.
 *
 * Acknowledged, on the output, is what is durable: at the end how many records and the number of the last; with --each the
 * number of each one, in their order, as soon as it is. Whatever ends it early, what was taken in is made durable and
 * acknowledged first; the beginning of a record, of which the rest did not come, is not taken in.
 */
#include "json.h"
#include "log_table.h"
#include "log_verbs.h"
#include "progress.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BYTES (64u << 10) /* what a pipe holds */
#define MAX_PENDING 8192u

struct feed {
	struct session *s;           /* borrowed */
	const struct log_args *args; /* borrowed */
	struct quire_log *log;       /* borrowed */
	int code;                    /* CLI_FAILED: it was said */
	bool ended;                  /* the input has */
	bool broken, mute;           /* nothing more gets durable; can be told */

	char *buf;                   /* owned */
	size_t capacity, begin, end; /* in it is [begin, end), */
	size_t scanned;              /* where no record ends before this */

	struct quire_op op;          /* of the sync under way */
	int durable;                 /* eventfd, owned: it is over */
	bool syncing;
	uint64_t n_syncing, sync_lsn; /* records that are durable then; the last one's number */

	uint64_t n_taken, last_lsn;
	uint64_t n_durable, first_lsn, last_durable;
	uint64_t *pending;           /* owned: numbers of those taken and not durable; NULL unless each is told */

	struct progress progress;
	uint64_t read_bytes, all_bytes; /* all: 0, nobody knows */
};

static void stop(struct feed *f, int rc)
{
	if (f->code == CLI_DONE)
		f->code = log_fail(f->s, f->args->name, "%s", session_why(f->s, rc));
}

/* ---- durable ---- */

static void tell_each(struct feed *f, uint64_t n)
{
	struct json j;

	for (uint64_t i = 0; i < n; i++) {
		if (!f->args->json) {
			fprintf(f->s->out, "%llu\n", (unsigned long long)f->pending[i]);
			continue;
		}
		json_init(&j, f->s->out);
		j.one_line = true;
		json_open(&j, NULL, '{');
		json_uint(&j, "lsn", f->pending[i]);
		json_close(&j, '}');
	}
	memmove(f->pending, f->pending + n, (f->n_taken - f->n_syncing) * sizeof(f->pending[0]));
	if (session_finish_output(f->s) != CLI_DONE) {
		f->code = CLI_FAILED;
		f->mute = true;
		discard_out(f->s);
	}
}

static void start_sync(struct feed *f)
{
	if (f->syncing || f->n_taken == f->n_durable || f->broken)
		return;
	f->n_syncing = f->n_taken;
	f->sync_lsn = f->last_lsn;
	quire_op_init_eventfd(&f->op, f->durable);
	int rc = quire_log_sync(f->log, f->sync_lsn, &f->op);
	f->syncing = rc == 0;
	f->broken = rc < 0;
	if (f->broken)
		stop(f, rc);
}

/* The eventfd was seen to be readable. */
static void end_sync(struct feed *f)
{
	uint64_t one;

	/* Done it is, then; and the look at it comes before one at its result. */
	if (read(f->durable, &one, sizeof(one)) != sizeof(one) || !quire_op_done(&f->op))
		return;
	f->syncing = false;
	f->broken = f->op.result < 0;
	if (f->broken) {
		stop(f, (int)f->op.result);
		return;
	}
	uint64_t n = f->n_syncing - f->n_durable;
	f->n_durable = f->n_syncing;
	f->last_durable = f->sync_lsn;
	if (f->pending != NULL && !f->mute)
		tell_each(f, n);
}

/* All that was taken in is durable, or it is told why not. */
static void settle(struct feed *f)
{
	struct pollfd p = {.fd = f->durable, .events = POLLIN};

	for (;;) {
		start_sync(f);
		if (!f->syncing)
			return;
		if (poll(&p, 1, -1) > 0)
			end_sync(f);
	}
}

/* ---- records ---- */

static void too_long(struct feed *f)
{
	f->code = log_fail(f->s, f->args->name, "record %llu of the input: longer than %zu bytes, the most there can be",
	                   (unsigned long long)f->n_taken + 1, quire_log_max_record(f->log));
}

static int take_keyed(struct feed *f, const struct iovec *v)
{
	const char *tab = memchr(v->iov_base, '\t', v->iov_len);
	size_t key_bytes = tab == NULL ? 0 : (size_t)(tab - (const char *)v->iov_base);

	if (key_bytes == 0 || key_bytes > QUIRE_LOG_KEY_MAX) {
		f->code = log_fail(f->s, f->args->name, "record %llu of the input: no key of 1 to %d bytes before a tab",
		                   (unsigned long long)f->n_taken + 1, QUIRE_LOG_KEY_MAX);
		return 0;
	}
	const struct iovec value = {(char *)v->iov_base + key_bytes + 1, v->iov_len - key_bytes - 1};
	return quire_log_append_key_nowait(f->log, v->iov_base, key_bytes, &value, 1, &f->last_lsn);
}

static void take(struct feed *f, char *bytes, size_t len_bytes)
{
	const struct iovec v = {bytes, len_bytes};

	if (f->pending != NULL && f->n_taken - f->n_durable == MAX_PENDING)
		settle(f);
	if (f->code != CLI_DONE)
		return;
	int rc = f->args->keyed ? take_keyed(f, &v) : quire_log_append_nowait(f->log, &v, 1, &f->last_lsn);
	if (f->code != CLI_DONE)
		return;
	if (rc == -EMSGSIZE)
		too_long(f);
	else if (rc < 0)
		f->code = log_fail(f->s, f->args->name, "record %llu of the input: %s", (unsigned long long)f->n_taken + 1,
		                   strerror(-rc));
	if (rc < 0)
		return;
	if (f->pending != NULL)
		f->pending[f->n_taken - f->n_durable] = f->last_lsn;
	if (f->n_taken++ == 0)
		f->first_lsn = f->last_lsn;
}

static void take_records(struct feed *f)
{
	int separator = f->args->null ? '\0' : '\n';

	while (f->code == CLI_DONE && !f->args->whole) {
		char *at = memchr(f->buf + f->scanned, separator, f->end - f->scanned);
		if (at == NULL)
			break;
		take(f, f->buf + f->begin, (size_t)(at - f->buf) - f->begin);
		f->begin = f->scanned = (size_t)(at - f->buf) + 1;
	}
	f->scanned = f->end;
	if (f->ended && f->code == CLI_DONE && (f->end > f->begin || f->args->whole))
		take(f, f->buf + f->begin, f->end - f->begin);
}

/* Room for more of a record that has no end yet. */
static bool make_room(struct feed *f)
{
	size_t len = f->end - f->begin;

	if (len > quire_log_max_record(f->log)) {
		too_long(f);
		return false;
	}
	memmove(f->buf, f->buf + f->begin, len);
	f->begin = 0;
	f->end = f->scanned = len;
	if (f->end < f->capacity)
		return true;
	char *more = realloc(f->buf, f->capacity * 2);
	if (more == NULL) {
		stop(f, -ENOMEM);
		return false;
	}
	f->buf = more;
	f->capacity *= 2;
	return true;
}

static void read_more(struct feed *f)
{
	if (!make_room(f))
		return;
	ssize_t n = read(f->s->in, f->buf + f->end, f->capacity - f->end);
	if (n < 0) {
		if (errno != EINTR && errno != EAGAIN)
			f->code = session_fail(f->s, "standard input", "%s", session_why(f->s, -errno));
		return;
	}
	f->ended = n == 0;
	f->end += (size_t)n;
	f->read_bytes += (uint64_t)n;
	take_records(f);
	if (f->all_bytes > 0)
		progress_update(&f->progress, (double)f->read_bytes / (double)f->all_bytes);
}

/* ---- the whole of it ---- */

static void run(struct feed *f)
{
	while (!f->ended && f->code == CLI_DONE && !atomic_load(&f->s->canceled)) {
		struct pollfd p[2] = {{.fd = f->s->in, .events = POLLIN}, {.fd = f->durable, .events = POLLIN}};

		start_sync(f);
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents != 0)
			end_sync(f);
		if (p[0].revents != 0 && f->code == CLI_DONE)
			read_more(f);
	}
	settle(f);
	if (f->code == CLI_DONE && !f->ended)
		stop(f, -ECANCELED);
}

static void acknowledge(struct feed *f)
{
	struct json j;

	if (f->pending != NULL || (f->n_durable == 0 && f->code != CLI_DONE))
		return;
	if (f->args->json) {
		json_init(&j, f->s->out);
		json_open(&j, NULL, '{');
		json_uint(&j, "records", f->n_durable);
		if (f->n_durable > 0) {
			json_uint(&j, "first_lsn", f->first_lsn);
			json_uint(&j, "last_lsn", f->last_durable);
		}
		json_close(&j, '}');
	} else if (f->n_durable > 0) {
		fprintf(f->s->out, "%llu %s, the last %llu\n", (unsigned long long)f->n_durable,
		        f->n_durable == 1 ? "record" : "records", (unsigned long long)f->last_durable);
	} else {
		fputs("0 records\n", f->s->out);
	}
}

static bool prepare(struct feed *f)
{
	struct stat st;
	off_t at = lseek(f->s->in, 0, SEEK_CUR);

	if (fstat(f->s->in, &st) == 0 && S_ISREG(st.st_mode) && at >= 0 && st.st_size > at)
		f->all_bytes = (uint64_t)(st.st_size - at);
	f->durable = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->capacity = FIRST_BYTES;
	f->buf = malloc(f->capacity);
	if (f->args->each)
		f->pending = calloc(MAX_PENDING, sizeof(f->pending[0]));
	return f->durable >= 0 && f->buf != NULL && (f->pending != NULL || !f->args->each);
}

int log_append(struct session *s, const struct log_args *args)
{
	struct feed f = {.s = s, .args = args, .code = CLI_DONE, .durable = -1};

	if (log_get(s, args->name, true, &f.log) != CLI_DONE)
		return CLI_FAILED;
	progress_begin(&f.progress, s->err);
	progress_step(&f.progress, "appending");
	if (prepare(&f))
		run(&f);
	else
		stop(&f, -errno);
	progress_end(&f.progress);
	acknowledge(&f);
	free(f.pending);
	free(f.buf);
	if (f.durable >= 0)
		close(f.durable);
	int rc = log_put(s, f.log);
	return f.code == CLI_DONE && rc < 0 ? log_fail(s, args->name, "%s", strerror(-rc)) : f.code;
}
