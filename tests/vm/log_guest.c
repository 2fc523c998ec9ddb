/*
 * vm-log - logs that must survive when the guest is killed.
 *
 *   vm-log write LIFE PLACE…          appends, seals, trims and reads, in all the places at once, until the guest is killed
 *   vm-log outlive LIFE MS PLACE…     the same in a process of its own, which is killed so many milliseconds after
 *                                     something was acknowledged everywhere; then checks
 *   vm-log check LIFE "PLACE LOW HIGH DURABLE [LSN:LIFE:WRITER:NO]…"…
 *                                     exits 0 if each log opens, all below DURABLE is there and nothing torn or out of
 *                                     order; it begins between LOW and HIGH, or has been trimmed since, no further
 *                                     than a trim goes; and what is appended now is reachable
 *
 * PLACE is DIR:DEVICE:DURABLE (log_place.h). LIFE is a number that no other run has. What is promised is said at once, a line each,
 * and is the account by which the next boot is judged (so it may lag behind what was promised, never be ahead):
 *
 *   open DIR                           the log is there
 *   ack DIR DURABLE LSN LIFE WRITER NO record LSN is NO of WRITER; all below DURABLE are durable
 *   trimming DIR LSN                   nothing from LSN on goes away
 *   trimmed DIR FIRST                  nothing before FIRST comes back
 */
#include "log_place.h"
#include "log_records.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_PLACES 8u
#define N_SEGMENTS_MOST 40u
#define N_SEGMENTS_KEPT 10u /* a trim leaves more */
#define N_BATCH 4u

static uint64_t life;

/* ---- promises ---- */

/* For one who outlives this process: in memory that is shared with him. */
struct promises {
	_Atomic uint64_t durable, first, keeps;
};

static void promise(struct place *p, const char *what, uint64_t lsn)
{
	struct promises *told = p->promises;

	if (told != NULL)
		atomic_store(strcmp(what, "trimming") == 0 ? &told->keeps : &told->first, lsn);
	printf("%s %s %llu\n", what, p->dir, (unsigned long long)lsn);
}

static void acknowledge(struct place *p, uint64_t lsn, struct record_name name)
{
	uint64_t durable = quire_log_durable(p->log);

	if (durable <= lsn)
		place_fail(p, "record %llu was acknowledged, but durable is %llu", (unsigned long long)lsn, (unsigned long long)durable);
	if (p->promises != NULL)
		atomic_store(&p->promises->durable, durable);
	printf("ack %s %llu %llu %llu %u %u\n", p->dir, (unsigned long long)durable, (unsigned long long)lsn,
	       (unsigned long long)name.life, name.writer, name.no);
}

/* ---- write ---- */

struct writer {
	struct place *place;
	struct record_name next;
	uint64_t lsn;             /* of its last record */
	unsigned char *buffers;   /* N_BATCH records */
};

static void expect_behind(struct writer *w, uint64_t lsn)
{
	if (w->next.no > 0 && lsn <= w->lsn)
		place_fail(w->place, "record %llu came after %llu", (unsigned long long)lsn, (unsigned long long)w->lsn);
	w->lsn = lsn;
}

static void append_one(struct writer *w, bool durable)
{
	struct place *p = w->place;
	struct iovec iov = {w->buffers, record_make(w->next, w->buffers)};
	uint64_t lsn;

	if (durable)
		place_expect(p, quire_log_append(p->log, &iov, 1, &lsn, NULL), "append");
	else
		place_expect(p, quire_log_append_nowait(p->log, &iov, 1, &lsn), "append without waiting");
	expect_behind(w, lsn);
	if (durable)
		acknowledge(p, lsn, w->next);
	w->next.no++;
}

/* All at once, and then durable. */
static void append_batch(struct writer *w)
{
	struct place *p = w->place;
	struct iovec iov[N_BATCH];
	uint64_t first, last;

	for (unsigned i = 0; i < N_BATCH; i++) {
		struct record_name name = w->next;
		name.no += i;
		iov[i] = (struct iovec){w->buffers + i * RECORD_MAX, record_make(name, w->buffers + i * RECORD_MAX)};
	}
	int64_t n = quire_log_append_many(p->log, iov, N_BATCH, &first, &last);
	place_expect(p, n, "append a batch");
	if (n == 0)
		place_fail(p, "append a batch: nothing was taken, and no error");
	expect_behind(w, first);
	w->lsn = last;
	w->next.no += (uint32_t)n;
	place_expect(p, quire_log_sync(p->log, last, NULL), "sync");
	acknowledge(p, last, (struct record_name){.life = w->next.life, .writer = w->next.writer, .no = w->next.no - 1});
}

