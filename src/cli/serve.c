/* serve.c - `quire serve`: holds a store and runs the verbs of others, until it is told to end.
 *
 * One thread accepts, reads nothing, and watches every caller for hanging up, which cancels his verb. Each caller has a
 * thread, which reads his request and runs it. What a caller sends is checked before it is believed; who sends
 * nonsense, or nothing, is left alone with it. Who comes when all threads are taken, or there is no descriptor for him, waits.
 *
 * A canceled verb may be blocked on its caller's descriptors: a pipe that nobody reads from or writes to any more, a
 * terminal that is stopped. Signals interrupt that; as one may come just before the call that blocks, they are
 * repeated until the verb has ended.
 */
#include "control.h"
#include "log_table.h"
#include "serve_nbd.h"
#include "serve_signals.h"
#include "serve_tmem.h"
#include "serve_ublk.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DESCRIPTORS 8u /* of a caller, at most */
#define REQUEST_SECONDS 10 /* to send it */
#define NUDGE_MS 20
#define RETRY_MS 100 /* when there are no descriptors left */

enum caller_state { CALLER_FREE, CALLER_RUNNING, CALLER_OVER };

struct server;

struct caller {
	struct server *server;    /* borrowed: outlives it */
	pthread_t thread;
	_Atomic int state;        /* enum caller_state; OVER: to be joined */
	int socket;               /* owned */
	struct session session;
};

struct server {
	const char *path;         /* borrowed: of argv; NULL: no store, pools only */
	uint64_t budget_bytes;
	struct serve_tmem tmem;
	struct quire_cache *cache; /* owned */
	struct quire_store *store; /* owned */
	struct log_table logs;     /* those that verbs have open */
	struct volume_table volumes;
	struct serve_nbd *nbd;     /* borrowed; NULL: not asked for */
	struct serve_ublk *ublk;   /* the same */
	int listener, signals, over; /* owned; over: eventfd, a caller's thread has ended */
	bool shut;                 /* there was no descriptor for a caller just now */
	unsigned n_callers;
	struct caller *callers;    /* owned */
	struct pollfd *polls;      /* owned: three and one each */
	struct caller **polled;    /* owned: whose they are */
};

/* ---- one caller ---- */

/* The header and the descriptors. */
static bool receive_header(int socket, struct control_request *request, int *fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * CONTROL_N_FDS)];
	} control;
	struct iovec iov = {request, sizeof(*request)};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.space)};
	ssize_t n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	unsigned n_fds = 0;

	for (struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL; c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n_fds < CONTROL_N_FDS)
				fds[n_fds++] = fd;
			else
				close(fd);
		}
	}
	return n == (ssize_t)sizeof(*request) && n_fds == CONTROL_N_FDS && request->magic == CONTROL_MAGIC &&
	       request->n_words > 0 && request->n_words <= CONTROL_MAX_WORDS && request->n_bytes <= CONTROL_MAX_BYTES &&
	       request->n_bytes >= request->n_words;
}

/* argv of the words, NULL at its end; NULL: they are not what the header says. Owned: it and words. */
static char **split(char *words, const struct control_request *request)
{
	char **argv = calloc(request->n_words + 1, sizeof(*argv));
	uint32_t n = 0;

	for (uint32_t at = 0; argv != NULL && at < request->n_bytes && n < request->n_words;) {
		argv[n++] = words + at;
		at += (uint32_t)strlen(words + at) + 1;
	}
	/* As many zero bytes as words, the last at the end: then each word ends inside. */
	uint32_t n_zero = 0;
	for (uint32_t i = 0; i < request->n_bytes; i++)
		n_zero += words[i] == '\0';
	if (argv != NULL && (n_zero != request->n_words || words[request->n_bytes - 1] != '\0')) {
		free(argv);
		argv = NULL;
	}
	return argv;
}

