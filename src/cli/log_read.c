/* log_read.c - `quire log cat` and `quire log follow`: records to the caller's output.
 *
 * cat ends at what is durable when it begins. follow goes on: where the log is open (in a daemon) it waits for the watermark.
 * Where somebody else writes the store, and is no daemon, nobody can tell it when there is more: it opens the store
 * again and again, and rests ten times as long as that took, 0.2 s at least.
 *
 * A reader of the output that goes away ends both, without a word; follow sees it also while there is nothing to write.
 */
#include "log_table.h"
#include "log_text.h"
#include "log_verbs.h"
#include "progress.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REST_MS 200
#define REST_TIMES 10
#define MAX_PROBES 65536u /* of records behind one that is damaged */

/* What may end it, besides CLI_DONE and CLI_FAILED: well, and without a word. */
#define OVER (-1)

struct reading {
	struct session *s;           /* borrowed */
	const struct log_args *args; /* borrowed */
	struct quire_log *log;
	struct quire_log_cursor *cursor;
	uint64_t lsn;                /* the next */
};

/* ---- writing ---- */

/* What is to be made of the output's last error. */
static int output_failed(struct reading *r, int error)
{
	bool quiet = error == EPIPE || (r->args->what == LOG_FOLLOW && atomic_load(&r->s->canceled));

	if (!quiet)
		session_fail(r->s, "standard output", "%s", session_why(r->s, -error));
	discard_out(r->s);
	return quiet ? OVER : CLI_FAILED;
}

static int write_record(struct reading *r, const struct quire_log_record *record)
{
	FILE *out = r->s->out;

	errno = 0;
	if (r->args->json) {
		log_write_json(out, record);
	} else {
		fwrite(record->data, 1, record->len_bytes, out);
		if (!r->args->whole)
			fputc(r->args->null ? '\0' : '\n', out);
	}
	return ferror(out) ? output_failed(r, errno) : CLI_DONE;
}

static int flush(struct reading *r)
{
	return fflush(r->s->out) != 0 ? output_failed(r, errno) : CLI_DONE;
}

/* ---- opening ---- */

static int open_reading(struct reading *r)
{
	bool visible = r->args->visible;
	int code = log_get(r->s, r->args->name, false, &r->log);

	if (code != CLI_DONE)
		return code;
	int rc = quire_log_cursor_open(r->log, visible ? QUIRE_LOG_VISIBLE : QUIRE_LOG_DURABLE, &r->cursor);
	if (rc < 0) {
		(void)log_put(r->s, r->log);
		r->log = NULL;
		return log_fail(r->s, r->args->name, "%s", strerror(-rc));
	}
	return CLI_DONE;
}

static void close_reading(struct reading *r)
{
	quire_log_cursor_close(r->cursor);
	r->cursor = NULL;
	if (r->log != NULL)
		(void)log_put(r->s, r->log);
	r->log = NULL;
}

/* The store, and the log, as they are now. */
static int open_anew(struct reading *r)
{
	struct quire_error err = {0};

	close_reading(r);
	return session_look_again(r->s, &err) < 0 ? session_fail_text(r->s, err.text) : open_reading(r);
}

/* ---- reading ---- */

/* Behind a record that can't be read, in the order of reading, the first that can; that record: none is near. */
static uint64_t look_beyond(struct reading *r, uint64_t lsn)
{
	bool back = r->args->reverse;
	uint64_t first = quire_log_first(r->log), end = quire_log_durable(r->log), at = lsn;
	struct quire_log_record record;

	for (unsigned n = 0; n < MAX_PROBES && !atomic_load(&r->s->canceled) && (back ? at > first : at + 1 < end); n++) {
		at = back ? at - 1 : at + 1;
		if (quire_log_seek(r->cursor, at) == 0 && quire_log_next(r->cursor, &record, NULL) == 1)
			return at;
	}
	return lsn;
}

/* Damage: a record is lost alone, so how to go on is said, too. */
static int damaged(struct reading *r, uint64_t lsn, int rc)
{
	uint64_t beyond = look_beyond(r, lsn);

	if (beyond == lsn)
		return log_fail(r->s, r->args->name, "record %llu: %s", (unsigned long long)lsn, session_why(r->s, rc));
	return log_fail(r->s, r->args->name, "record %llu: %s; %s %llu goes on beyond it", (unsigned long long)lsn, session_why(r->s, rc),
	                r->args->reverse ? "--to" : "--from", (unsigned long long)beyond);
}

