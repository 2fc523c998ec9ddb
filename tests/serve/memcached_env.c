/* memcached_env.c - see memcached_env.h. */
#include "memcached_env.h"

#include "../../src/serve/memcached_lib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_TRIES 5000u /* of a millisecond */

bool servers_can_run(void)
{
	const struct memcached_lib *lib;
	const char *path = getenv("PATH");
	char *paths = strdup(path != NULL ? path : "/usr/bin"), *rest = paths, *dir, file[4096];
	bool found = false;

	while ((dir = strsep(&rest, ":")) != NULL && !found)
		found = snprintf(file, sizeof(file), "%s/memcached", dir) < (int)sizeof(file) && access(file, X_OK) == 0;
	free(paths);
	if (!found)
		printf("skipped: memcached is not installed\n");
	else if (memcached_lib_get(&lib, NULL) < 0)
		printf("skipped: libmemcached is not installed\n");
	return found && memcached_lib_get(&lib, NULL) == 0;
}

/* A connection; -1: nobody listens. */
static int connect_to(const struct servers *s, unsigned i)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(i == 0 ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/%u", s->dir, i);
	const struct sockaddr *a = i == 0 ? (const struct sockaddr *)&in : (const struct sockaddr *)&un;
	if (connect(fd, a, i == 0 ? sizeof(in) : sizeof(un)) == 0)
		return fd;
	close(fd);
	return -1;
}

static unsigned free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
	close(fd);
	return ntohs(in.sin_port);
}

static void become_server(const struct servers *s, unsigned i)
{
	char path[128], port[16];
	sigset_t none;

	(void)snprintf(path, sizeof(path), "%s/%u", s->dir, i);
	(void)snprintf(port, sizeof(port), "%u", s->port);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It tells of connections that went while it was paused. */
	if (freopen("/dev/null", "w", stderr) == NULL)
		_exit(1);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (i == 0)
		(void)execlp("memcached", "memcached", "-u", "root", "-t", "1", "-m", "64", "-l", "127.0.0.1", "-p", port, (char *)NULL);
	else
		(void)execlp("memcached", "memcached", "-u", "root", "-t", "1", "-m", "64", "-s", path, (char *)NULL);
	_exit(1);
}

void server_start(struct servers *s, unsigned i)
{
	unsigned tries = 0;
	int fd;

	s->pids[i] = fork();
	assert_true(s->pids[i] >= 0);
	if (s->pids[i] == 0)
		become_server(s, i);
	while ((fd = connect_to(s, i)) < 0) {
		assert_true(++tries < MOST_TRIES);
		assert_int_equal(waitpid(s->pids[i], NULL, WNOHANG), 0);
		usleep(1000);
	}
	close(fd);
}

void servers_start_all(struct servers *s)
{
	*s = (struct servers){.dir = "/tmp/quire-memcached-XXXXXX", .port = free_port()};
	assert_non_null(mkdtemp(s->dir));
	(void)snprintf(s->words, sizeof(s->words), "127.0.0.1:%u,unix:%s/1,unix:%s/2", s->port, s->dir, s->dir);
	for (unsigned i = 0; i < N_SERVERS; i++)
		server_start(s, i);
}

void server_kill(struct servers *s, unsigned i)
{
	if (s->pids[i] == 0)
		return;
	assert_int_equal(kill(s->pids[i], SIGKILL), 0);
	assert_int_equal(waitpid(s->pids[i], NULL, 0), s->pids[i]);
	s->pids[i] = 0;
}

void server_pause(struct servers *s, unsigned i)
{
	int status;

	assert_int_equal(kill(s->pids[i], SIGSTOP), 0);
	assert_int_equal(waitpid(s->pids[i], &status, WUNTRACED), s->pids[i]);
	assert_true(WIFSTOPPED(status));
}

void server_resume(struct servers *s, unsigned i)
{
	assert_int_equal(kill(s->pids[i], SIGCONT), 0);
}

void servers_stop_all(struct servers *s)
{
	char path[128];

	for (unsigned i = 0; i < N_SERVERS; i++) {
		server_kill(s, i);
		(void)snprintf(path, sizeof(path), "%s/%u", s->dir, i);
		(void)unlink(path);
	}
	(void)rmdir(s->dir);
}

unsigned long server_n_values(const struct servers *s, unsigned i)
{
	char answer[8192];
	size_t n = 0;
	int fd = connect_to(s, i);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "stats\r\n", 7), 7);
	do {
		ssize_t k = read(fd, answer + n, sizeof(answer) - 1 - n);
		assert_true(k > 0);
		n += (size_t)k;
		answer[n] = '\0';
	} while (strstr(answer, "\nEND\r\n") == NULL);
	close(fd);
	const char *at = strstr(answer, "curr_items ");
	assert_non_null(at);
	return strtoul(at + strlen("curr_items "), NULL, 10);
}