static int run_words(struct caller *caller, char **argv, int argc)
{
	const struct store_verb *verb = store_verb_find(argv[0]);

	if (verb == NULL)
		return session_fail(&caller->session, argv[0], "the daemon knows no such verb");
	return session_run(&caller->session, verb, argc, argv);
}

static void answer(struct caller *caller, const struct control_request *request, int *fds)
{
	char *words = malloc(request->n_bytes + 1);
	char **argv = NULL;

	if (words != NULL && control_transfer(caller->socket, words, request->n_bytes, false)) {
		words[request->n_bytes] = '\0';
		argv = split(words, request);
	}
	struct session *s = &caller->session;
	s->cache = caller->server->cache;
	s->store = caller->server->store;
	s->logs = &caller->server->logs;
	s->volumes = &caller->server->volumes;
	s->served = true;
	s->in = fds[CONTROL_IN];
	s->cwd = fds[CONTROL_CWD];
	s->out = fdopen(fds[CONTROL_OUT], "w");
	s->err = fdopen(fds[CONTROL_ERR], "w");
	if (s->out != NULL)
		fds[CONTROL_OUT] = -1; /* its stream closes it */
	if (s->err != NULL)
		fds[CONTROL_ERR] = -1;
	if (argv != NULL && s->out != NULL && s->err != NULL) {
		struct control_answer reply = {CONTROL_MAGIC, run_words(caller, argv, (int)request->n_words)};
		fflush(s->out);
		fflush(s->err);
		(void)control_transfer(caller->socket, &reply, sizeof(reply), true);
	}
	if (s->out != NULL)
		fclose(s->out);
	if (s->err != NULL)
		fclose(s->err);
	free(argv);
	free(words);
}

