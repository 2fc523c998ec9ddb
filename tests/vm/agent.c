/*
 * agent - runs one program in the guest and tells the host, or tells it one thing.
 *
 *   agent PORT run NUMBER SECONDS PROGRAM [ARG…]
 *   agent PORT say KIND [TEXT]
 *
 * PORT is a character device to the host (virtio-serial). Everything on it is a frame: "QVM1",
 * a letter (and three spaces), the number of the test and the length of what follows, both 32 bits, big-endian. The program
 * writes into pipes, never to the port, so nothing that it prints can pass for a verdict.
 *
 *   R  the guest is up            B  the test begins       X  it ended: "exit N", "signal N",
 *   D  all is done                O  standard output          "timeout", "start ERRNO"
 *   F  the guest can't go on: why E  standard error
 *
 * A program that runs longer than SECONDS is killed with all that it has started; before that, standard error tells where each of
 * its threads stands: its call into the kernel, with the stack and the place it came from. What descendants
 * write after it has ended is not waited for.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_NO_PORT 99

struct frame_head {
	char magic[4];
	char kind[4]; /* one letter, padded with spaces */
	uint32_t number;
	uint32_t n_bytes;
};

static void write_all(int port, const void *data, size_t n_bytes)
{
	for (size_t done = 0; done < n_bytes;) {
		ssize_t n = write(port, (const char *)data + done, n_bytes - done);
		if (n < 0 && errno != EINTR)
			_exit(EXIT_NO_PORT);
		if (n > 0)
			done += (size_t)n;
	}
}

static void send_frame(int port, char kind, uint32_t number, const void *data, size_t n_bytes)
{
	struct frame_head head = {
		.magic = "QVM1", .kind = "    ", .number = htonl(number), .n_bytes = htonl((uint32_t)n_bytes)};
	head.kind[0] = kind;
	write_all(port, &head, sizeof(head));
	write_all(port, data, n_bytes);
}

static void send_text(int port, char kind, uint32_t number, const char *text)
{
	send_frame(port, kind, number, text, strlen(text));
}

/* Passes on what is there. False at the end of the stream, or if nothing more is there now. */
static int pass_on(int port, char kind, uint32_t number, int from)
{
	char buf[16384];
	ssize_t n = read(from, buf, sizeof(buf));
	if (n <= 0)
		return 0;
	send_frame(port, kind, number, buf, (size_t)n);
	return 1;
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static pid_t start(char **argv, int *ret_out, int *ret_err, int *ret_failure)
{
	int out[2], err[2], failure[2];
	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 || pipe2(failure, O_CLOEXEC) != 0)
		return -1;
	pid_t child = fork();
	if (child == 0) {
		setpgid(0, 0);
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		execv(argv[0], argv);
		int why = errno;
		write_all(failure[1], &why, sizeof(why));
		_exit(EXIT_NO_PORT);
	}
	close(out[1]);
	close(err[1]);
	close(failure[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	*ret_out = out[0];
	*ret_err = err[0];
	*ret_failure = failure[0];
	return child;
}

/* Of one file of a thread, up to its first line's end. */
static void tell_line(int port, uint32_t number, pid_t pid, const char *tid, const char *file)
{
	char path[128], line[512];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", (int)pid, tid, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof(line) - 2);
	if (fd >= 0)
		close(fd);
	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	send_frame(port, 'E', number, line, strlen(line));
	send_frame(port, 'E', number, "  ", 2);
}

static void tell_threads(int port, uint32_t number, pid_t pid)
{
	char path[64];
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		tell_line(port, number, pid, entry->d_name, "comm");
		tell_line(port, number, pid, entry->d_name, "wchan");
		tell_line(port, number, pid, entry->d_name, "syscall");
		send_frame(port, 'E', number, "\n", 1);
	}
	if (tasks != NULL)
		closedir(tasks);
	/* And what code stands where. */
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	char line[512];
	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
		if (strstr(line, " r-xp ") != NULL)
			send_frame(port, 'E', number, line, strlen(line));
	if (maps != NULL)
		fclose(maps);
}

/* Passes on output until the program ends. False if it had to be killed. */
static int follow(int port, uint32_t number, pid_t child, const int from[2], int64_t limit_ms)
{
	int64_t end_ms = now_ms() + limit_ms;
	struct pollfd fds[3] = {{.fd = from[0], .events = POLLIN},
	                        {.fd = from[1], .events = POLLIN},
	                        {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN}};
	while (fds[2].revents == 0 && now_ms() < end_ms) {
		poll(fds, 3, (int)(end_ms - now_ms()));
		for (int i = 0; i < 2; i++)
			if (fds[i].revents != 0 && !pass_on(port, "OE"[i], number, fds[i].fd))
				fds[i].fd = -1;
	}
	int in_time = fds[2].revents != 0;
	if (!in_time)
		tell_threads(port, number, child);
	kill(-child, SIGKILL);
	for (int i = 0; i < 2; i++)
		while (pass_on(port, "OE"[i], number, from[i]))
			;
	return in_time;
}

static int run(int port, uint32_t number, int64_t limit_ms, char **argv)
{
	int from[2], failure, why;
	send_text(port, 'B', number, argv[0]);
	pid_t child = start(argv, &from[0], &from[1], &failure);
	if (child < 0)
		return 1;
	int in_time = follow(port, number, child, from, limit_ms);

	int status;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	char text[64];
	if (read(failure, &why, sizeof(why)) == sizeof(why))
		snprintf(text, sizeof(text), "start %d", why);
	else if (!in_time)
		snprintf(text, sizeof(text), "timeout");
	else if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "signal %d", WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(status));
	send_text(port, 'X', number, text);
	return 0;
}

int main(int argc, char **argv)
{
	int port = argc < 4 ? -1 : open(argv[1], O_WRONLY | O_CLOEXEC);
	if (port < 0) {
		fprintf(stderr, "agent: %s\n", argc < 4 ? "arguments" : strerror(errno));
		return EXIT_NO_PORT;
	}
	if (strcmp(argv[2], "say") == 0) {
		send_text(port, argv[3][0], 0, argc > 4 ? argv[4] : "");
		return 0;
	}
	if (strcmp(argv[2], "run") == 0 && argc > 5)
		return run(port, (uint32_t)atoi(argv[3]), atoll(argv[4]) * 1000, argv + 5);
	return EXIT_NO_PORT;
}