static void trim(struct place *p)
{
	struct quire_log_segment segments[N_SEGMENTS_MOST];
	unsigned n = quire_log_segments(p->log, segments, N_SEGMENTS_MOST);

	if (n < N_SEGMENTS_MOST)
		return;
	uint64_t lsn = segments[n % 8 + N_SEGMENTS_MOST / 2].first_lsn;
	promise(p, "trimming", lsn);
	place_expect(p, quire_log_trim(p->log, lsn), "trim");
	promise(p, "trimmed", quire_log_first(p->log));
}

static void write_for_ever(void *arg)
{
	struct writer *w = arg;

	for (unsigned step = w->next.writer;; step++) {
		if (step % 16 == 0)
			append_batch(w);
		else
			append_one(w, step % 3 == 0);
		if (w->next.writer == 0 && step % 32 == 1)
			trim(w->place);
	}
}

/* Follows what is durable, behind the tail or close to it, and minds the order. */
static void follow_for_ever(void *arg)
{
	struct place *p = arg;
	struct record_order order = {.n = 0};
	struct quire_log_cursor *cursor;
	struct quire_log_record r;

	place_expect(p, quire_log_cursor_open(p->log, QUIRE_LOG_DURABLE, &cursor), "opening a cursor");
	for (;;) {
		int64_t rc = quire_log_next(cursor, &r, NULL);
		if (rc == 1) {
			const char *wrong = record_follow(&order, &r);
			if (wrong != NULL)
				place_fail(p, "reading behind the appends: record %llu is %s", (unsigned long long)r.lsn, wrong);
		} else if (rc == -ESTALE) {
			order = (struct record_order){.n = 0};
			rc = quire_log_seek(cursor, quire_log_first(p->log));
		} else if (rc == 0) {
			rc = quire_log_wait(p->log, QUIRE_LOG_DURABLE, quire_log_cursor_lsn(cursor), NULL);
		}
		place_expect(p, rc == -ESTALE ? 0 : rc, "reading behind the appends");
	}
}

static void *write_place(void *arg)
{
	static _Thread_local struct writer writers[N_WRITERS];
	struct place *p = arg;
	struct quire_loop *loop;
	struct quire_error err;

	place_open(p, true);
	printf("open %s\n", p->dir);
	if (quire_loop_create(NULL, &loop, &err) < 0)
		place_fail(p, "a loop: %s", err.text);
	for (unsigned i = 0; i < N_WRITERS; i++) {
		writers[i] = (struct writer){.place = p, .next = {.life = life, .writer = i}, .buffers = malloc(N_BATCH * RECORD_MAX)};
		if (writers[i].buffers == NULL)
			place_fail(p, "no memory");
		place_expect(p, quire_co_spawn(loop, write_for_ever, &writers[i]), "a coroutine");
	}
	place_expect(p, quire_co_spawn(loop, follow_for_ever, p), "a coroutine");
	place_expect(p, quire_loop_run(loop), "running a loop");
	place_fail(p, "the loop ended");
}

