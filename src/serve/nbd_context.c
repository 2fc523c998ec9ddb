/* nbd_context.c - metadata contexts: which there are, and which a client has selected.
 *
 *   base:allocation                 hole, zeros
 *   qemu:allocation-depth           how far down the chain of clones
 *   qemu:dirty-bitmap:since-GEN     what has changed since a generation of the export
 *
 * A query selects one by its whole name. To list, "base:", "qemu:" and "qemu:dirty-bitmap:" stand for all that begin so.
 * The id of a context is its place among the selected ones.
 */
#include "nbd_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 64u
#define QUERIES_MOST 256u
#define GENERATIONS_MOST 64u
#define SINCE "qemu:dirty-bitmap:since-"

static const char *const names[] = {
	[EXPORT_ALLOCATION] = "base:allocation",
	[EXPORT_DEPTH] = "qemu:allocation-depth",
};

static bool is_there(struct export *e, enum export_context kind)
{
	return e->ops->contexts(e) >> kind & 1;
}

static bool equals(const char *text, const uint8_t *query, size_t n_bytes)
{
	return strlen(text) == n_bytes && memcmp(text, query, n_bytes) == 0;
}

/* Digits alone, as they would be printed. */
static bool parse_generation(const uint8_t *text, size_t n_bytes, uint64_t *ret)
{
	uint64_t value = 0;

	if (n_bytes == 0 || (text[0] == '0' && n_bytes > 1))
		return false;
	for (size_t i = 0; i < n_bytes; i++) {
		unsigned digit = (unsigned)text[i] - '0';
		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return true;
}

/* The one of that name. */
static bool find(struct export *e, const uint8_t *query, size_t n_bytes, struct nbd_context *ret)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!equals(names[i], query, n_bytes))
			continue;
		*ret = (struct nbd_context){.kind = (enum export_context)i};
		return is_there(e, ret->kind);
	}
	const size_t since = strlen(SINCE);
	ret->kind = EXPORT_SINCE;
	return n_bytes > since && memcmp(query, SINCE, since) == 0 && is_there(e, EXPORT_SINCE) &&
	       parse_generation(query + since, n_bytes - since, &ret->generation) &&
	       e->ops->has_generation(e, ret->generation);
}

static size_t print(const struct nbd_context *context, char *ret)
{
	int n = context->kind == EXPORT_SINCE
	                ? snprintf(ret, NAME_BYTES, SINCE "%llu", (unsigned long long)context->generation)
	                : snprintf(ret, NAME_BYTES, "%s", names[context->kind]);
	return (size_t)n;
}

static bool send_one(struct nbd_connection *c, uint32_t option, uint32_t id, const struct nbd_context *context)
{
	uint8_t text[4 + NAME_BYTES];
	char name[NAME_BYTES];
	size_t len = print(context, name);

	memcpy(nbd_put32(text, id), name, len);
	return nbd_option_reply(c, option, NBD_REP_META_CONTEXT, text, 4 + len);
}

/* ---- listing ---- */

/* Those whose names begin so. */
static bool list_those(struct nbd_connection *c, struct export *e, const uint8_t *prefix, size_t n_bytes)
{
	uint64_t generations[GENERATIONS_MOST];
	unsigned n = is_there(e, EXPORT_SINCE) ? e->ops->generations(e, generations, GENERATIONS_MOST) : 0;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct nbd_context context = {.kind = (enum export_context)i};
		if (is_there(e, context.kind) && strlen(names[i]) >= n_bytes && memcmp(names[i], prefix, n_bytes) == 0 &&
		    !send_one(c, NBD_OPT_LIST_META_CONTEXT, 0, &context))
			return false;
	}
	for (unsigned i = 0; i < n && n_bytes <= strlen(SINCE) && memcmp(SINCE, prefix, n_bytes) == 0; i++) {
		struct nbd_context context = {.kind = EXPORT_SINCE, .generation = generations[i]};
		if (!send_one(c, NBD_OPT_LIST_META_CONTEXT, 0, &context))
			return false;
	}
	return true;
}

static bool list(struct nbd_connection *c, struct export *e, const uint8_t *query, size_t n_bytes)
{
	struct nbd_context context;

	if (equals("base:", query, n_bytes) || equals("qemu:", query, n_bytes) || equals("qemu:dirty-bitmap:", query, n_bytes))
		return list_those(c, e, query, n_bytes);
	return !find(e, query, n_bytes, &context) || send_one(c, NBD_OPT_LIST_META_CONTEXT, 0, &context);
}

