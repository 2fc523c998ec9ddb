/* demo_child.c - a contender's life as a process: started, ready, measured, ended. */
#include "demo_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_UP_MS 5000

static int join_cgroup(const char *procs)
{
	int fd = open(procs, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return rc;
}

static void child_main(const struct demo_contender *kind, const struct demo_corpus *corpus,
                       const char *cgroup_procs, const struct quiet *quiet, int socket, int ready_fd)
{
	char why[DEMO_WHY_BYTES] = "";
	struct demo_server server = {
		.corpus = corpus,
		.socket = socket,
		.ready_fd = ready_fd,
		.n_threads = kind->n_threads,
		.why = why,
	};
	int rc = cgroup_procs != NULL ? join_cgroup(cgroup_procs) : 0;

	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	quiet_server(quiet);
	if (rc != 0)
		demo_server_fail(&server, rc, "entering the cgroup");
	else
		rc = kind->serve(&server);
	if (rc != 0 && server.ready_fd >= 0) {
		size_t len = strlen(why);
		if (write(server.ready_fd, why, len) != (ssize_t)len)
			_exit(2);
	}
	_exit(rc == 0 ? 0 : 1);
}

int demo_child_start(const struct demo_contender *kind, const struct demo_corpus *corpus,
                     const char *cgroup_procs, const struct quiet *quiet, struct demo_child *ret)
{
	int sockets[2], ready[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return -errno;
	if (pipe2(ready, O_CLOEXEC) != 0) {
		int rc = -errno;
		close(sockets[0]);
		close(sockets[1]);
		return rc;
	}
	for (int i = 0; i < 2; i++) {
		/* Room for what is under way while a disk hesitates; as much as is allowed. */
		const int room = 4 << 20;
		setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	}
	pid_t pid = fork();
	if (pid == 0) {
		close(sockets[0]);
		close(ready[0]);
		child_main(kind, corpus, cgroup_procs, quiet, sockets[1], ready[1]);
	}
	int rc = pid < 0 ? -errno : 0;
	close(sockets[1]);
	close(ready[1]);
	if (rc != 0) {
		close(sockets[0]);
		close(ready[0]);
		return rc;
	}
	*ret = (struct demo_child){ .pid = pid, .socket = sockets[0], .ready_fd = ready[0] };
	return 0;
}

int demo_child_wait_ready(struct demo_child *child, int timeout_ms, char *why)
{
	struct pollfd p = { .fd = child->ready_fd, .events = POLLIN };
	char text[DEMO_WHY_BYTES];

	if (poll(&p, 1, timeout_ms) != 1) {
		snprintf(why, DEMO_WHY_BYTES, "not ready after %d s", timeout_ms / 1000);
		return -ETIMEDOUT;
	}
	ssize_t n = read(child->ready_fd, text, sizeof(text) - 1);
	if (n == 1 && text[0] == 'R')
		return 0;
	text[n > 0 ? n : 0] = '\0';
	snprintf(why, DEMO_WHY_BYTES, "%s", n > 0 ? text : "the server died while it prepared itself");
	return -ECHILD;
}

double demo_child_cpu_seconds(const struct demo_child *child)
{
	clockid_t clock;
	struct timespec t;

	if (clock_getcpuclockid(child->pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void kill_if_stuck(pid_t pid)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	if (p.fd < 0)
		return;
	if (poll(&p, 1, HANG_UP_MS) == 0)
		kill(pid, SIGKILL);
	close(p.fd);
}

int demo_child_finish(struct demo_child *child, uint64_t *ret_peak_rss_bytes, char *why)
{
	struct rusage usage;
	int status;

	close(child->socket);
	close(child->ready_fd);
	kill_if_stuck(child->pid);
	if (wait4(child->pid, &status, 0, &usage) != child->pid)
		return -errno;
	*ret_peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
	if (WIFSIGNALED(status)) {
		snprintf(why, DEMO_WHY_BYTES, "the server was ended by signal %d (%s)", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
		return -ECHILD;
	}
	if (WEXITSTATUS(status) != 0) {
		snprintf(why, DEMO_WHY_BYTES, "the server failed");
		return -ECHILD;
	}
	return 0;
}
