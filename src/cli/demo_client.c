/* demo_client.c - the open-loop client that measures a lookup server.
 *
 * One thread that never sleeps while the contest lasts: it sends what is due, takes what has
 * come, checks it. Request i is due at start + i / rate. It is sent when its moment has
 * come and the socket has room; ids are indexes into `waiting`, a slot each for what is under
 * way, handed out from a free list.
 */
#include "demo_client.h"
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_WAITING 65536u
#define GRACE_NS 2000000000u /* after the last request was due */
#define TICK_NS 50000000u
#define SEED 0x6c6f6f6b7570ull
#define SLICE_SECONDS 0.1
#define SLICE_REQUESTS 2000.0 /* at the least: a thousandth of them is a tail */

struct waiting {
	uint64_t due_ns;
	uint32_t request; /* index in the corpus */
	uint32_t next_free;
	bool counted;
	bool busy;
};

struct client {
	const struct demo_corpus *corpus;
	struct demo_child *child;
	struct demo_measurement *result;
	struct latency *slices; /* owned: result->n_slices, of the hot requests */
	const struct demo_load *load;
	struct waiting *waiting; /* owned */
	uint32_t free;           /* MAX_WAITING: none */
	uint32_t n_waiting;
	uint64_t rng, cold_below;
	uint64_t start_ns, measure_ns, end_ns;
	double gap_ns;
	uint64_t n_sent, n_total;
	bool gone;
	/* what goes out and comes in by one system call */
	struct mmsghdr out_headers[DEMO_BATCH], in_headers[DEMO_BATCH];
	struct iovec out_parts[DEMO_BATCH], in_parts[DEMO_BATCH];
	struct demo_wire_request requests[DEMO_BATCH];
	struct demo_wire_answer answers[DEMO_BATCH];
	unsigned n_out, n_out_sent; /* drawn and not sent yet */
};

static uint64_t due_ns(const struct client *c, uint64_t i)
{
	return c->start_ns + (uint64_t)((double)i * c->gap_ns);
}

static bool is_hot(const struct client *c, uint32_t request)
{
	return request < c->corpus->n_hot;
}

static uint32_t draw(struct client *c)
{
	uint64_t r = demo_random(&c->rng), kind = demo_random(&c->rng);
	size_t n_cold = c->corpus->n_requests - c->corpus->n_hot;

	if (kind < c->cold_below)
		return (uint32_t)(c->corpus->n_hot + r % n_cold);
	return (uint32_t)(r % c->corpus->n_hot);
}

/* Fills the batch with what is due. */
static void gather(struct client *c, uint64_t now)
{
	while (c->n_out < DEMO_BATCH && c->n_sent < c->n_total && c->free != MAX_WAITING &&
	       due_ns(c, c->n_sent) <= now) {
		uint32_t id = c->free;
		struct waiting *w = &c->waiting[id];

		c->free = w->next_free;
		w->due_ns = due_ns(c, c->n_sent++);
		w->request = draw(c);
		w->counted = w->due_ns >= c->measure_ns;
		w->busy = true;
		c->n_waiting++;
		const struct demo_request *r = &c->corpus->requests[w->request];
		c->requests[c->n_out++] = (struct demo_wire_request){
			.id = id, .file = r->file, .offset = r->offset, .len_bytes = r->len_bytes
		};
	}
}

static bool send_due(struct client *c, uint64_t now)
{
	if (c->n_out_sent == c->n_out)
		c->n_out = c->n_out_sent = 0;
	if (c->n_out == 0)
		gather(c, now);
	if (c->n_out == 0)
		return false;
	int n = sendmmsg(c->child->socket, c->out_headers + c->n_out_sent, c->n_out - c->n_out_sent,
	                 MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		c->gone = errno != EAGAIN && errno != EINTR;
	else
		c->n_out_sent += (unsigned)n;
	return n > 0;
}

static size_t slice_of(const struct client *c, uint64_t due)
{
	size_t slice = (size_t)((due - c->measure_ns) * c->result->n_slices / (c->end_ns - c->measure_ns));

	return slice < c->result->n_slices ? slice : c->result->n_slices - 1;
}

static void count(struct client *c, const struct waiting *w, uint64_t now)
{
	if (!w->counted)
		return;
	c->result->n_due++;
	c->result->n_answered += now <= c->end_ns;
	latency_add(is_hot(c, w->request) ? &c->result->hot : &c->result->cold, now - w->due_ns);
	if (is_hot(c, w->request))
		latency_add(&c->slices[slice_of(c, w->due_ns)], now - w->due_ns);
}

static void check(struct client *c, const struct demo_wire_answer *answer, size_t len_bytes, uint64_t now)
{
	if (len_bytes < DEMO_ANSWER_HEAD_BYTES || answer->id >= MAX_WAITING || !c->waiting[answer->id].busy) {
		c->result->n_wrong++;
		return;
	}
	struct waiting *w = &c->waiting[answer->id];
	const struct demo_request *r = &c->corpus->requests[w->request];

	if (answer->error != 0)
		c->result->n_errors++;
	else if (len_bytes - DEMO_ANSWER_HEAD_BYTES != r->len_bytes ||
	         demo_hash(answer->bytes, r->len_bytes) != r->expected)
		c->result->n_wrong++;
	count(c, w, now);
	w->busy = false;
	w->next_free = c->free;
	c->free = answer->id;
	c->n_waiting--;
}

static bool receive(struct client *c)
{
	int n = recvmmsg(c->child->socket, c->in_headers, DEMO_BATCH, MSG_DONTWAIT, NULL);
	uint64_t now = cli_now_ns();

	if (n < 0) {
		c->gone = c->gone || (errno != EAGAIN && errno != EINTR);
		return false;
	}
	for (int i = 0; i < n; i++) {
		if (c->in_headers[i].msg_len == 0) { /* end of file: the server has hung up */
			c->gone = true;
			return false;
		}
		check(c, &c->answers[i], c->in_headers[i].msg_len, now);
	}
	return n > 0;
}

/* What was due and never answered has waited until now, at the least. */
static void count_lost(struct client *c, uint64_t now)
{
	for (uint32_t i = 0; i < MAX_WAITING; i++)
		if (c->waiting[i].busy) {
			c->result->n_lost += c->waiting[i].counted;
			count(c, &c->waiting[i], now);
		}
	for (; c->n_sent < c->n_total; c->n_sent++) {
		struct waiting w = { .due_ns = due_ns(c, c->n_sent), .request = draw(c), .busy = true };

		w.counted = w.due_ns >= c->measure_ns && w.due_ns < now;
		c->result->n_lost += w.counted;
		count(c, &w, now);
	}
}

struct cpu_seconds {
	double all, server, client; /* used so far */
};

static struct cpu_seconds cpu_now(const struct client *c)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (struct cpu_seconds){
		.all = quiet_cpu_seconds(),
		.server = demo_child_cpu_seconds(c->child),
		.client = (double)t.tv_sec + (double)t.tv_nsec / 1e9,
	};
}

