/* nbd_fuzz.c - whatever a client may say, in one process: the server's loop, and a coroutine on it that says it.
 *
 * An input's first byte says how it begins, the rest are the client's bytes:
 *   bit 0   the handshake is done for it, up to the transmission phase
 *   bit 1   on a server that encrypts (bit 0 is then not looked at)
 *   bit 2   what is said comes in small pieces
 * After each, nothing may be left: no connection, no request, no byte of the budget.
 *
 * As a program of its own it tries each file of a directory, and then changes of them, at random, for a second (with QUIRE_TEST_LONG ten
 * minutes under AddressSanitizer, else one); the seed is printed and taken (QUIRE_TEST_SEED), and QUIRE_FUZZ_LAST names a file for
 * the input that is being tried. Built with -DLIBFUZZER it is libFuzzer's target: see docs/testing.md.
 */
#include "../../src/base/assert.h"
#include "serve/nbd_internal.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MOST_BYTES 65536u
#define SMALL_DISK_BYTES 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

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
	static uint8_t said[INPUT_MOST_BYTES + 512];
	size_t n = 0;

	if (n_bytes == 0 || n_bytes > INPUT_MOST_BYTES)
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

/* ---- as a program of its own ---- */

#ifndef LIBFUZZER

struct input {
	uint8_t *bytes; /* owned */
	size_t n_bytes;
};

static uint64_t next_random(uint64_t *seed)
{
	*seed += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = (*seed ^ *seed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* What programs get wrong: lengths and offsets at the edges. */
static uint32_t odd_number(uint64_t *seed)
{
	static const uint32_t numbers[] = {0, 1, 4, 6, 10, 511, 512, 4096, 4097, 65535, 65536, 65537, 1u << 20, (1u << 20) + 1,
	                                   32u << 20, (32u << 20) + 1, 64u << 20, 0x7fffffff, 0x80000000, 0xffffffff};

	return numbers[next_random(seed) % (sizeof(numbers) / sizeof(numbers[0]))];
}

static void change_once(uint8_t *bytes, size_t *n_bytes, const struct input *other, uint64_t *seed)
{
	size_t at = next_random(seed) % *n_bytes, n;

	switch (next_random(seed) % 7) {
	case 0:
		bytes[at] ^= (uint8_t)(1u << next_random(seed) % 8);
		break;
	case 1:
		bytes[at] = (uint8_t)next_random(seed);
		break;
	case 2:
		if (at + 4 <= *n_bytes)
			nbd_put32(bytes + at, odd_number(seed));
		break;
	case 3:
		*n_bytes = at + 1;
		break;
	case 4: /* something twice */
		n = next_random(seed) % 64;
		if (at + n <= *n_bytes && *n_bytes + n <= INPUT_MOST_BYTES) {
			memmove(bytes + at + n, bytes + at, *n_bytes - at);
			*n_bytes += n;
		}
		break;
	case 5: /* something less */
		n = next_random(seed) % 64;
		if (at + n < *n_bytes) {
			memmove(bytes + at, bytes + at + n, *n_bytes - at - n);
			*n_bytes -= n;
		}
		break;
	default: /* another one's end */
		n = other->n_bytes - next_random(seed) % other->n_bytes;
		if (at + n <= INPUT_MOST_BYTES) {
			memcpy(bytes + at, other->bytes + other->n_bytes - n, n);
			*n_bytes = at + n;
		}
	}
}

static unsigned read_corpus(const char *path, struct input **ret)
{
	struct dirent **entries;
	int n_entries = scandir(path, &entries, NULL, alphasort);
	unsigned n = 0;

	*ret = calloc(n_entries > 0 ? (size_t)n_entries : 1, sizeof(**ret));
	for (int i = 0; i < n_entries; i++) {
		char name[4096];
		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		FILE *file = entries[i]->d_name[0] == '.' ? NULL : fopen(name, "re");
		free(entries[i]);
		if (file == NULL)
			continue;
		struct input *input = &(*ret)[n++];
		input->bytes = malloc(INPUT_MOST_BYTES);
		input->n_bytes = fread(input->bytes, 1, INPUT_MOST_BYTES, file);
		fclose(file);
		n -= input->n_bytes == 0;
	}
	if (n_entries >= 0)
		free(entries);
	return n;
}

static uint64_t seconds_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

/* As many as the time allows; how many that were. */
static uint64_t try_changes(const struct input *inputs, unsigned n, uint64_t seed, uint64_t seconds)
{
	uint64_t end_ns = loop_now_ns() + seconds * UINT64_C(1000000000), count = 0;
	uint8_t *bytes = malloc(INPUT_MOST_BYTES);

	for (; loop_now_ns() < end_ns; count++) {
		const struct input *input = &inputs[next_random(&seed) % n];
		size_t n_bytes = input->n_bytes;
		memcpy(bytes, input->bytes, n_bytes);
		for (uint64_t k = 1 + next_random(&seed) % 8; k > 0; k--)
			change_once(bytes, &n_bytes, &inputs[next_random(&seed) % n], &seed);
		FILE *last = getenv("QUIRE_FUZZ_LAST") != NULL ? fopen(getenv("QUIRE_FUZZ_LAST"), "we") : NULL;
		if (last != NULL) {
			fwrite(bytes, 1, n_bytes, last);
			fclose(last);
		}
		(void)LLVMFuzzerTestOneInput(bytes, n_bytes);
	}
	free(bytes);
	return count;
}

int main(int argc, char **argv)
{
	struct input *inputs;
	unsigned n = argc > 1 ? read_corpus(argv[1], &inputs) : 0;
	uint64_t seconds = getenv("QUIRE_TEST_LONG") == NULL ? 1 : getenv("QUIRE_SANITIZED") != NULL ? 600 : 60;

	if (n == 0) {
		fprintf(stderr, "usage: %s DIRECTORY [SECONDS]: no inputs there\n", argv[0]);
		return 2;
	}
	seconds = argc > 2 ? strtoull(argv[2], NULL, 0) : seconds;
	uint64_t seed = seconds_from("QUIRE_TEST_SEED", (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32);
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	for (unsigned i = 0; i < n; i++)
		(void)LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].n_bytes);
	uint64_t count = try_changes(inputs, n, seed, seconds);
	printf("%u inputs and %llu changes of them\n", n, (unsigned long long)count);
	for (unsigned i = 0; i < n; i++)
		free(inputs[i].bytes);
	free(inputs);
	return 0;
}

#endif
