/* demo_server.h - a lookup server in a process of its own, and what its kinds share.
 *
 * One SOCK_SEQPACKET connection; a message is one request or one answer, answers come in any
 * order. So that nothing but the storage is compared, every kind gets its requests and gives
 * its answers through the functions below; a kind is a `serve` function and no more.
 *
 * serve() runs in the child: it sets itself up, loads corpus->pages in any way it likes, calls
 * demo_server_ready, answers until the client hangs up, and returns 0, or a negative errno
 * with the reason in why.
 */
#ifndef CLI_DEMO_SERVER_H
#define CLI_DEMO_SERVER_H

#include "demo_corpus.h"
#include "demo_quiet.h"

#include <sys/socket.h>
#include <sys/types.h>

#define DEMO_BATCH 64 /* messages taken or given by one system call */
#define DEMO_WHY_BYTES 288

struct demo_wire_request {
	uint32_t id; /* the client's, for the answer */
	uint32_t file;
	uint64_t offset;
	uint32_t len_bytes;
	uint32_t reserved;
};

struct demo_wire_answer {
	uint32_t id;
	int32_t error; /* 0, or a negative errno and no bytes */
	unsigned char bytes[DEMO_ANSWER_MAX_BYTES];
};
#define DEMO_ANSWER_HEAD_BYTES 8

struct demo_server {
	const struct demo_corpus *corpus; /* borrowed: for the process's life */
	int socket;                       /* blocking; the event loops receive with MSG_DONTWAIT */
	int ready_fd;
	unsigned n_threads; /* of those kinds that have a choice */
	char *why;          /* DEMO_WHY_BYTES */
};

struct demo_contender {
	const char *key, *title;
	const char *settings; /* one line: what was done to let it do its best */
	unsigned n_threads;
	int (*serve)(struct demo_server *server);
	bool is_quire;
};

extern const struct demo_contender demo_contenders[];
extern const unsigned n_demo_contenders;

int demo_serve_mmap(struct demo_server *server);
int demo_serve_pread(struct demo_server *server);
int demo_serve_warmtouch(struct demo_server *server);
int demo_serve_quire_want(struct demo_server *server);
int demo_serve_quire_suspend(struct demo_server *server);
int demo_serve_quire_restricted(struct demo_server *server);

/* ---- for the kinds ---- */

/* Tells the client that the contest may begin. */
void demo_server_ready(struct demo_server *server);

/* Notes the reason; returns rc. */
int demo_server_fail(struct demo_server *server, int rc, const char *what);

/* mmaps every file with MADV_RANDOM (readahead is poison to random lookups). Owned by the
 * caller, for the process's life. NULL: errno tells why. */
const unsigned char **demo_server_mmap(struct demo_server *server);

/* Serves with server->n_threads threads, each: receive, answer(arg, request, into), send. */
typedef int (*demo_answer_fn)(void *arg, const struct demo_wire_request *request, void *bytes);
int demo_server_run_threads(struct demo_server *server, demo_answer_fn answer, void *arg);

/* True if the request lies inside its file: what comes from a socket is not trusted. */
bool demo_request_valid(const struct demo_corpus *c, const struct demo_wire_request *r);

/* Requests taken at once. */
struct demo_inbox {
	struct mmsghdr headers[DEMO_BATCH];
	struct iovec parts[DEMO_BATCH];
	struct demo_wire_request requests[DEMO_BATCH];
};
void demo_inbox_init(struct demo_inbox *in);
/* flags: MSG_DONTWAIT or MSG_WAITFORONE. Returns how many, 0 when the client has hung up, -EAGAIN
 * if nothing is there. */
int demo_inbox_receive(struct demo_inbox *in, int socket, int flags);

/* Answers gathered, to be given at once. */
struct demo_outbox {
	int socket;
	unsigned n;
	struct mmsghdr headers[DEMO_BATCH];
	struct iovec parts[DEMO_BATCH];
	struct demo_wire_answer answers[DEMO_BATCH];
};
void demo_outbox_init(struct demo_outbox *out, int socket);
/* Where the bytes of an answer of len_bytes go (error: see demo_wire_answer); sends what was
 * gathered before if there is no room. */
void *demo_outbox_add(struct demo_outbox *out, uint32_t id, uint32_t len_bytes, int error);
void demo_outbox_send(struct demo_outbox *out);

/* ---- for the one who starts it ---- */

struct demo_child {
	pid_t pid;
	int socket; /* owned: the client's end */
	int ready_fd;
};

/* Forks the server of a contender; before anything else it moves into cgroup_procs (a path,
 * or NULL), and out of others' way (see demo_quiet.h). */
int demo_child_start(const struct demo_contender *kind, const struct demo_corpus *corpus,
                     const char *cgroup_procs, const struct quiet *quiet, struct demo_child *ret);

/* Waits until it is ready, up to timeout_ms. 0, or a negative errno with the reason in why. */
int demo_child_wait_ready(struct demo_child *child, int timeout_ms, char *why);

/* Of all its threads, up to now. */
double demo_child_cpu_seconds(const struct demo_child *child);

/* Hangs up, waits for its end (kills it if it does not come). 0, or -errno and why; gives what it
 * had resident at most in either case. */
int demo_child_finish(struct demo_child *child, uint64_t *ret_peak_rss_bytes, char *why);

#endif
