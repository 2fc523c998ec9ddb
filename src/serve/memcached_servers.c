/* memcached_servers.c - see memcached_servers.h.
 *
 * Names are looked up once, before anything waits for an answer: looking up has no timeout of ours, and would be done again by libmemcached
 * at each new connection.
 */
#include "memcached_servers.h"

#include "../base/fail.h"
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* As in memcached_lib.c: static programs have no libmemcached, so they need none of these, which don't go well with them. */
#pragma weak getaddrinfo
#pragma weak freeaddrinfo
#pragma weak getnameinfo

#define DEFAULT_PORT "11211"
#define UNIX "unix:"

static int look_up(const char *host, const char *port, struct memcached_server *ret, struct quire_error *err)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char number[NI_MAXSERV];

	if (getaddrinfo == NULL || getaddrinfo(host, port, &hints, &found) != 0)
		return quire_fail(err, -ENOENT, "memcached: server %s:%s is not known", host, port);
	int rc = getnameinfo(found->ai_addr, found->ai_addrlen, ret->host, sizeof(ret->host), number, sizeof(number),
	                     NI_NUMERICHOST | NI_NUMERICSERV);
	freeaddrinfo(found);
	if (rc != 0)
		return quire_fail(err, -ENOENT, "memcached: server %s:%s is not known", host, port);
	ret->port = (in_port_t)strtoul(number, NULL, 10);
	return 1;
}

/* Cuts the port off: where it is, or the default; NULL: nonsense. */
static const char *cut_port(char *host)
{
	char *end = host[0] == '[' ? strchr(host, ']') : host;

	if (end == NULL)
		return NULL;
	char *colon = strchr(end, ':');
	if (host[0] == '[') {
		if (end[1] != '\0' && colon != end + 1)
			return NULL;
		*end = '\0';
		memmove(host, host + 1, strlen(host));
	}
	if (colon == NULL)
		return host[0] == '\0' ? NULL : DEFAULT_PORT;
	*colon = '\0';
	size_t n = strlen(colon + 1);
	bool number = n > 0 && n <= 5 && strspn(colon + 1, "0123456789") == n && strtoul(colon + 1, NULL, 10) - 1 < UINT16_MAX;
	return host[0] == '\0' || !number ? NULL : colon + 1;
}

int memcached_servers_next(const char **list, struct memcached_server *ret, struct quire_error *err)
{
	size_t n = strcspn(*list, ",");
	const char *behind = *list + n;
	char host[NI_MAXHOST];

	if (n == 0 && *behind == '\0')
		return 0;
	if (n == 0 || n >= sizeof(host) || (*behind == ',' && behind[1] == '\0'))
		return quire_fail(err, -EINVAL, "memcached servers \"%s\"", *list);
	memcpy(host, *list, n);
	host[n] = '\0';
	if (strncmp(host, UNIX, strlen(UNIX)) == 0) {
		const char *path = host + strlen(UNIX);
		if (path[0] == '\0' || strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
			return quire_fail(err, -EINVAL, "memcached server \"%s\"", host);
		memcpy(ret->host, path, strlen(path) + 1);
		ret->port = 0;
		*list = *behind == ',' ? behind + 1 : behind;
		return 1;
	}
	const char *port = cut_port(host);
	if (port == NULL)
		return quire_fail(err, -EINVAL, "memcached server \"%.*s\"", (int)n, *list);
	*list = *behind == ',' ? behind + 1 : behind;
	return look_up(host, port, ret, err);
}
