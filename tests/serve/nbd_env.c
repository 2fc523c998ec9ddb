/* nbd_env.c - see nbd_env.h. */
#include "nbd_env.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATIENCE_MS 60000
#define HANDSHAKE_MS 600000 /* unless the test says otherwise: no test is too slow for it */

struct fake *env_fake;

/* ---- the fake ---- */

static void fake_describe(struct export *e, struct export_description *ret)
{
	*ret = (struct export_description){
		.size_bytes = DISK_BYTES, .least_block = 512, .preferred_block = 4096, .flags = ((struct fake *)(void *)e)->flags};
}

/* The first read waits for the last one, so that replies come in the other order. */
static int fake_read(struct export *e, void *buf, uint64_t offset, uint32_t n_bytes)
{
	struct fake *f = (struct fake *)(void *)e;

	memset(buf, 'f', n_bytes);
	if (++f->n_waiting < f->wanted && f->first == NULL) {
		f->first = coro_self();
		coro_suspend();
	} else if (f->n_waiting == f->wanted && f->first != NULL) {
		coro_wake(f->first);
	}
	return f->result;
}

static int fake_write(struct export *e, const void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return ((struct fake *)(void *)e)->result;
}

static int fake_flush(struct export *e)
{
	return ((struct fake *)(void *)e)->result;
}

static int fake_zero(struct export *e, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	return ((struct fake *)(void *)e)->result;
}

/* Since generation g, every g-th block of 512 bytes has changed. */
static int fake_status(struct export *e, enum export_context context, uint64_t generation, uint64_t offset, uint32_t n_bytes,
                       struct export_extent *ret, unsigned most)
{
	unsigned n = 0;

	for (uint64_t at = offset; at < offset + n_bytes && n < most; at += 512)
		ret[n++] = (struct export_extent){512, context == EXPORT_SINCE ? at / 512 % generation == 0 : context + 1u};
	return (int)n;
}

static unsigned fake_contexts(struct export *e)
{
	return 1u << EXPORT_ALLOCATION | 1u << EXPORT_DEPTH | 1u << EXPORT_SINCE;
}

static bool fake_has_generation(struct export *e, uint64_t generation)
{
	return generation >= 1 && generation <= 30;
}

static unsigned fake_generations(struct export *e, uint64_t *ret, unsigned n)
{
	for (unsigned i = 0; i < 3; i++)
		ret[i] = 7 + i;
	return 3;
}

static int fake_close(struct export *e)
{
	free(e);
	return 0;
}

static const struct export_ops fake_ops = {
	.describe = fake_describe,
	.read = fake_read,
	.write = fake_write,
	.flush = fake_flush,
	.trim = fake_zero,
	.zero = fake_zero,
	.status = fake_status,
	.contexts = fake_contexts,
	.has_generation = fake_has_generation,
	.generations = fake_generations,
	.close = fake_close,
};

/* ---- the server ---- */

static void *serve(void *nbd)
{
	return (void *)(intptr_t)quire_nbd_run(nbd);
}

