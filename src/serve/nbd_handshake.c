/* nbd_handshake.c - fixed newstyle negotiation, option by option, as far as the transmission phase.
 *
 * An option is taken whole before it is looked at. Whatever can be answered with an error is, and the next option is understood; what
 * can't (EXPORT_NAME, a wrong magic, flags that were not offered) ends the connection. With TLS, nothing but STARTTLS and
 * ABORT is heard before it is there, and nothing that was said before counts after: bytes that came along with STARTTLS,
 * which somebody in between may have added, end the connection.
 */
#include "nbd_internal.h"

#include <stdlib.h>

#define OPTION_MOST_BYTES (64u << 10)   /* that are looked at */
#define OPTION_SKIP_BYTES (1u << 20)    /* that are read and refused; more is no option */
#define OPTIONS_MOST 4096u

enum next { NEXT_OPTION, NEXT_TRANSMISSION, NEXT_CLOSE };

static bool send_bytes(struct nbd_connection *c, const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	struct iovec iov[2] = {
		{.iov_base = (void *)(uintptr_t)a, .iov_len = a_bytes},
		{.iov_base = (void *)(uintptr_t)b, .iov_len = b_bytes},
	};

	return nbd_stream_send(&c->stream, iov, b_bytes > 0 ? 2 : 1) == 0;
}

bool nbd_option_reply(struct nbd_connection *c, uint32_t option, uint32_t type, const void *data, size_t n_bytes)
{
	uint8_t head[NBD_OPTION_REPLY_BYTES];
	uint8_t *at = nbd_put64(head, NBD_OPTION_REPLY_MAGIC);

	at = nbd_put32(at, option);
	at = nbd_put32(at, type);
	nbd_put32(at, (uint32_t)n_bytes);
	return send_bytes(c, head, sizeof(head), data, n_bytes);
}

static enum next reply(struct nbd_connection *c, uint32_t option, uint32_t type)
{
	return nbd_option_reply(c, option, type, NULL, 0) ? NEXT_OPTION : NEXT_CLOSE;
}

static enum next refuse(struct nbd_connection *c, uint32_t option, uint32_t type, const char *why)
{
	return nbd_option_reply(c, option, type, why, strlen(why)) ? NEXT_OPTION : NEXT_CLOSE;
}

/* ---- what an export is ---- */

static uint16_t transmission_flags(const struct nbd_connection *c, const struct export_description *about)
{
	const struct {
		unsigned flag;
		uint16_t told;
	} table[] = {
		{EXPORT_READ_ONLY, NBD_READ_ONLY},
		{EXPORT_TRIM, NBD_SEND_TRIM},
		{EXPORT_ZERO, NBD_SEND_WRITE_ZEROES},
		{EXPORT_FAST_ZERO, NBD_SEND_FAST_ZERO},
		{EXPORT_CACHE, NBD_SEND_CACHE},
		{EXPORT_ROTATIONAL, NBD_ROTATIONAL},
	};
	unsigned flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_CAN_MULTI_CONN;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (about->flags & table[i].flag)
			flags |= table[i].told;
	if (c->structured)
		flags |= NBD_SEND_DF;
	return (uint16_t)flags;
}

/* With the use of it that the caller has. */
static void choose(struct nbd_connection *c, struct export *e, const struct export_description *about)
{
	c->export = e;
	c->about = *about;
	if (c->context_export != e)
		nbd_contexts_forget(c);
}

static enum next export_name(struct nbd_connection *c, const uint8_t *data, uint32_t n_bytes)
{
	uint8_t text[10 + NBD_EXPORT_PADDING_BYTES] = {0};
	struct export *e = nbd_export_get(c->server, data, n_bytes);
	struct export_description about;

	if (e == NULL)
		return NEXT_CLOSE;
	e->ops->describe(e, &about);
	nbd_put16(nbd_put64(text, about.size_bytes), transmission_flags(c, &about));
	choose(c, e, &about);
	return send_bytes(c, text, c->no_zeroes ? 10 : sizeof(text), NULL, 0) ? NEXT_TRANSMISSION : NEXT_CLOSE;
}