static void *serve_caller(void *arg)
{
	struct caller *caller = arg;
	struct control_request request;
	int fds[CONTROL_N_FDS] = {-1, -1, -1, -1};

	if (receive_header(caller->socket, &request, fds))
		answer(caller, &request, fds);
	for (unsigned i = 0; i < CONTROL_N_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	atomic_store(&caller->state, CALLER_OVER);
	uint64_t one = 1;
	(void)!write(caller->server->over, &one, sizeof(one));
	return NULL;
}

/* ---- all of them ---- */

static bool is_welcome(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static struct caller *find_free(struct server *server)
{
	for (unsigned i = 0; i < server->n_callers; i++)
		if (atomic_load(&server->callers[i].state) == CALLER_FREE)
			return &server->callers[i];
	return NULL;
}

/* False: the system has no descriptor for it now. */
static bool accept_one(struct server *server)
{
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
	struct timeval patience = {.tv_sec = REQUEST_SECONDS};
	struct caller *caller = find_free(server);

	if (fd < 0)
		return errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (caller != NULL && is_welcome(fd)) {
		memset(&caller->session, 0, sizeof(caller->session));
		caller->server = server;
		caller->socket = fd;
		atomic_store(&caller->state, CALLER_RUNNING);
		if (pthread_create(&caller->thread, NULL, serve_caller, caller) == 0)
			return true;
		atomic_store(&caller->state, CALLER_FREE);
	}
	close(fd);
	return true;
}

static unsigned reap(struct server *server)
{
	unsigned n_running = 0;

	for (unsigned i = 0; i < server->n_callers; i++) {
		struct caller *caller = &server->callers[i];
		int state = atomic_load(&caller->state);
		n_running += state == CALLER_RUNNING;
		if (state != CALLER_OVER)
			continue;
		pthread_join(caller->thread, NULL);
		close(caller->socket);
		atomic_store(&caller->state, CALLER_FREE);
	}
	return n_running;
}

/* Interrupts what canceled verbs are blocked in; true if there are such. Threads of RUNNING are not joined yet. */
static bool nudge(struct server *server)
{
	bool any = false;

	for (unsigned i = 0; i < server->n_callers; i++) {
		struct caller *caller = &server->callers[i];
		if (atomic_load(&caller->state) != CALLER_RUNNING || !atomic_load(&caller->session.canceled))
			continue;
		(void)pthread_kill(caller->thread, SIGUSR1);
		any = true;
	}
	return any;
}

/* Waits for what may happen: true if it is to end. */
static bool turn(struct server *server, bool ending)
{
	struct pollfd *polls = server->polls;
	struct caller **of = server->polled;
	nfds_t n = 3;

	polls[0] = (struct pollfd){.fd = ending ? -1 : server->signals, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = server->over, .events = POLLIN};
	polls[2] = (struct pollfd){
		.fd = ending || server->shut || find_free(server) == NULL ? -1 : server->listener, .events = POLLIN};
	for (unsigned i = 0; i < server->n_callers; i++) {
		struct caller *caller = &server->callers[i];
		if (atomic_load(&caller->state) != CALLER_RUNNING || atomic_load(&caller->session.canceled))
			continue;
		of[n - 3] = caller;
		polls[n++] = (struct pollfd){.fd = caller->socket, .events = POLLRDHUP};
	}
	if (poll(polls, n, nudge(server) ? NUDGE_MS : server->shut ? RETRY_MS : -1) < 0) {
		(void)poll(NULL, 0, RETRY_MS); /* more than RLIMIT_NOFILE, or no memory; or a signal */
		return false;
	}
	server->shut = false;
	uint64_t count;
	if (polls[1].revents != 0)
		(void)!read(server->over, &count, sizeof(count));
	for (nfds_t i = 3; i < n; i++)
		if (polls[i].revents != 0)
			atomic_store(&of[i - 3]->session.canceled, true);
	if (polls[2].revents != 0)
		server->shut = !accept_one(server);
	return polls[0].revents != 0;
}

static void serve(struct server *server)
{
	while (!turn(server, false))
		reap(server);
	for (unsigned i = 0; i < server->n_callers; i++) {
		struct caller *caller = &server->callers[i];
		atomic_store(&caller->session.ends, true);
		atomic_store(&caller->session.canceled, true);
		if (atomic_load(&caller->state) != CALLER_FREE)
			(void)shutdown(caller->socket, SHUT_RD); /* whoever has not sent his request yet */
	}
	while (reap(server) > 0)
		(void)turn(server, true);
}

/* ---- the daemon ---- */

static void on_nudge(int number)
{
	(void)number;
}

/* The store is held, so a socket that is there already is a dead daemon's. */
static int listen_at(struct server *server)
{
	struct sockaddr_un address;
	struct stat st;
	int at = control_address(server->path, &address), rc = 0;

	if (at < 0)
		return cli_fail(server->path, "%s", strerror(errno));
	server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fstatat(at, CONTROL_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
		(void)unlinkat(at, CONTROL_NAME, 0);
	/* The mode that it is bound with: no moment with another. */
	if (server->listener < 0 || fchmod(server->listener, 0600) < 0 ||
	    bind(server->listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(server->listener, 16) < 0)
		rc = cli_fail(server->path, "its control socket: %s", strerror(errno));
	close(at);
	return rc;
}

/* Before there is another thread, which would inherit the mask, or take the signal. */
static int catch_signals(void)
{
	const struct sigaction nudged = {.sa_handler = on_nudge};
	sigset_t set;

	sigaction(SIGUSR1, &nudged, NULL);
	serve_signals_block(&set);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int run(struct server *server)
{
	server->over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->signals < 0 || server->over < 0)
		return cli_fail("serve", "%s", strerror(errno));
	int rc = listen_at(server);
	if (rc != CLI_DONE)
		return rc;
	printf("serving %s (pid %ld)\n", server->path, (long)getpid());
	rc = server->nbd != NULL ? serve_volumes_announce(server->nbd) : CLI_DONE;
	if (rc == CLI_DONE && server->ublk != NULL)
		rc = serve_ublk_print(server->ublk->ublk);
	if (rc == CLI_DONE)
		rc = cli_finish_output();
	if (rc == CLI_DONE)
		serve(server);
	struct sockaddr_un address;
	int at = control_address(server->path, &address);
	if (at >= 0) {
		(void)unlinkat(at, CONTROL_NAME, 0);
		close(at);
	}
	return rc;
}

/* For so many callers; fewer, where there are not the descriptors for them. */
static bool prepare(struct server *server)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
		if (server->n_callers > files.rlim_cur / DESCRIPTORS)
			server->n_callers = (unsigned)(files.rlim_cur / DESCRIPTORS) + 1;
	}
	server->callers = calloc(server->n_callers, sizeof(server->callers[0]));
	server->polls = calloc(server->n_callers + 3, sizeof(server->polls[0]));
	server->polled = calloc(server->n_callers, sizeof(server->polled[0]));
	return server->callers != NULL && server->polls != NULL && server->polled != NULL;
}

static int close_volumes(struct server *server)
{
	int rc = server->nbd != NULL ? serve_volumes_stop(server->nbd) : CLI_DONE;
	if (server->ublk != NULL && serve_ublk_stop(server->ublk) != CLI_DONE)
		rc = CLI_FAILED;
	int closed = volume_table_fini(&server->volumes);

	return closed < 0 ? cli_fail(server->path, "closing its volumes: %s", strerror(-closed)) : rc;
}

static int open_and_run(struct server *server)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = server->budget_bytes};
	struct quire_error err;

	log_table_init(&server->logs);
	server->signals = catch_signals();
	if (quire_cache_open(&opts, &server->cache, &err) < 0)
		return cli_fail_text(err.text);
	int rc = CLI_FAILED;
	if (quire_store_open(server->cache, server->path, 0, &server->store, &err) < 0) {
		cli_fail_text(err.text);
	} else {
		server->listener = server->over = -1;
		volume_table_init(&server->volumes, server->store);
		rc = server->tmem.path != NULL ? serve_tmem_start(&server->tmem, server->cache, server->store, 0) : CLI_DONE;
		if (rc == CLI_DONE && server->nbd != NULL)
			rc = serve_volumes_start(server->nbd, &server->volumes);
		if (rc == CLI_DONE && server->ublk != NULL)
			rc = serve_ublk_start(server->ublk, &server->volumes);
		if (rc == CLI_DONE)
			rc = prepare(server) ? run(server) : cli_fail("serve", "%s", strerror(ENOMEM));
		if (serve_tmem_stop(&server->tmem) != CLI_DONE || close_volumes(server) != CLI_DONE)
			rc = CLI_FAILED;
		const int fds[] = {server->listener, server->signals, server->over};
		for (unsigned i = 0; i < 3; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		int closed = quire_store_close(server->store);
		if (closed < 0)
			rc = cli_fail(server->path, "closing: %s", strerror(-closed));
	}
	(void)quire_cache_close(server->cache);
	log_table_fini(&server->logs);
	free(server->callers);
	free(server->polls);
	free(server->polled);
	return rc;
}

/* Pools of pages, and no store. */
static int run_tmem_alone(struct server *server)
{
	struct signalfd_siginfo signal_info;

	server->signals = catch_signals();
	if (server->signals < 0)
		return cli_fail("serve", "%s", strerror(errno));
	int rc = serve_tmem_start(&server->tmem, NULL, NULL, server->budget_bytes);
	if (rc == CLI_DONE)
		(void)!read(server->signals, &signal_info, sizeof(signal_info));
	(void)serve_tmem_stop(&server->tmem); /* keeps nothing */
	close(server->signals);
	return rc;
}

int serve_store(const struct serve_store *held, const struct serve_tmem *tmem, struct serve_nbd *nbd, struct serve_ublk *ublk)
{
	struct server server = {
		.path = held->path, .budget_bytes = held->budget_bytes, .n_callers = held->n_callers, .nbd = nbd, .ublk = ublk};

	if (tmem != NULL)
		server.tmem = *tmem;
	return server.path != NULL ? open_and_run(&server) : run_tmem_alone(&server);
}