void env_start(struct env *env, const struct quire_nbd_options *opts, unsigned n_clients)
{
	struct quire_nbd_options o = opts != NULL ? *opts : (struct quire_nbd_options){.size = sizeof(o)};
	struct quire_error err;

	if (o.handshake_ms == 0)
		o.handshake_ms = HANDSHAKE_MS;
	memset(env, 0, sizeof(*env));
	assert_int_equal(quire_nbd_create(&o, &env->nbd, &err), 0);
	assert_int_equal(quire_nbd_add_memory(env->nbd, "disk", DISK_BYTES, &err), 0);
	assert_int_equal(quire_nbd_add_memory(env->nbd, "big", BIG_BYTES, &err), 0);
	env_fake = calloc(1, sizeof(*env_fake));
	env_fake->base.ops = &fake_ops;
	assert_int_equal(nbd_export_add(env->nbd, "fake", &env_fake->base, &err), 0);
	for (unsigned i = 0; i < n_clients; i++) {
		int pair[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		env->fds[env->n_clients++] = pair[0];
		assert_int_equal(quire_nbd_connect_fd(env->nbd, pair[1], &err), 0);
	}
	env_talk_to(env, 0);
	assert_int_equal(pthread_create(&env->thread, NULL, serve, env->nbd), 0);
	env->running = true;
}

void env_stop(struct env *env)
{
	void *result;

	quire_nbd_stop(env->nbd);
	assert_int_equal(pthread_join(env->thread, &result), 0);
	assert_int_equal((intptr_t)result, 0);
	assert_int_equal(quire_nbd_destroy(env->nbd), 0);
	for (unsigned i = 0; i < env->n_clients; i++)
		hang_up(env, i);
}

void env_talk_to(struct env *env, unsigned client)
{
	env->fd = env->fds[client];
}

void hang_up(struct env *env, unsigned client)
{
	if (env->fds[client] >= 0)
		close(env->fds[client]);
	env->fds[client] = -1;
}

/* ---- bytes ---- */

void say(struct env *env, const void *bytes, size_t n_bytes)
{
	say_both(env, bytes, n_bytes, NULL, 0);
}

/* In one piece if it is not long, so that a server that ends it at the head finds the rest there already. */
void say_both(struct env *env, const void *head, size_t head_bytes, const void *data, size_t n_bytes)
{
	struct iovec parts[] = {{(void *)(uintptr_t)head, head_bytes}, {(void *)(uintptr_t)data, n_bytes}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	while (parts[0].iov_len + parts[1].iov_len > 0) {
		ssize_t n = sendmsg(env->fd, &message, MSG_NOSIGNAL);
		if (n < 0 && env->ends && (errno == EPIPE || errno == ECONNRESET))
			return;
		if (n < 0)
			fail_msg("the server hung up while being told");
		for (unsigned i = 0; i < 2; i++) {
			size_t of_this = (size_t)n < parts[i].iov_len ? (size_t)n : parts[i].iov_len;

			parts[i].iov_base = (uint8_t *)parts[i].iov_base + of_this;
			parts[i].iov_len -= of_this;
			n -= (ssize_t)of_this;
		}
	}
}

static ssize_t hear_some(struct env *env, void *bytes, size_t n_bytes)
{
	struct pollfd p = {.fd = env->fd, .events = POLLIN};

	if (poll(&p, 1, PATIENCE_MS) != 1)
		fail_msg("the server says nothing");
	return recv(env->fd, bytes, n_bytes, 0);
}

void hear(struct env *env, void *bytes, size_t n_bytes)
{
	for (size_t done = 0; done < n_bytes;) {
		ssize_t n = hear_some(env, (uint8_t *)bytes + done, n_bytes - done);
		if (n <= 0)
			fail_msg("the server hung up, %zu of %zu bytes said", done, n_bytes);
		done += (size_t)n;
	}
}

void expect_end(struct env *env)
{
	uint8_t byte;
	ssize_t n = hear_some(env, &byte, 1);

	/* A socket that is closed with something unread says so by an error. */
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* ---- the handshake ---- */

void greet(struct env *env, uint32_t flags)
{
	uint8_t text[NBD_GREETING_BYTES];

	hear(env, text, sizeof(text));
	assert_true(nbd_get64(text) == NBD_MAGIC && nbd_get64(text + 8) == NBD_OPTION_MAGIC);
	assert_int_equal(nbd_get16(text + 16), NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	nbd_put32(text, flags);
	say(env, text, 4);
}

void say_option(struct env *env, uint32_t option, const void *data, size_t n_bytes)
{
	uint8_t head[NBD_OPTION_BYTES];

	nbd_put32(nbd_put32(nbd_put64(head, NBD_OPTION_MAGIC), option), (uint32_t)n_bytes);
	say_both(env, head, sizeof(head), data, n_bytes);
}

uint32_t expect_reply(struct env *env, uint32_t option, uint32_t type, uint8_t *ret)
{
	uint8_t head[NBD_OPTION_REPLY_BYTES];

	hear(env, head, sizeof(head));
	assert_true(nbd_get64(head) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(nbd_get32(head + 8), option);
	assert_int_equal(nbd_get32(head + 12), type);
	uint32_t n_bytes = nbd_get32(head + 16);
	assert_true(n_bytes <= 8192);
	hear(env, ret, n_bytes);
	return n_bytes;
}

void expect_ack(struct env *env, uint32_t option)
{
	uint8_t data[8192];

	assert_int_equal(expect_reply(env, option, NBD_REP_ACK, data), 0);
}

size_t make_go(uint8_t *data, const char *name, size_t name_bytes, unsigned n, const uint16_t *infos)
{
	uint8_t *at = nbd_put32(data, (uint32_t)name_bytes);

	memcpy(at, name, name_bytes);
	at = nbd_put16(at + name_bytes, (uint16_t)n);
	for (unsigned i = 0; i < n; i++)
		at = nbd_put16(at, infos[i]);
	return (size_t)(at - data);
}

size_t make_queries(uint8_t *data, const char *name, unsigned n, const char *const *queries)
{
	uint8_t *at = nbd_put32(data, (uint32_t)strlen(name));

	memcpy(at, name, strlen(name));
	at = nbd_put32(at + strlen(name), n);
	for (unsigned i = 0; i < n; i++) {
		at = nbd_put32(at, (uint32_t)strlen(queries[i]));
		memcpy(at, queries[i], strlen(queries[i]));
		at += strlen(queries[i]);
	}
	return (size_t)(at - data);
}

void go(struct env *env, const char *name, bool structured)
{
	uint8_t data[8192];

	greet(env, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	if (structured) {
		say_option(env, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		expect_ack(env, NBD_OPT_STRUCTURED_REPLY);
	}
	say_option(env, NBD_OPT_GO, data, make_go(data, name, strlen(name), 0, NULL));
	assert_int_equal(expect_reply(env, NBD_OPT_GO, NBD_REP_INFO, data), 12);
	expect_ack(env, NBD_OPT_GO);
}

/* ---- requests ---- */

void ask(struct env *env, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t n_bytes)
{
	uint8_t head[NBD_REQUEST_BYTES];
	uint8_t *at = nbd_put32(head, NBD_REQUEST_MAGIC);

	at = nbd_put16(nbd_put16(at, flags), type);
	nbd_put32(nbd_put64(nbd_put64(at, cookie), offset), n_bytes);
	say(env, head, sizeof(head));
}

void ask_write(struct env *env, uint16_t flags, uint64_t cookie, uint64_t offset, const void *bytes, uint32_t n_bytes)
{
	ask(env, NBD_CMD_WRITE, flags, cookie, offset, n_bytes);
	say(env, bytes, n_bytes);
}

uint32_t answer(struct env *env, uint64_t cookie)
{
	uint8_t head[NBD_SIMPLE_REPLY_BYTES];

	hear(env, head, sizeof(head));
	assert_int_equal(nbd_get32(head), NBD_SIMPLE_REPLY_MAGIC);
	assert_true(nbd_get64(head + 8) == cookie);
	return nbd_get32(head + 4);
}

static uint32_t hear_chunk(struct env *env, uint64_t cookie, uint16_t *ret_flags, uint16_t *ret_type)
{
	uint8_t head[NBD_CHUNK_BYTES];

	hear(env, head, sizeof(head));
	assert_int_equal(nbd_get32(head), NBD_CHUNK_MAGIC);
	assert_true(nbd_get64(head + 8) == cookie);
	*ret_flags = nbd_get16(head + 4);
	*ret_type = nbd_get16(head + 6);
	return nbd_get32(head + 16);
}

uint32_t expect_chunk(struct env *env, uint64_t cookie, uint16_t type, bool done)
{
	uint16_t flags, is;
	uint32_t n_bytes = hear_chunk(env, cookie, &flags, &is);

	assert_int_equal(is, type);
	assert_int_equal(flags, done ? NBD_CHUNK_DONE : 0);
	return n_bytes;
}

uint32_t answer_structured(struct env *env, uint64_t cookie)
{
	uint16_t flags, type;
	uint8_t text[512];
	uint32_t n_bytes = hear_chunk(env, cookie, &flags, &type);

	assert_int_equal(flags, NBD_CHUNK_DONE);
	assert_true(n_bytes <= sizeof(text));
	hear(env, text, n_bytes);
	if (type == NBD_CHUNK_NONE)
		return 0;
	assert_int_equal(type, NBD_CHUNK_ERROR);
	assert_int_equal(n_bytes, 6 + nbd_get16(text + 4));
	return nbd_get32(text);
}