static bool send_info(struct nbd_connection *c, uint32_t option, uint16_t info, const void *bytes, size_t n_bytes)
{
	uint8_t text[2 + NBD_STRING_BYTES];

	memcpy(nbd_put16(text, info), bytes, n_bytes);
	return nbd_option_reply(c, option, NBD_REP_INFO, text, 2 + n_bytes);
}

static bool send_infos(struct nbd_connection *c, uint32_t option, const struct export *e, const struct export_description *about,
                       const uint8_t *wanted, unsigned n)
{
	uint8_t text[12];

	nbd_put16(nbd_put64(text, about->size_bytes), transmission_flags(c, about));
	bool good = send_info(c, option, NBD_INFO_EXPORT, text, 10);
	unsigned told = 0;
	for (unsigned i = 0; good && i < n; i++) {
		uint16_t info = nbd_get16(wanted + 2 * i);
		if (info > NBD_INFO_BLOCK_SIZE || told >> info & 1)
			continue;
		told |= 1u << info;
		if (info == NBD_INFO_NAME)
			good = send_info(c, option, info, e->name, strlen(e->name));
		else if (info == NBD_INFO_DESCRIPTION && e->description != NULL)
			good = send_info(c, option, info, e->description, strlen(e->description));
		else if (info == NBD_INFO_BLOCK_SIZE) {
			nbd_put32(nbd_put32(nbd_put32(text, about->least_block), about->preferred_block), EXPORT_PAYLOAD_BYTES);
			good = send_info(c, option, info, text, 12);
		}
	}
	return good;
}

/* INFO and GO: a name, and what is wanted. */
static enum next info(struct nbd_connection *c, uint32_t option, const uint8_t *data, uint32_t n_bytes)
{
	uint32_t name_bytes = n_bytes >= 6 ? nbd_get32(data) : 0;

	if (n_bytes < 6 || name_bytes > n_bytes - 6)
		return refuse(c, option, NBD_REP_ERR_INVALID, "the name is longer than the option");
	const uint8_t *name = data + 4;
	unsigned n_wanted = nbd_get16(name + name_bytes);
	if (n_bytes != 6 + name_bytes + 2 * n_wanted)
		return refuse(c, option, NBD_REP_ERR_INVALID, "not as long as its parts");
	if (!nbd_is_string(name, name_bytes))
		return refuse(c, option, NBD_REP_ERR_INVALID, "not a name");
	struct export *e = nbd_export_get(c->server, name, name_bytes);
	if (e == NULL)
		return refuse(c, option, NBD_REP_ERR_UNKNOWN, "no export of this name");

	struct export_description about;
	e->ops->describe(e, &about);
	bool sent = send_infos(c, option, e, &about, name + name_bytes + 2, n_wanted) && reply(c, option, NBD_REP_ACK) == NEXT_OPTION;
	if (sent && option == NBD_OPT_GO) {
		choose(c, e, &about);
		return NEXT_TRANSMISSION;
	}
	nbd_export_put(c->server, e);
	return sent ? NEXT_OPTION : NEXT_CLOSE;
}

static enum next list(struct nbd_connection *c, uint32_t n_bytes)
{
	if (n_bytes != 0)
		return refuse(c, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "takes no data");
	uint8_t text[4 + NBD_STRING_BYTES];
	size_t len;
	for (unsigned i = 0; nbd_export_name(c->server, i, text + 4, &len); i++) {
		nbd_put32(text, (uint32_t)len);
		if (!nbd_option_reply(c, NBD_OPT_LIST, NBD_REP_SERVER, text, 4 + len))
			return NEXT_CLOSE;
	}
	return reply(c, NBD_OPT_LIST, NBD_REP_ACK);
}

