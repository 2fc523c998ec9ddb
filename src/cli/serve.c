/* serve.c - `quire serve`: holds a store and runs the verbs of others, until it is told to end.
 *
 * One thread accepts, reads nothing, and watches every caller for hanging up, which cancels his verb. Each caller has a
 * thread, which reads his request and runs it. What a caller sends is checked before it is believed; who sends
 * nonsense, or nothing, is left alone with it. Who comes when all threads are taken waits.
 *
 * A canceled verb may be blocked on its caller's descriptors: a pipe that nobody reads from or writes to any more, a
 * terminal that is stopped. Signals interrupt that; as one may come just before the call that blocks, they are
 * repeated until the verb has ended.
 */
#include "control.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CALLERS 64u
#define DEFAULT_BUDGET_BYTES (256u << 20)
#define REQUEST_SECONDS 10 /* to send it */
#define NUDGE_MS 20

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
	const char *path;         /* borrowed: of argv */
	uint64_t budget_bytes;
	struct quire_cache *cache; /* owned */
	struct quire_store *store; /* owned */
	int listener, signals, over; /* owned; over: eventfd, a caller's thread has ended */
	struct caller callers[MAX_CALLERS];
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
	for (unsigned i = 0; i < MAX_CALLERS; i++)
		if (atomic_load(&server->callers[i].state) == CALLER_FREE)
			return &server->callers[i];
	return NULL;
}

static void accept_one(struct server *server)
{
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
	struct timeval patience = {.tv_sec = REQUEST_SECONDS};
	struct caller *caller = find_free(server);

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (caller != NULL && is_welcome(fd)) {
		memset(&caller->session, 0, sizeof(caller->session));
		caller->server = server;
		caller->socket = fd;
		atomic_store(&caller->state, CALLER_RUNNING);
		if (pthread_create(&caller->thread, NULL, serve_caller, caller) == 0)
			return;
		atomic_store(&caller->state, CALLER_FREE);
	}
	close(fd);
}

static unsigned reap(struct server *server)
{
	unsigned n_running = 0;

	for (unsigned i = 0; i < MAX_CALLERS; i++) {
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

	for (unsigned i = 0; i < MAX_CALLERS; i++) {
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
	struct pollfd polls[3 + MAX_CALLERS];
	struct caller *of[MAX_CALLERS];
	nfds_t n = 3;

	polls[0] = (struct pollfd){.fd = ending ? -1 : server->signals, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = server->over, .events = POLLIN};
	polls[2] = (struct pollfd){.fd = ending || find_free(server) == NULL ? -1 : server->listener, .events = POLLIN};
	for (unsigned i = 0; i < MAX_CALLERS; i++) {
		struct caller *caller = &server->callers[i];
		if (atomic_load(&caller->state) != CALLER_RUNNING || atomic_load(&caller->session.canceled))
			continue;
		of[n - 3] = caller;
		polls[n++] = (struct pollfd){.fd = caller->socket, .events = POLLRDHUP};
	}
	if (poll(polls, n, nudge(server) ? NUDGE_MS : -1) < 0)
		return false;
	uint64_t count;
	if (polls[1].revents != 0)
		(void)!read(server->over, &count, sizeof(count));
	for (nfds_t i = 3; i < n; i++)
		if (polls[i].revents != 0)
			atomic_store(&of[i - 3]->session.canceled, true);
	if (polls[2].revents != 0)
		accept_one(server);
	return polls[0].revents != 0;
}

static void serve(struct server *server)
{
	while (!turn(server, false))
		reap(server);
	for (unsigned i = 0; i < MAX_CALLERS; i++) {
		struct caller *caller = &server->callers[i];
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
	mode_t mask = umask(0177);
	if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(server->listener, 16) < 0)
		rc = cli_fail(server->path, "its control socket: %s", strerror(errno));
	umask(mask);
	close(at);
	return rc;
}

/* Before there is another thread, which would inherit the mask, or take the signal. */
static int catch_signals(void)
{
	const struct sigaction nudged = {.sa_handler = on_nudge};
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR1, &nudged, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
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

static int open_and_run(struct server *server)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = server->budget_bytes};
	struct quire_error err;

	server->signals = catch_signals();
	if (quire_cache_open(&opts, &server->cache, &err) < 0)
		return cli_fail_text(err.text);
	int rc = CLI_FAILED;
	if (quire_store_open(server->cache, server->path, 0, &server->store, &err) < 0) {
		cli_fail_text(err.text);
	} else {
		server->listener = server->over = -1;
		rc = run(server);
		const int fds[] = {server->listener, server->signals, server->over};
		for (unsigned i = 0; i < 3; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		int closed = quire_store_close(server->store);
		if (closed < 0)
			rc = cli_fail(server->path, "closing: %s", strerror(-closed));
	}
	(void)quire_cache_close(server->cache);
	return rc;
}

static void print_help(void)
{
	printf("usage: quire serve STORE [--budget BYTES]\n\n"
	       "Holds the store, and runs the verbs of others on it: each verb that names the store finds the\n"
	       "daemon by the socket STORE/" CONTROL_NAME ". Ends at SIGTERM or SIGINT, when what was under way is over.\n\n"
	       "  --budget BYTES  of memory, for pages and tables (default 256M)\n"
	       "  --help          this text\n");
}

int verb_serve(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "budget", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static struct server server;
	int option;

	server.budget_bytes = DEFAULT_BUDGET_BYTES;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		if (option == 'h') {
			print_help();
			return cli_finish_output();
		}
		if (option != 'b')
			return cli_bad_option(argc, argv, option);
		if (!cli_parse_bytes(optarg, &server.budget_bytes) || server.budget_bytes < QUIRE_BUDGET_MIN_BYTES)
			return cli_usage(optarg, "not a size of 8 MiB or more");
	}
	if (argc - optind != 1)
		return cli_usage("serve", "which store?");
	server.path = argv[optind];
	return open_and_run(&server);
}
