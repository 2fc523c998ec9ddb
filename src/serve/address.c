/* address.c - an address has room for 107 bytes; by way of its directory's descriptor, a path may be longer. */
#include "address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int address_of(const char *path, struct sockaddr_un *ret)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);

	if (*name == '\0' || len >= sizeof(dir))
		return -EINVAL;
	memcpy(dir, len > 0 ? path : ".", len > 0 ? len : 1);
	dir[len > 0 ? len : 1] = '\0';
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", fd, name);
	if (n < (int)sizeof(ret->sun_path))
		return fd;
	close(fd);
	return -ENAMETOOLONG;
}

#define PAUSES 200
#define PAUSE_NS 5000000l

/* The process that listens, of a socket that is connected, is no more. What it has forked may listen all the same. */
static bool listener_is_gone(int fd)
{
	struct ucred peer = {.pid = 0};
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0 && kill(peer.pid, 0) < 0 && errno == ESRCH;
}

int address_clear(const struct sockaddr_un *address, int type)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	for (int i = 0; i < PAUSES; i++) {
		int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return -errno;
		int rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
		bool again = rc == 0 && listener_is_gone(fd);
		close(fd);
		if (rc == -ECONNREFUSED)
			return unlink(address->sun_path) < 0 ? -errno : 0;
		if (!again)
			break;
		nanosleep(&pause, NULL);
	}
	return -EADDRINUSE;
}
