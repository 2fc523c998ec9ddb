/* memcached_servers.h - the words that name memcached servers. For src/serve alone. */
#ifndef SERVE_MEMCACHED_SERVERS_H
#define SERVE_MEMCACHED_SERVERS_H

#include <quire/error.h>

#include <netdb.h>
#include <netinet/in.h>

struct memcached_server {
	char host[NI_MAXHOST]; /* an address in figures; of a Unix socket, its path */
	in_port_t port;        /* 0: it is a Unix socket */
};

/* The server that *list begins with, which is left at what follows it; looks names up, so it may block. 1; 0: there is no more; -EINVAL; -ENOENT: the
 * name is not known. */
int memcached_servers_next(const char **list, struct memcached_server *ret, struct quire_error *err);

#endif
