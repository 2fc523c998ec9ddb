/* lookup.h - what the lookup servers (server_want.c, server_suspend.c) and lookup_client.c agree on.
 *
 * A client connects to a Unix socket, sends requests and gets one answer to each, in order: a head, and
 * then the record's bytes if there was no error. Numbers are the machine's own: both ends are on it.
 */
#ifndef LOOKUP_H
#define LOOKUP_H

#include <quire/map.h>

#define LOOKUP_MAX_BYTES 4096

/* A record's key: which file, where in it, how long. */
struct lookup_request {
	uint32_t file;
	uint32_t len_bytes;
	uint64_t offset;
};

struct lookup_answer {
	int32_t error; /* 0, or a negative errno and no bytes */
	uint32_t len_bytes;
};

/* ---- for the servers ---- */

/* Maps files and gives where the record of a request lies in the map. What comes from a
 * socket is not trusted: -EINVAL if it is outside its file. */
int lookup_map(struct quire_cache *cache, char **paths, size_t n, enum quire_fault fault,
               struct quire_map **ret_map, struct quire_error *err);
int lookup_find(const struct quire_map *map, const struct lookup_request *request, const void **ret_record);

/* A socket at that path, listening; or a negative errno. */
int lookup_listen(const char *path);

/* In a coroutine, which alone waits. accept: the next connection, or a negative errno once the listener
 * was shut down. receive, send: false when the client has hung up. */
int lookup_accept(int listener);
bool lookup_receive(int socket, struct lookup_request *ret_request);
bool lookup_send(int socket, int error, const void *record, uint32_t len_bytes);

/* SIGTERM and SIGINT become readable on the descriptor. To be called before there are threads. */
int lookup_stop_fd(void);

#endif
