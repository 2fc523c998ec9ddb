/* lookup.c - what the lookup servers share: files into a map, and sockets in coroutines.
 *
 * A socket is tried first and waited for only if there is nothing: then quire_poll_fd suspends the
 * coroutine, and the loop runs others.
 */
#include "lookup.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int lookup_map(struct quire_cache *cache, char **paths, size_t n, enum quire_fault fault,
               struct quire_map **ret_map, struct quire_error *err)
{
	const struct quire_map_options options = {.size = sizeof(options), .fault = fault};
	struct quire_item *items = calloc(n, sizeof(*items));
	if (items == NULL) {
		*err = (struct quire_error){-ENOMEM, "files: no memory"};
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		items[i].path = paths[i];
	int rc = quire_map_create(cache, items, n, &options, ret_map, err);
	free(items);
	return rc;
}

int lookup_find(const struct quire_map *map, const struct lookup_request *request, const void **ret_record)
{
	const void *item;
	size_t len;
	int rc = quire_map_item(map, request->file, &item, &len);
	if (rc < 0)
		return rc;
	if (request->len_bytes > LOOKUP_MAX_BYTES || request->offset > len || request->len_bytes > len - request->offset)
		return -EINVAL;
	*ret_record = (const char *)item + request->offset;
	return 0;
}

int lookup_listen(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	strcpy(at.sun_path, path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0)
		return -errno;
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(listener, 128) == 0)
		return listener;
	int rc = -errno;
	close(listener);
	return rc;
}

int lookup_accept(int listener)
{
	for (;;) {
		int socket = accept(listener, NULL, NULL);
		if (socket >= 0)
			return socket;
		if (errno == EAGAIN) {
			int64_t events = quire_poll_fd(listener, POLLIN, NULL);
			if (events < 0 || (events & POLLHUP)) /* after shutdown; accept would say EAGAIN for ever */
				return events < 0 ? (int)events : -ESHUTDOWN;
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			quire_sleep_ns(10 * 1000 * 1000, NULL); /* until somebody hangs up */
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return -errno;
		}
	}
}

/* After a system call that said so: waits until there may be more. False: it failed for good. */
static bool wait_for(int socket, unsigned events)
{
	if (errno == EAGAIN)
		return quire_poll_fd(socket, events, NULL) >= 0;
	return errno == EINTR;
}

bool lookup_receive(int socket, struct lookup_request *ret_request)
{
	struct lookup_request request;
	size_t done = 0;
	while (done < sizeof(request)) {
		ssize_t n = recv(socket, (char *)&request + done, sizeof(request) - done, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && !wait_for(socket, POLLIN)))
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	*ret_request = request;
	return true;
}

bool lookup_send(int socket, int error, const void *record, uint32_t len_bytes)
{
	struct lookup_answer head = {.error = error, .len_bytes = error == 0 ? len_bytes : 0};
	struct iovec parts[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)record, head.len_bytes}};
	size_t left = sizeof(head) + head.len_bytes;
	while (left > 0) {
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		ssize_t n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && !wait_for(socket, POLLOUT))
			return false;
		left -= n > 0 ? (size_t)n : 0;
		for (unsigned i = 0; i < 2 && n > 0; i++) {
			size_t taken = (size_t)n < parts[i].iov_len ? (size_t)n : parts[i].iov_len;
			parts[i].iov_base = (char *)parts[i].iov_base + taken;
			parts[i].iov_len -= taken;
			n -= (ssize_t)taken;
		}
	}
	return true;
}

int lookup_stop_fd(void)
{
	sigset_t stop;
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	if (sigprocmask(SIG_BLOCK, &stop, NULL) < 0)
		return -errno;
	int fd = signalfd(-1, &stop, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