static enum next start_tls(struct nbd_connection *c, uint32_t n_bytes)
{
	if (n_bytes != 0)
		return refuse(c, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "takes no data");
	if (c->stream.tls != NULL)
		return refuse(c, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "TLS is there already");
	if (c->server->tls == NULL)
		return refuse(c, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "this server has no TLS");
	if (c->input_at != c->input_end || reply(c, NBD_OPT_STARTTLS, NBD_REP_ACK) == NEXT_CLOSE)
		return NEXT_CLOSE;
	c->structured = false;
	nbd_contexts_forget(c);
	return nbd_stream_start_tls(&c->stream, c->server->tls) == 0 ? NEXT_OPTION : NEXT_CLOSE;
}

/* ---- the haggling ---- */

static enum next carry_out(struct nbd_connection *c, uint32_t option, const uint8_t *data, uint32_t n_bytes)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return export_name(c, data, n_bytes);
	case NBD_OPT_LIST:
		return list(c, n_bytes);
	case NBD_OPT_STARTTLS:
		return start_tls(c, n_bytes);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return info(c, option, data, n_bytes);
	case NBD_OPT_STRUCTURED_REPLY:
		if (n_bytes != 0)
			return refuse(c, option, NBD_REP_ERR_INVALID, "takes no data");
		c->structured = true;
		return reply(c, option, NBD_REP_ACK);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return nbd_contexts(c, option, data, n_bytes) ? NEXT_OPTION : NEXT_CLOSE;
	default:
		return refuse(c, option, NBD_REP_ERR_UNSUP, "not an option of this server");
	}
}

static enum next one_option(struct nbd_connection *c, uint32_t option, uint32_t n_bytes)
{
	bool plain = c->server->tls != NULL && c->stream.tls == NULL;

	/* What has no error reply. */
	if (option == NBD_OPT_EXPORT_NAME ? plain || n_bytes > NBD_STRING_BYTES : !c->fixed)
		return NEXT_CLOSE;
	if (option == NBD_OPT_ABORT) {
		(void)reply(c, option, NBD_REP_ACK);
		return NEXT_CLOSE;
	}
	if (n_bytes > OPTION_MOST_BYTES || (plain && option != NBD_OPT_STARTTLS)) {
		if (n_bytes > OPTION_SKIP_BYTES || !nbd_input_take(c, NULL, n_bytes))
			return NEXT_CLOSE;
		if (plain)
			return refuse(c, option, NBD_REP_ERR_TLS_REQD, "nothing without TLS");
		return refuse(c, option, NBD_REP_ERR_TOO_BIG, "too long");
	}
	uint8_t *data = malloc(n_bytes + 1u);
	enum next next = NEXT_CLOSE;
	if (data != NULL && nbd_input_take(c, data, n_bytes))
		next = carry_out(c, option, data, n_bytes);
	free(data);
	return next;
}

static bool greet(struct nbd_connection *c)
{
	uint8_t text[NBD_GREETING_BYTES];

	nbd_put16(nbd_put64(nbd_put64(text, NBD_MAGIC), NBD_OPTION_MAGIC), NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	if (!send_bytes(c, text, sizeof(text), NULL, 0) || !nbd_input_have(c, 4))
		return false;
	uint32_t flags = nbd_get32(c->input + c->input_at);
	c->input_at += 4;
	c->fixed = flags & NBD_FIXED_NEWSTYLE;
	c->no_zeroes = flags & NBD_NO_ZEROES;
	return (flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) == 0;
}

bool nbd_handshake(struct nbd_connection *c)
{
	enum next next = greet(c) ? NEXT_OPTION : NEXT_CLOSE;

	for (unsigned i = 0; next == NEXT_OPTION && i < OPTIONS_MOST; i++) {
		if (c->server->ending || !nbd_input_have(c, NBD_OPTION_BYTES))
			return false;
		const uint8_t *head = c->input + c->input_at;
		uint32_t option = nbd_get32(head + 8), n_bytes = nbd_get32(head + 12);
		if (nbd_get64(head) != NBD_OPTION_MAGIC)
			return false;
		c->input_at += NBD_OPTION_BYTES;
		next = one_option(c, option, n_bytes);
	}
	return next == NEXT_TRANSMISSION;
}
