/* ublk_command.c - starting the command, and hearing what it says. */
#include "ublk_command.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MOST 16u

const char *quire;

static pid_t start(char *const *words, int to)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(to, STDOUT_FILENO);
		dup2(to, STDERR_FILENO);
		execv(quire, words);
		_exit(127);
	}
	return pid;
}

static unsigned make_words(char **words, const char *first, const char *const *more)
{
	unsigned n = 0;

	words[n++] = (char *)(uintptr_t)quire;
	words[n++] = (char *)(uintptr_t)first;
	while (*more != NULL)
		words[n++] = (char *)(uintptr_t)*more++;
	words[n] = NULL;
	return n;
}

static void hear_line(int fd, char *ret)
{
	size_t n = 0;

	while (n < SAID_BYTES - 1 && read(fd, ret + n, 1) == 1 && ret[n++] != '\n')
		;
	ret[n] = '\0';
}

pid_t serve(const char *const *more, char *ret)
{
	char *words[WORDS_MOST];
	int pipe_fds[2];

	make_words(words, "serve", more);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid_t pid = start(words, pipe_fds[1]);
	close(pipe_fds[1]);
	/* A store that is held says so in a line before. */
	do
		hear_line(pipe_fds[0], ret);
	while (strncmp(ret, "serving /tmp", 12) == 0);
	close(pipe_fds[0]);
	if (strncmp(ret, "serving /dev", 12) == 0)
		return pid;
	waitpid(pid, NULL, 0);
	return -1;
}

int end(pid_t pid, int number)
{
	int status;

	assert_int_equal(kill(pid, number), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

int say(const char *verb, const char *const *more, uid_t uid, char *ret)
{
	char *words[WORDS_MOST];
	int pipe_fds[2], status;

	make_words(words, verb, more);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		dup2(pipe_fds[1], STDERR_FILENO);
		_exit(setuid(uid) == 0 ? execv(quire, words) : 126);
	}
	close(pipe_fds[1]);
	ssize_t n = read(pipe_fds[0], ret, SAID_BYTES - 1);
	ret[n > 0 ? n : 0] = '\0';
	close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}