static noreturn void write_until_killed(struct place *places, unsigned n)
{
	pthread_t threads[N_PLACES];

	puts("writing");
	for (unsigned i = 0; i < n; i++) {
		if (pthread_create(&threads[i], NULL, write_place, &places[i]) != 0)
			place_fail(&places[i], "no thread");
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	exit(1);
}

/* ---- check ---- */

/* Returns how many records there are. */
static uint64_t walk_forward(struct place *p)
{
	struct record_order order = {.lsn = quire_log_first(p->log)};
	struct quire_log_cursor *cursor;
	struct quire_log_record r;
	int64_t rc;

	place_expect(p, quire_log_cursor_open(p->log, QUIRE_LOG_DURABLE, &cursor), "opening a cursor");
	while ((rc = quire_log_next(cursor, &r, NULL)) == 1) {
		const char *wrong = order.n == 0 && r.lsn != order.lsn ? "not the first" : record_follow(&order, &r);
		if (wrong != NULL)
			place_fail(p, "record %llu is %s", (unsigned long long)r.lsn, wrong);
	}
	place_expect(p, rc, "reading forward");
	if (order.lsn != quire_log_visible(p->log))
		place_fail(p, "reading forward ended at %llu of %llu", (unsigned long long)order.lsn,
		           (unsigned long long)quire_log_visible(p->log));
	quire_log_cursor_close(cursor);
	return order.n;
}

static void walk_back(struct place *p, uint64_t n_expected)
{
	uint64_t lsn = quire_log_visible(p->log), n = 0;
	struct quire_log_cursor *cursor;
	struct quire_log_record r;
	struct record_name name;
	int64_t rc;

	place_expect(p, quire_log_cursor_open(p->log, QUIRE_LOG_DURABLE, &cursor), "opening a cursor");
	place_expect(p, quire_log_seek(cursor, UINT64_MAX), "seeking the end");
	while ((rc = quire_log_prev(cursor, &r, NULL)) == 1) {
		const char *wrong = r.lsn != --lsn ? "not of the number before" : record_read(r.data, r.len_bytes, &name);
		if (wrong != NULL)
			place_fail(p, "going back: record %llu is %s", (unsigned long long)r.lsn, wrong);
		n++;
	}
	place_expect(p, rc, "reading backward");
	if (n != n_expected)
		place_fail(p, "%llu records forward, %llu backward", (unsigned long long)n_expected, (unsigned long long)n);
	quire_log_cursor_close(cursor);
}

/* One that was acknowledged is where it was. */
static void expect_record(struct place *p, uint64_t lsn, struct record_name expected)
{
	struct quire_log_cursor *cursor;
	struct quire_log_record r;
	struct record_name name;

	place_expect(p, quire_log_cursor_open(p->log, QUIRE_LOG_DURABLE, &cursor), "opening a cursor");
	place_expect(p, quire_log_seek(cursor, lsn), "seeking what was acknowledged");
	if (quire_log_next(cursor, &r, NULL) != 1 || r.lsn != lsn || record_read(r.data, r.len_bytes, &name) != NULL ||
	    name.life != expected.life || name.writer != expected.writer || name.no != expected.no)
		place_fail(p, "record %llu is not the one that was acknowledged", (unsigned long long)lsn);
	quire_log_cursor_close(cursor);
}

static void check_samples(struct place *p, char *words)
{
	struct record_name name;
	unsigned long long lsn, born;

	for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " ")) {
		if (sscanf(word, "%llu:%llu:%u:%u", &lsn, &born, &name.writer, &name.no) != 4)
			place_fail(p, "%s: not LSN:LIFE:WRITER:NO", word);
		name.life = born;
		if (lsn >= quire_log_first(p->log))
			expect_record(p, lsn, name);
	}
}

static void append_some(struct place *p)
{
	struct writer w = {.place = p, .next = {.life = life}, .buffers = malloc(N_BATCH * RECORD_MAX)};

	if (w.buffers == NULL)
		place_fail(p, "no memory");
	for (unsigned i = 0; i < 100; i++)
		append_one(&w, i % 10 == 9);
	append_batch(&w);
	free(w.buffers);
}

static void found(void *arg, int error, uint64_t id, enum quire_class cls, uint64_t offset, const char *text)
{
	fprintf(stderr, "%s: found by check: error %d, object %llu, class %d, offset %llu: %s\n", ((struct place *)arg)->dir, error,
	        (unsigned long long)id, (int)cls, (unsigned long long)offset, text);
}

static void check_store(struct place *p)
{
	const struct quire_check_options o = {.size = sizeof(o), .found = found, .arg = p};
	int64_t n = quire_store_check(p->store, &o);

	place_expect(p, n, "checking the store");
	if (n > 0)
		place_fail(p, "%lld findings", (long long)n);
}