static int lost(struct reading *r, uint64_t lsn, int rc)
{
	if ((rc == -EBADMSG || rc == -EUCLEAN) && !r->s->served) {
		/* Somebody else may have trimmed it, and used its space. */
		int code = open_anew(r);
		if (code != CLI_DONE)
			return code;
		rc = lsn < quire_log_first(r->log) ? -ESTALE : rc;
	}
	if (rc == -ESTALE)
		return log_fail(r->s, r->args->name, "record %llu: trimmed; the oldest is %llu", (unsigned long long)lsn,
		                (unsigned long long)quire_log_first(r->log));
	if (rc == -EINVAL)
		return log_fail(r->s, r->args->name, "record %llu: not there yet; the next is %llu", (unsigned long long)lsn,
		                (unsigned long long)quire_log_durable(r->log));
	if (rc == -EBADMSG || rc == -EUCLEAN || rc == -EIO)
		return damaged(r, lsn, rc);
	return log_fail(r->s, r->args->name, "record %llu: %s", (unsigned long long)lsn, session_why(r->s, rc));
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The range that was asked for, of [first, end). follow: from the end, if nothing was. */
/* The newest that is durable with the key. */
static int find_key(struct reading *r, uint64_t *ret_begin, uint64_t *ret_end)
{
	int rc = quire_log_find_key(r->log, QUIRE_LOG_DURABLE, r->args->key, strlen(r->args->key), ret_begin, NULL);

	*ret_end = *ret_begin + 1;
	if (rc == -ENOENT)
		return log_fail(r->s, r->args->name, "no record with that key");
	if (rc == -ENOTSUP)
		return log_fail(r->s, r->args->name, "its records have no keys");
	if (rc == -EINVAL)
		return log_fail(r->s, r->args->name, "a key has 1 to %d bytes", QUIRE_LOG_KEY_MAX);
	return rc < 0 ? log_fail(r->s, r->args->name, "finding the key: %s", session_why(r->s, rc)) : CLI_DONE;
}

static int find_range(struct reading *r, uint64_t end, uint64_t *ret_begin, uint64_t *ret_end)
{
	const struct log_args *args = r->args;
	uint64_t begin = quire_log_first(r->log);
	int rc = 0;

	if (args->has_since) {
		rc = quire_log_seek_time(r->cursor, args->since_ns);
		begin = rc == 0 ? less(quire_log_cursor_lsn(r->cursor), end) : begin;
	} else if (args->has_from) {
		rc = args->from > end ? -EINVAL : quire_log_seek(r->cursor, args->from);
		if (rc < 0)
			return lost(r, args->from, rc);
		begin = args->from;
	} else if (args->what == LOG_FOLLOW && !args->has_last && !args->from_oldest) {
		begin = end;
	}
	if (rc < 0)
		return log_fail(r->s, args->name, "finding the time: %s", session_why(r->s, rc));
	if (args->has_to && args->to < end)
		end = args->to + 1;
	if (begin > end)
		begin = end;
	if (args->has_last && end - begin > args->last)
		begin = end - args->last;
	*ret_begin = begin;
	*ret_end = end;
	return CLI_DONE;
}

/* ---- cat ---- */

static int copy(struct reading *r, uint64_t begin, uint64_t end, struct progress *progress)
{
	bool back = r->args->reverse;
	struct quire_log_record record;
	int code = CLI_DONE, rc = quire_log_seek(r->cursor, back ? end : begin);

	if (rc < 0)
		return lost(r, begin, rc);
	for (uint64_t left = end - begin; left > 0 && code == CLI_DONE; left--) {
		uint64_t lsn = back ? begin + left - 1 : end - left;
		int64_t n = atomic_load(&r->s->canceled) ? -ECANCELED
		            : back                       ? quire_log_prev(r->cursor, &record, NULL)
		                                         : quire_log_next(r->cursor, &record, NULL);
		if (n < 0)
			return lost(r, lsn, (int)n);
		code = write_record(r, &record);
		if (progress != NULL && left % 64 == 0)
			progress_update(progress, 1 - (double)left / (double)(end - begin));
	}
	return code == CLI_DONE ? flush(r) : code;
}

int log_cat(struct session *s, const struct log_args *args)
{
	struct reading r = {.s = s, .args = args};
	struct progress progress;
	uint64_t begin, end;
	int code = open_reading(&r);

	if (code != CLI_DONE)
		return code;
	code = args->key != NULL ? find_key(&r, &begin, &end) : find_range(&r, quire_log_durable(r.log), &begin, &end);
	progress_begin(&progress, s->err);
	progress_step(&progress, "reading");
	if (code == CLI_DONE) /* a bar would stand among records that go to a terminal */
		code = copy(&r, begin, end, isatty(fileno(s->out)) == 1 ? NULL : &progress);
	progress_end(&progress);
	close_reading(&r);
	return code == OVER ? CLI_DONE : code;
}

/* ---- follow ---- */

static int write_what_is_there(struct reading *r)
{
	struct quire_log_record record;
	int64_t n = 0;
	int code = CLI_DONE;

	while (code == CLI_DONE && !atomic_load(&r->s->canceled) &&
	       (n = quire_log_next(r->cursor, &record, NULL)) > 0)
		code = write_record(r, &record);
	r->lsn = quire_log_cursor_lsn(r->cursor);
	if (n < 0 && code == CLI_DONE && !atomic_load(&r->s->canceled))
		return lost(r, r->lsn, (int)n);
	return code == CLI_DONE ? flush(r) : code;
}

/* Until fd is readable, or that many ms are over; OVER: nobody wants more. */
static int rest(struct reading *r, int fd, int ms)
{
	struct pollfd p[2] = {{.fd = fileno(r->s->out)}, {.fd = fd, .events = POLLIN}};
	int n = poll(p, 2, ms);

	return atomic_load(&r->s->canceled) || (n > 0 && p[0].revents != 0) ? OVER : CLI_DONE;
}

static int wait_for_more(struct reading *r, int efd)
{
	struct pollfd p = {.fd = efd, .events = POLLIN};
	struct quire_op op;
	uint64_t one;

	quire_op_init_eventfd(&op, efd);
	int rc = quire_log_wait(r->log, r->args->visible ? QUIRE_LOG_VISIBLE : QUIRE_LOG_DURABLE, r->lsn, &op);
	if (rc < 0)
		return log_fail(r->s, r->args->name, "%s", strerror(-rc));
	int code = rest(r, efd, -1);
	if (code == OVER)
		(void)quire_op_cancel(&op);
	while (read(efd, &one, sizeof(one)) != sizeof(one) || !quire_op_done(&op))
		(void)poll(&p, 1, -1);
	if (code == CLI_DONE && op.result < 0 && op.result != -ECANCELED)
		return log_fail(r->s, r->args->name, "%s", strerror((int)-op.result));
	return code;
}

static int follow_open(struct reading *r)
{
	int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int code = efd < 0 ? log_fail(r->s, r->args->name, "%s", strerror(errno)) : CLI_DONE;

	while (code == CLI_DONE && !atomic_load(&r->s->canceled)) {
		code = write_what_is_there(r);
		if (code == CLI_DONE)
			code = wait_for_more(r, efd);
	}
	if (efd >= 0)
		close(efd);
	return code;
}

static int look_again(struct reading *r)
{
	int code = open_anew(r);

	if (code != CLI_DONE)
		return code;
	int rc = quire_log_seek(r->cursor, r->lsn);
	return rc < 0 ? lost(r, r->lsn, rc) : CLI_DONE;
}

static int follow_other(struct reading *r)
{
	uint64_t took_ms = 0;
	int code;

	for (;;) {
		code = write_what_is_there(r);
		if (code == CLI_DONE)
			code = rest(r, -1, (int)(took_ms * REST_TIMES > REST_MS ? took_ms * REST_TIMES : REST_MS));
		if (code != CLI_DONE)
			return code;
		uint64_t start_ms = cli_now_ns() / 1000000;
		code = look_again(r);
		if (code != CLI_DONE)
			return code;
		took_ms = cli_now_ns() / 1000000 - start_ms;
	}
}

int log_follow(struct session *s, const struct log_args *args)
{
	struct reading r = {.s = s, .args = args};
	uint64_t end;
	int code = open_reading(&r);

	if (code != CLI_DONE)
		return code;
	end = args->visible ? quire_log_visible(r.log) : quire_log_durable(r.log);
	code = find_range(&r, end, &r.lsn, &end);
	if (code == CLI_DONE) {
		int rc = quire_log_seek(r.cursor, r.lsn);
		code = rc < 0 ? lost(&r, r.lsn, rc) : CLI_DONE;
	}
	if (code == CLI_DONE)
		code = s->served ? follow_open(&r) : follow_other(&r);
	close_reading(&r);
	if (atomic_load(&s->ends) && code != CLI_FAILED)
		return log_fail(s, args->name, "the daemon ends");
	return code == OVER ? CLI_DONE : code;
}
