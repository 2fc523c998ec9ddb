/* address.h - a path as a socket's address, however long it is. */
#ifndef SERVE_ADDRESS_H
#define SERVE_ADDRESS_H

#include <sys/un.h>

/* A descriptor of the directory, to be closed once the address was used; a negative errno. */
int address_of(const char *path, struct sockaddr_un *ret);

/* Makes way for a socket of that type: one that nobody listens at is a dead server's, and goes. -EEXIST: what is there is no socket;
 * -EADDRINUSE: somebody listens. May sleep for a second, where the process that listened is no more, but the kernel has not
 * closed its socket yet (an io_uring is taken down behind its process's end). */
int address_clear(const struct sockaddr_un *address, int type);

#endif