static void check_log(struct place *p, const unsigned long long limits[3])
{
	unsigned long long first = quire_log_first(p->log), durable = quire_log_durable(p->log);

	/* Of a trim that was begun just before the kill nobody may have heard. */
	if (first < limits[0] || (first > limits[1] && quire_log_segments(p->log, NULL, 0) < N_SEGMENTS_KEPT))
		place_fail(p, "begins at %llu, not between %llu and %llu", first, limits[0], limits[1]);
	if (durable < limits[2])
		place_fail(p, "ends at %llu, and %llu were durable", durable, limits[2]);
}

static void check_place(char *account)
{
	char where[256];
	struct place p;
	struct quire_log_stat st;
	unsigned long long limits[3];
	int n_read;

	if (sscanf(account, "%255s %llu %llu %llu %n", where, &limits[0], &limits[1], &limits[2], &n_read) != 4) {
		fprintf(stderr, "%s: not an account\n", account);
		exit(2);
	}
	place_parse(where, &p);
	place_open(&p, false);
	place_expect(&p, quire_log_stat(p.log, &st), "stat");
	check_log(&p, limits);
	walk_back(&p, walk_forward(&p));
	check_samples(&p, account + n_read);

	append_some(&p);
	uint64_t end = quire_log_visible(p.log);
	place_expect(&p, quire_log_close(p.log), "closing the log");
	place_open_log(&p);
	if (quire_log_durable(p.log) != end)
		place_fail(&p, "what was appended after recovery is not there");
	walk_back(&p, walk_forward(&p));
	check_store(&p);
	printf("checked %s: records %llu to %llu, of which %llu were in no sealed segment; %llu were durable\n", p.dir,
	       (unsigned long long)st.first_lsn, (unsigned long long)st.visible, (unsigned long long)st.n_recovered, limits[2]);
	place_close(&p);
}

/* ---- outlive ---- */

static bool all_acknowledged(const struct promises *promises, unsigned n)
{
	unsigned n_there = 0;

	for (unsigned i = 0; i < n; i++)
		n_there += promises[i].durable > 0;
	return n_there == n;
}

static void outlive(char **texts, unsigned n, unsigned ms)
{
	struct promises *promises = mmap(NULL, n * sizeof(*promises), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct place places[N_PLACES];
	char account[512];
	int status;

	for (unsigned i = 0; i < n; i++) {
		place_parse(texts[i], &places[i]);
		places[i].promises = &promises[i];
	}
	pid_t child = promises == MAP_FAILED ? -1 : fork();
	if (child == 0)
		write_until_killed(places, n);
	while (child > 0 && !all_acknowledged(promises, n) && waitpid(child, &status, WNOHANG) == 0)
		usleep(10000);
	if (child > 0)
		usleep(ms * 1000);
	if (child < 0 || kill(child, SIGKILL) != 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
		place_fail(&places[0], "the process that appends was not killed");
	life++;
	for (unsigned i = 0; i < n; i++) {
		snprintf(account, sizeof(account), "%s %llu %llu %llu", texts[i], (unsigned long long)promises[i].first,
		         (unsigned long long)promises[i].keeps, (unsigned long long)promises[i].durable);
		check_place(account);
	}
}

static void write_places(char **texts, unsigned n)
{
	struct place places[N_PLACES];

	for (unsigned i = 0; i < n; i++)
		place_parse(texts[i], &places[i]);
	write_until_killed(places, n);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 3)
		life = strtoull(argv[2], NULL, 10);
	if (argc > 3 && argc - 3 <= (int)N_PLACES && strcmp(argv[1], "write") == 0) {
		write_places(argv + 3, (unsigned)argc - 3);
	} else if (argc > 4 && argc - 4 <= (int)N_PLACES && strcmp(argv[1], "outlive") == 0) {
		outlive(argv + 4, (unsigned)argc - 4, (unsigned)atoi(argv[3]));
		return 0;
	} else if (argc > 3 && strcmp(argv[1], "check") == 0) {
		for (int i = 3; i < argc; i++)
			check_place(argv[i]);
		return 0;
	}
	fputs("usage: vm-log write LIFE PLACE… | outlive LIFE MS PLACE… | check LIFE ACCOUNT…\n", stderr);
	return 2;
}
