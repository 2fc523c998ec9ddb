/* nbd_fuzz.c - whatever a client may say, in one process: the server's loop, and a coroutine on it that says it.
 *
 * An input's first byte says how it begins, the rest are the client's bytes:
 *   bit 0   the handshake is done for it, up to the transmission phase
 *   bit 1   on a server that encrypts (bit 0 is then not looked at)
 *   bit 2   what is said comes in small pieces
 * After each, nothing may be left: no connection, no request, no byte of the budget.
 */
#include "../support/fuzz.h"
#include "../../src/base/assert.h"
#include "serve/nbd_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SMALL_DISK_BYTES 65536u

/* What a client says, and whoever says it. */
struct client {
	const uint8_t *bytes;
	size_t n_bytes, said, piece;
	int fd;
};

/* ---- one input ---- */

/* Says what can be said, throws away what comes; true while there is more of either. */
static bool talk(struct client *c)
{
	static uint8_t thrown_away[65536];

	while (c->said < c->n_bytes) {
		size_t left = c->n_bytes - c->said;
		ssize_t n = send(c->fd, c->bytes + c->said, left < c->piece ? left : c->piece, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			c->said = c->n_bytes; /* it has hung up */
		if (n <= 0)
			break;
		c->said += (size_t)n;
		if (c->piece < c->n_bytes)
			(void)quire_co_yield();
	}
	if (c->said == c->n_bytes)
		(void)shutdown(c->fd, SHUT_WR);
	for (;;) {
		ssize_t n = recv(c->fd, thrown_away, sizeof(thrown_away), MSG_DONTWAIT);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
	}
}

static void run_client(void *arg)
{
	struct client *c = arg;

	while (talk(c))
		(void)quire_poll_fd(c->fd, POLLIN | (c->said < c->n_bytes ? POLLOUT : 0), NULL);
	close(c->fd);
}

static void try(struct quire_nbd *nbd, struct client *c)
{
	int pair[2];

	quire_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	c->fd = pair[0];
	struct nbd_connection *connection = nbd_connection_create(nbd, pair[1]);
	quire_assert(connection != NULL && nbd_connection_start(connection) == 0);
	quire_assert(quire_co_spawn(nbd->loop, run_client, c) == 0);
	quire_assert(quire_loop_run(nbd->loop) == 0);
	quire_assert(nbd->n_connections == 0 && nbd->connections == NULL);
	quire_assert(nbd->budget.free_bytes == nbd->limits.bytes && nbd->budget.hungry == NULL);
	quire_assert(nbd->exports[0]->n_users == 0);
}

/* ---- servers ---- */

static struct quire_nbd *make_server(const char *psk)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .tls_psk = psk, .requests = 16, .bytes = 32u << 20,
	                                 .connection_bytes = 32u << 20};
	struct quire_nbd *nbd;

	if (quire_nbd_create(&opts, &nbd, NULL) < 0)
		return NULL;
	quire_assert(quire_nbd_add_memory(nbd, "disk", SMALL_DISK_BYTES, NULL) == 0);
	return nbd;
}

/* NULL where GnuTLS is not to be had. */
static struct quire_nbd *make_encrypting_server(void)
{
	char path[] = "/tmp/quire-fuzz-XXXXXX";
	const char keys[] = "somebody:00112233445566778899aabbccddeeff\n";
	int fd = mkstemp(path);

	quire_assert(fd >= 0 && write(fd, keys, sizeof(keys) - 1) == sizeof(keys) - 1);
	close(fd);
	struct quire_nbd *nbd = make_server(path);
	unlink(path);
	return nbd;
}

/* The client's half of a good handshake: structured replies, both contexts, GO. */
static size_t put_handshake(uint8_t *to)
{
	static const char *const contexts[] = {"base:allocation", "qemu:allocation-depth"};
	uint8_t *at = nbd_put32(to, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);

	at = nbd_put32(nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_STRUCTURED_REPLY), 0);
	uint8_t *length = nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_SET_META_CONTEXT);
	at = nbd_put32(nbd_put32(nbd_put32(length, 0), 0), 2);
	for (unsigned i = 0; i < 2; i++) {
		at = nbd_put32(at, (uint32_t)strlen(contexts[i]));
		memcpy(at, contexts[i], strlen(contexts[i]));
		at += strlen(contexts[i]);
	}
	nbd_put32(length, (uint32_t)(at - length - 4));
	at = nbd_put32(nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_GO), 6);
	at = nbd_put16(nbd_put32(at, 0), 0);
	return (size_t)(at - to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct quire_nbd *plain, *encrypting;
	static uint8_t said[FUZZ_INPUT_MOST_BYTES + 512];
	size_t n = 0;

	if (n_bytes == 0 || n_bytes > FUZZ_INPUT_MOST_BYTES)
		return 0;
	if (plain == NULL) {
		plain = make_server(NULL);
		encrypting = make_encrypting_server();
		quire_assert(plain != NULL);
	}
	bool encrypts = data[0] & 2 && encrypting != NULL;
	if (data[0] & 1 && !encrypts)
		n = put_handshake(said);
	memcpy(said + n, data + 1, n_bytes - 1);
	struct client client = {.bytes = said, .n_bytes = n + n_bytes - 1, .piece = data[0] & 4 ? 7 : sizeof(said)};
	try(encrypts ? encrypting : plain, &client);
	return 0;
}
