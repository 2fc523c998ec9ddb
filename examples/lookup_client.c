/* lookup_client.c - tries a lookup server (server_want.c, server_suspend.c): starts it, asks it for records
 * by many connections at once, compares every byte, and ends it.
 *
 *   lookup_client SERVER
 *
 * The files are its own, three times as large as the server's budget; every other request is for a few hot pages.
 * Nothing of Quire is used here. If the server can't run on this machine, its exit status is the client's.
 */
#include "lookup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_FILES 3u
#define FILE_BYTES (8u << 20)
#define BUDGET_MIB "8"
#define N_CONNECTIONS 24u
#define N_REQUESTS 200u /* of each */
#define HOT_BYTES (256u << 10)

static char dir[128], paths[N_FILES][160], socket_path[160];
static unsigned char *contents[N_FILES];

static void clean_up(void)
{
	for (unsigned i = 0; i < N_FILES; i++) {
		unlink(paths[i]);
		free(contents[i]);
	}
	unlink(socket_path);
	rmdir(dir);
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "lookup_client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t random_from(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void make_files(void)
{
	const char *tmp = getenv("TMPDIR");
	uint64_t state = 88172645463325252u;
	snprintf(dir, sizeof(dir), "%.90s/lookup-XXXXXX", tmp != NULL ? tmp : "/tmp");
	check(mkdtemp(dir) != NULL, dir);
	check(atexit(clean_up) == 0, "atexit");
	snprintf(socket_path, sizeof(socket_path), "%s/socket", dir);
	for (unsigned i = 0; i < N_FILES; i++) {
		contents[i] = malloc(FILE_BYTES);
		check(contents[i] != NULL, "memory");
		for (size_t at = 0; at < FILE_BYTES; at += sizeof(state)) {
			random_from(&state);
			memcpy(contents[i] + at, &state, sizeof(state));
		}
		snprintf(paths[i], sizeof(paths[i]), "%s/%u", dir, i);
		FILE *file = fopen(paths[i], "wb");
		check(file != NULL && fwrite(contents[i], 1, FILE_BYTES, file) == FILE_BYTES && fclose(file) == 0, paths[i]);
	}
}

/* Returns when it listens: it says so by its first line. */
static pid_t start(const char *server)
{
	int said[2];
	char line[256];
	check(pipe(said) == 0, "pipe");
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* if the client fails */
		dup2(said[1], STDOUT_FILENO);
		close(said[0]);
		close(said[1]);
		execl(server, server, socket_path, BUDGET_MIB, paths[0], paths[1], paths[2], (char *)NULL);
		_exit(127);
	}
	close(said[1]);
	dup2(said[0], STDIN_FILENO);
	close(said[0]);
	check(fgets(line, sizeof(line), stdin) != NULL, server);
	if (strstr(line, "listening") == NULL) {
		int status;
		fputs(line, stdout);
		waitpid(pid, &status, 0);
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	return pid;
}

/* Returns the answer's error. */
static int ask(int socket, const struct lookup_request *request, unsigned char *record)
{
	struct lookup_answer head;
	check(send(socket, request, sizeof(*request), MSG_NOSIGNAL) == sizeof(*request), "send");
	check(recv(socket, &head, sizeof(head), MSG_WAITALL) == sizeof(head), "receive");
	check(head.len_bytes == (head.error == 0 ? request->len_bytes : 0), "length of the answer");
	check(head.len_bytes == 0 || recv(socket, record, head.len_bytes, MSG_WAITALL) == head.len_bytes, "receive");
	return head.error;
}

static void *client(void *arg)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const struct lookup_request bad[] = {
		{N_FILES, 1, 0}, {0, 2, FILE_BYTES - 1}, {0, 1, UINT64_MAX}, {1, LOOKUP_MAX_BYTES + 1, 0}};
	unsigned char record[LOOKUP_MAX_BYTES];
	uint64_t state = 362436069u * (uint64_t)((uintptr_t)arg + 1);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, socket_path);
	check(s >= 0 && connect(s, (struct sockaddr *)&at, sizeof(at)) == 0, "connect");
	for (unsigned i = 0; i < N_REQUESTS; i++) {
		uint64_t offset = random_from(&state) % (random_from(&state) % 2 == 0 ? FILE_BYTES : HOT_BYTES);
		struct lookup_request r = {.file = (uint32_t)(random_from(&state) % N_FILES), .offset = offset};
		uint64_t most = FILE_BYTES - offset < LOOKUP_MAX_BYTES ? FILE_BYTES - offset : LOOKUP_MAX_BYTES;
		r.len_bytes = (uint32_t)(random_from(&state) % (most + 1));
		check(ask(s, &r, record) == 0, "a record");
		check(memcmp(record, contents[r.file] + offset, r.len_bytes) == 0, "other bytes than the file's");
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check(ask(s, &bad[i], record) == -EINVAL, "a key outside its file");
	close(s);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[N_CONNECTIONS];
	char line[256] = "";
	int status;
	if (argc != 2)
		return fprintf(stderr, "usage: lookup_client SERVER\n"), 2;
	make_files();
	pid_t server = start(argv[1]);
	for (uintptr_t i = 0; i < N_CONNECTIONS; i++)
		check(pthread_create(&threads[i], NULL, client, (void *)i) == 0, "thread");
	for (unsigned i = 0; i < N_CONNECTIONS; i++)
		pthread_join(threads[i], NULL);

	kill(server, SIGTERM);
	check(fgets(line, sizeof(line), stdin) != NULL, "the server's last words");
	fputs(line, stdout);
	check(waitpid(server, &status, 0) == server && status == 0, "the server's end");
	printf("%u connections, %u records each, all right\n", N_CONNECTIONS, N_REQUESTS);
	return 0;
}
