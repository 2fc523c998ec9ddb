/* volume_image.c - images that are not raw: qemu-img reads or writes them, as a client of a server of our own.
 *
 * The server has a thread, and a socket in a directory that only this user may enter. What qemu-img says when it fails is passed on, its last
 * line. A verb that is canceled ends it.
 */
#include "volume_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAID_BYTES 65536u

extern char **environ;

/* ---- qemu-img ---- */

/* What it says, to either of its outputs, up to SAID_BYTES. */
static void listen_to(struct session *s, int fd, pid_t pid, char *said)
{
	char rest[512];
	size_t n = 0;
	ssize_t got;

	do {
		bool room = n < SAID_BYTES - 1;
		got = read(fd, room ? said + n : rest, room ? SAID_BYTES - 1 - n : sizeof(rest));
		n += got > 0 && room ? (size_t)got : 0;
		if (got < 0 && atomic_load(&s->canceled))
			(void)kill(pid, SIGTERM);
	} while (got > 0 || (got < 0 && errno == EINTR));
	said[n] = '\0';
}

static int spawn(const char *const *words, int out, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, out, 2);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	/* Neither words nor environment are changed; the prototype is older than const. */
	int failed = posix_spawnp(ret_pid, words[0], &actions, &attributes, (char *const *)(uintptr_t)words, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return failed;
}

static int fail_by(struct session *s, const struct volume_args *args, char *said)
{
	size_t n = strlen(said);

	while (n > 0 && said[n - 1] == '\n')
		said[--n] = '\0';
	char *line = strrchr(said, '\n');
	if (atomic_load(&s->canceled))
		return session_fail(s, args->other, "interrupted");
	return session_fail(s, args->other, "%s", n == 0 ? "qemu-img failed" : line != NULL ? line + 1 : said);
}

/* said: of SAID_BYTES. */
static int run_tool(struct session *s, const struct volume_args *args, const char *const *words, char *said)
{
	int fds[2], status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return session_fail(s, "qemu-img", "%s", strerror(errno));
	int failed = spawn(words, fds[1], &pid);
	close(fds[1]);
	if (failed == 0) {
		listen_to(s, fds[0], pid, said);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			if (atomic_load(&s->canceled))
				(void)kill(pid, SIGTERM);
	}
	close(fds[0]);
	if (failed != 0)
		return session_fail(s, "qemu-img", "%s", failed == ENOENT ? "not installed: only raw images can be read and written" : strerror(failed));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? CLI_DONE : fail_by(s, args, said);
}

/* The caller's file for another process: never what looks like a protocol or an option. */
static char *path_for(struct session *s, const char *file)
{
	char *path = session_path(s, file), *safe = NULL;

	if (path == NULL || path[0] == '/')
		return path;
	if (asprintf(&safe, "./%s", path) < 0)
		safe = NULL;
	free(path);
	return safe;
}

/* ---- its size ---- */

/* The number behind "virtual-size" in the outermost object; inner ones are of files below the image. */
static bool find_size(const char *json, uint64_t *ret_bytes)
{
	static const char key[] = "\"virtual-size\":";
	unsigned depth = 0;

	for (bool quoted = false; *json != '\0'; json++) {
		if (!quoted && depth == 1 && strncmp(json, key, sizeof(key) - 1) == 0) {
			json += sizeof(key) - 1;
			json += strspn(json, " ");
			char *end;
			*ret_bytes = strtoull(json, &end, 10);
			return end != json;
		}
		if (quoted && *json == '\\' && json[1] != '\0')
			json++;
		else if (*json == '"')
			quoted = !quoted;
		else if (!quoted)
			depth += *json == '{' || *json == '[' ? 1u : *json == '}' || *json == ']' ? -1u : 0u;
	}
	return false;
}

int volume_image_bytes(struct session *s, const struct volume_args *args, uint64_t *ret_bytes)
{
	char *path = path_for(s, args->other), *said = malloc(SAID_BYTES);
	const char *const words[] = {"qemu-img", "info", "--output=json", "-f", args->format, path, NULL};
	int rc = CLI_FAILED;

	if (path == NULL || said == NULL)
		(void)session_fail(s, args->other, "%s", strerror(ENOMEM));
	else
		rc = run_tool(s, args, words, said);
	if (rc == CLI_DONE && !find_size(said, ret_bytes))
		rc = session_fail(s, args->other, "qemu-img does not tell its size");
	free(path);
	free(said);
	return rc;
}

/* ---- serving ---- */

struct image {
	struct quire_nbd *nbd;  /* owned */
	pthread_t thread;
	char directory[32], socket[48];
};

static void *serve(void *arg)
{
	struct image *image = arg;

	(void)quire_nbd_run(image->nbd);
	return NULL;
}

static int start(struct image *image, struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_error err;

	snprintf(image->directory, sizeof(image->directory), "/tmp/quire-image-XXXXXX");
	if (mkdtemp(image->directory) == NULL) {
		int code = session_fail(s, image->directory, "%s", strerror(errno));
		image->directory[0] = '\0';
		return code;
	}
	snprintf(image->socket, sizeof(image->socket), "%s/s", image->directory);
	if (quire_nbd_create(NULL, &image->nbd, &err) < 0 ||
	    quire_nbd_add_volume(image->nbd, "v", group, args->name, args->what == VOLUME_EXPORT ? QUIRE_NBD_READ_ONLY : 0, &err) < 0 ||
	    quire_nbd_listen_unix(image->nbd, image->socket, &err) < 0)
		return session_fail_text(s, err.text);
	int failed = pthread_create(&image->thread, NULL, serve, image);
	return failed != 0 ? session_fail(s, "a thread", "%s", strerror(failed)) : CLI_DONE;
}

static int convert(struct session *s, const struct volume_args *args, const char *socket)
{
	char url[96], *path = path_for(s, args->other), *said = malloc(SAID_BYTES);
	bool in = args->what == VOLUME_IMPORT;
	const char *const import[] = {"qemu-img", "convert", "-n", "-f", args->format, "-O", "raw", path, url, NULL};
	const char *const export[] = {"qemu-img", "convert", "-f", "raw", "-O", args->format, url, path, NULL};
	int rc = CLI_FAILED;

	snprintf(url, sizeof(url), "nbd+unix:///v?socket=%s", socket);
	if (path == NULL || said == NULL)
		(void)session_fail(s, args->other, "%s", strerror(ENOMEM));
	else
		rc = run_tool(s, args, in ? import : export, said);
	free(path);
	free(said);
	return rc;
}

int volume_image(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct image image = {.nbd = NULL};
	int rc = start(&image, s, args, group);

	if (rc == CLI_DONE) {
		rc = convert(s, args, image.socket);
		quire_nbd_stop(image.nbd);
		pthread_join(image.thread, NULL);
	}
	int closed = quire_nbd_destroy(image.nbd);
	if (closed < 0 && rc == CLI_DONE)
		rc = volume_fail(s, args->name, closed);
	if (image.directory[0] != '\0')
		(void)rmdir(image.directory);
	return rc;
}