/* ---- selecting ---- */

/* 0, or the error of an option that can't be had. */
static uint32_t select_one(struct nbd_connection *c, struct export *e, const uint8_t *query, size_t n_bytes)
{
	struct nbd_context context = {0};

	if (!find(e, query, n_bytes, &context))
		return 0;
	for (unsigned i = 0; i < c->n_contexts; i++)
		if (c->contexts[i].kind == context.kind && c->contexts[i].generation == context.generation)
			return 0;
	if (c->n_contexts == NBD_CONTEXTS)
		return NBD_REP_ERR_TOO_BIG;
	c->contexts[c->n_contexts++] = context;
	return 0;
}

/* ---- the option ---- */

/* Each query, for the export: 0, NBD's error, or UINT32_MAX if nothing can be sent. */
static uint32_t each_query(struct nbd_connection *c, uint32_t option, struct export *e, const uint8_t *at, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = nbd_get32(at);
		at += 4;
		uint32_t error = 0;
		if (option == NBD_OPT_SET_META_CONTEXT)
			error = select_one(c, e, at, len);
		else if (!list(c, e, at, len))
			error = UINT32_MAX;
		if (error != 0)
			return error;
		at += len;
	}
	return 0;
}

/* Is the option as long as its parts, and each query NAMESPACE:SOMETHING? */
static bool is_whole(const uint8_t *data, uint32_t n_bytes, uint32_t *ret_name_bytes, uint32_t *ret_n)
{
	if (n_bytes < 8 || nbd_get32(data) > n_bytes - 8 || !nbd_is_string(data + 4, nbd_get32(data)))
		return false;
	uint32_t at = 4 + nbd_get32(data);
	uint32_t n = nbd_get32(data + at);
	at += 4;
	for (uint32_t i = 0; i < n; i++) {
		if (n_bytes - at < 4 || nbd_get32(data + at) > n_bytes - at - 4)
			return false;
		uint32_t len = nbd_get32(data + at);
		at += 4;
		if (!nbd_is_string(data + at, len) || memchr(data + at, ':', len) == NULL)
			return false;
		at += len;
	}
	*ret_name_bytes = nbd_get32(data);
	*ret_n = n;
	return at == n_bytes;
}

void nbd_contexts_forget(struct nbd_connection *c)
{
	nbd_export_put(c->server, c->context_export);
	c->context_export = NULL;
	c->n_contexts = 0;
}

/* All that is said of this export, but for the last word: 0, NBD's error, or UINT32_MAX if nothing can be sent. */
static uint32_t answer(struct nbd_connection *c, uint32_t option, struct export *e, const uint8_t *queries, uint32_t n)
{
	uint32_t error = each_query(c, option, e, queries, n);

	if (error != 0)
		return error;
	if (option == NBD_OPT_LIST_META_CONTEXT)
		return n > 0 || list_those(c, e, queries, 0) ? 0 : UINT32_MAX;
	for (unsigned i = 0; i < c->n_contexts; i++)
		if (!send_one(c, option, i, &c->contexts[i]))
			return UINT32_MAX;
	return 0;
}

bool nbd_contexts(struct nbd_connection *c, uint32_t option, const uint8_t *data, uint32_t n_bytes)
{
	uint32_t name_bytes = 0, n = 0, error = 0;
	struct export *e = NULL;

	if (option == NBD_OPT_SET_META_CONTEXT)
		nbd_contexts_forget(c);
	if (!c->structured || !is_whole(data, n_bytes, &name_bytes, &n))
		error = NBD_REP_ERR_INVALID;
	else if (n > QUERIES_MOST)
		error = NBD_REP_ERR_TOO_BIG;
	else if ((e = nbd_export_get(c->server, data + 4, name_bytes)) == NULL)
		error = NBD_REP_ERR_UNKNOWN;
	else
		error = answer(c, option, e, data + 8 + name_bytes, n);
	if (option == NBD_OPT_SET_META_CONTEXT && error == 0) {
		c->context_export = e;
	} else {
		nbd_export_put(c->server, e);
		if (option == NBD_OPT_SET_META_CONTEXT)
			c->n_contexts = 0;
	}
	return error != UINT32_MAX && nbd_option_reply(c, option, error == 0 ? NBD_REP_ACK : error, NULL, 0);
}