static void run(struct client *c, demo_tick_fn tick, void *tick_arg)
{
	uint64_t now = cli_now_ns(), ticked_ns = 0;
	struct cpu_seconds start = { 0 }, end = { 0 };
	bool measuring = false, measured = false;

	while (!c->gone && *c->load->stop == 0 && (c->n_sent < c->n_total || c->n_waiting > 0) &&
	       now < c->end_ns + GRACE_NS) {
		bool sent = send_due(c, now);
		bool received = receive(c);

		if (!sent && !received && c->load->yields)
			sched_yield();
		now = cli_now_ns();
		if (!measuring && now >= c->measure_ns) {
			measuring = true;
			start = cpu_now(c);
		}
		if (!measured && now >= c->end_ns) {
			measured = true;
			end = cpu_now(c);
		}
		if (now - ticked_ns > TICK_NS) {
			ticked_ns = now;
			tick(tick_arg, (double)(now - c->start_ns) / (double)(c->end_ns - c->start_ns));
		}
	}
	if (!measured)
		end = cpu_now(c);
	c->result->cpu_seconds = end.server - start.server;
	c->result->other_seconds = fmax(0, end.all - start.all - (end.server - start.server) - (end.client - start.client));
	count_lost(c, now);
}

/* As many as there are requests for. */
static unsigned n_slices(const struct demo_load *load)
{
	double by_time = load->measure_seconds / SLICE_SECONDS;
	double by_requests = load->measure_seconds * load->rate * (1 - load->cold_share) / SLICE_REQUESTS;
	double n = by_time < by_requests ? by_time : by_requests;

	return n < 1 ? 1 : n > DEMO_SLICES_MAX ? DEMO_SLICES_MAX : (unsigned)n;
}

static int by_length(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void sum_up_slices(struct client *c)
{
	struct demo_measurement *m = c->result;

	for (unsigned i = 0; i < m->n_slices; i++)
		m->slice_p999_ns[i] = latency_quantile_ns(&c->slices[i], 0.999);
	qsort(m->slice_p999_ns, m->n_slices, sizeof(m->slice_p999_ns[0]), by_length);
}

static int prepare(struct client *c, const struct demo_load *load)
{
	c->result->n_slices = n_slices(load);
	c->slices = calloc(c->result->n_slices, sizeof(*c->slices));
	c->waiting = calloc(MAX_WAITING, sizeof(*c->waiting));
	if (c->waiting == NULL || c->slices == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < MAX_WAITING; i++)
		c->waiting[i].next_free = i + 1;
	for (unsigned i = 0; i < DEMO_BATCH; i++) {
		c->out_parts[i] = (struct iovec){ &c->requests[i], sizeof(c->requests[i]) };
		c->in_parts[i] = (struct iovec){ &c->answers[i], sizeof(c->answers[i]) };
		c->out_headers[i].msg_hdr.msg_iov = &c->out_parts[i];
		c->in_headers[i].msg_hdr.msg_iov = &c->in_parts[i];
		c->out_headers[i].msg_hdr.msg_iovlen = c->in_headers[i].msg_hdr.msg_iovlen = 1;
	}
	c->rng = SEED;
	c->cold_below = (uint64_t)(load->cold_share * (double)UINT64_MAX);
	c->gap_ns = 1e9 / load->rate;
	c->n_total = (uint64_t)((load->warmup_seconds + load->measure_seconds) * load->rate);
	c->start_ns = cli_now_ns();
	c->measure_ns = c->start_ns + (uint64_t)(load->warmup_seconds * 1e9);
	c->end_ns = c->measure_ns + (uint64_t)(load->measure_seconds * 1e9);
	return 0;
}

int demo_client_run(const struct demo_corpus *corpus, const struct demo_load *load,
                    struct demo_child *child, demo_tick_fn tick, void *tick_arg,
                    struct demo_measurement *ret)
{
	struct client *c = calloc(1, sizeof(*c));

	memset(ret, 0, sizeof(*ret));
	if (c == NULL)
		return -ENOMEM;
	c->corpus = corpus;
	c->child = child;
	c->result = ret;
	c->load = load;
	ret->seconds = load->measure_seconds;
	int rc = prepare(c, load);
	if (rc == 0) {
		run(c, tick, tick_arg);
		sum_up_slices(c);
		rc = *load->stop != 0 ? -EINTR : c->gone ? -EPIPE : 0;
	}
	free(c->waiting);
	free(c->slices);
	free(c);
	return rc;
}
