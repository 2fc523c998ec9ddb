/* control_client.c - a command line travels to the daemon; see control.h. */
#include "control.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int control_address(const char *dir, struct sockaddr_un *ret)
{
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (fd >= 0)
		snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", fd, CONTROL_NAME);
	return fd;
}

bool control_transfer(int fd, void *buf, size_t n, bool write)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = write ? send(fd, (char *)buf + done, n - done, MSG_NOSIGNAL)
		                  : recv(fd, (char *)buf + done, n - done, 0);
		if (k > 0)
			done += (size_t)k;
		else if (k == 0 || errno != EINTR)
			return false;
	}
	return true;
}

/* A socket, or -1. */
static int connect_to(const char *dir)
{
	struct sockaddr_un address;
	int at = control_address(dir, &address), fd = -1;

	if (at < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		fd = -1;
	}
	close(at);
	return fd;
}

static bool send_header(int fd, const struct control_request *request, int cwd)
{
	int fds[CONTROL_N_FDS] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, cwd};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)request, sizeof(*request)};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.space)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*request);
}

static int ask(int fd, int argc, char **argv)
{
	struct control_request request = {.magic = CONTROL_MAGIC, .n_words = (uint32_t)argc};
	struct control_answer answer;
	size_t n_bytes = 0, at = 0;

	for (int i = 0; i < argc; i++)
		n_bytes += strlen(argv[i]) + 1;
	if (n_bytes > CONTROL_MAX_BYTES || argc > (int)CONTROL_MAX_WORDS)
		return cli_fail(argv[0], "too many words for a daemon");
	char *words = malloc(n_bytes);
	int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (words == NULL || cwd < 0) {
		free(words);
		return cli_fail(argv[0], "%s", strerror(errno));
	}
	for (int i = 0; i < argc; i++)
		at += (size_t)(stpcpy(words + at, argv[i]) - (words + at)) + 1;
	request.n_bytes = (uint32_t)n_bytes;
	fflush(stdout);
	bool good = send_header(fd, &request, cwd) && control_transfer(fd, words, n_bytes, true) &&
	            control_transfer(fd, &answer, sizeof(answer), false) && answer.magic == CONTROL_MAGIC;
	free(words);
	close(cwd);
	return good ? answer.exit_code : cli_fail(argv[0], "the daemon has gone, or did not understand");
}

/* ---- interrupted ---- */

static volatile sig_atomic_t line; /* the one of this process */

static void hang_up(int number)
{
	int error = errno;

	(void)number;
	(void)shutdown((int)line, SHUT_WR);
	errno = error;
}

static void hang_up_at_signals(int fd)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	const struct sigaction act = {.sa_handler = hang_up, .sa_flags = (int)SA_RESETHAND};
	struct sigaction before;

	line = fd;
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(numbers[i], &act, NULL);
}

bool control_ask(const char *dir, int argc, char **argv, bool until_interrupted, int *ret_exit_code)
{
	int fd = connect_to(dir);

	if (fd < 0)
		return false;
	if (until_interrupted)
		hang_up_at_signals(fd);
	*ret_exit_code = ask(fd, argc, argv);
	close(fd);
	return true;
}
