/* memcached.c - memcached servers as the remote tier of pools, by libmemcached.
 *
 * libmemcached's clients are for one thread each: who asks takes one that is idle, or a copy of the first, which is never used
 * itself. Each knows by itself which servers don't answer, so each finds that out once for every retry_s: that is what libmemcached has
 * (a server that failed is left out at once, and tried again later).
 *
 * Time: to connect, and to wait for an answer, each half of timeout_ms. After a timeout libmemcached closes the connection, so a late answer can't
 * be taken for that to another question; if it were, its key would tell.
 *
 * Failure: whatever it is, the tmem makes a miss of it. That of a server is told from a plain miss only to be counted.
 */
#include "memcached_lib.h"
#include "memcached_servers.h"

#include "../base/fail.h"
#include "../tmem/remote.h"

#include <errno.h>
#include <pthread.h>
#include <quire/tmem_memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SERVERS 64u
#define MOST_IDLE 16u
#define KEY_BYTES 48u /* instance and version in hexadecimal */
#define DEFAULT_TIMEOUT_MS 100u
#define MOST_TIMEOUT_MS 60000u
#define DEFAULT_RETRY_S 2u
#define MOST_RETRY_S 3600u
#define DEFAULT_QUEUE_BYTES (1u << 20)

struct cluster {
	const struct memcached_lib *lib;
	pthread_mutex_t lock;
	memcached_st *first;           /* owned; never asks */
	memcached_st *idle[MOST_IDLE]; /* owned; under the lock */
	unsigned n_idle;
};

/* ---- clients ---- */

/* NULL: no memory. */
static memcached_st *get_client(struct cluster *c)
{
	pthread_mutex_lock(&c->lock);
	memcached_st *client = c->n_idle > 0 ? c->idle[--c->n_idle] : c->lib->clone(NULL, c->first);
	pthread_mutex_unlock(&c->lock);
	return client;
}

static void put_client(struct cluster *c, memcached_st *client)
{
	pthread_mutex_lock(&c->lock);
	bool kept = c->n_idle < MOST_IDLE;
	if (kept)
		c->idle[c->n_idle++] = client;
	pthread_mutex_unlock(&c->lock);
	if (!kept)
		c->lib->free(client);
}

static void close_cluster(void *arg)
{
	struct cluster *c = arg;

	for (unsigned i = 0; i < c->n_idle; i++)
		c->lib->free(c->idle[i]);
	if (c->first != NULL)
		c->lib->free(c->first);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- the tier ---- */

static void spell(const struct tmem_remote_key *key, char ret[KEY_BYTES + 1])
{
	for (unsigned i = 0; i < sizeof(key->instance); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", key->instance[i]);
	(void)snprintf(ret + 2 * sizeof(key->instance), 17, "%016llx", (unsigned long long)key->version);
}

static int error_of(memcached_return_t rc)
{
	switch (rc) {
	case MEMCACHED_SUCCESS:
	case MEMCACHED_STORED:
		return 0;
	case MEMCACHED_NOTFOUND:
		return -ENOENT;
	case MEMCACHED_TIMEOUT:
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}

static int send_value(void *arg, const struct tmem_remote_head *value)
{
	struct cluster *c = arg;
	char key[KEY_BYTES + 1];
	memcached_st *client = get_client(c);

	if (client == NULL)
		return -ENOMEM;
	spell(&value->key, key);
	int rc = error_of(c->lib->set(client, key, KEY_BYTES, (const char *)value, sizeof(*value) + value->len, 0, 0));
	put_client(c, client);
	return rc;
}

static int fetch_value(void *arg, const struct tmem_remote_key *k, struct tmem_remote_head *ret_head, void *ret_bytes, uint32_t n_bytes)
{
	struct cluster *c = arg;
	char key[KEY_BYTES + 1];
	memcached_st *client = get_client(c);
	memcached_return_t result;
	uint32_t flags;
	size_t len = 0;

	if (client == NULL)
		return -ENOMEM;
	spell(k, key);
	char *value = c->lib->get(client, key, KEY_BYTES, &len, &flags, &result);
	put_client(c, client);
	int rc = value == NULL && result == MEMCACHED_SUCCESS ? -EBADMSG : error_of(result);
	if (rc == 0 && len != sizeof(*ret_head) + n_bytes)
		rc = -EBADMSG;
	if (rc == 0) {
		memcpy(ret_head, value, sizeof(*ret_head));
		memcpy(ret_bytes, value + sizeof(*ret_head), n_bytes);
	}
	free(value);
	return rc;
}

static void drop_value(void *arg, const struct tmem_remote_key *k)
{
	struct cluster *c = arg;
	char key[KEY_BYTES + 1];
	memcached_st *client = get_client(c);

	if (client == NULL)
		return;
	spell(k, key);
	(void)c->lib->delete(client, key, KEY_BYTES, 0);
	put_client(c, client);
}

/* ---- made of words ---- */

static int look_at(const struct quire_tmem_memcached_options *opts, struct quire_tmem_memcached_options *ret, struct quire_error *err)
{
	*ret = (struct quire_tmem_memcached_options){0};
	if (opts != NULL && (opts->size == 0 || opts->size > sizeof(*ret)))
		return quire_fail(err, -EINVAL, "memcached options");
	if (opts != NULL)
		memcpy(ret, opts, opts->size);
	if (ret->timeout_ms == 0)
		ret->timeout_ms = DEFAULT_TIMEOUT_MS;
	if (ret->retry_s == 0)
		ret->retry_s = DEFAULT_RETRY_S;
	if (ret->queue_bytes == 0)
		ret->queue_bytes = DEFAULT_QUEUE_BYTES;
	if (ret->timeout_ms < 2 || ret->timeout_ms > MOST_TIMEOUT_MS || ret->retry_s > MOST_RETRY_S)
		return quire_fail(err, -EINVAL, "memcached with a timeout of %u ms, retries after %u s", ret->timeout_ms, ret->retry_s);
	return 0;
}

static int set_behavior(struct cluster *c, const struct quire_tmem_memcached_options *o)
{
	uint64_t half_ms = o->timeout_ms / 2;
	const struct {
		memcached_behavior_t behavior;
		uint64_t value;
	} settings[] = {
		{MEMCACHED_BEHAVIOR_KETAMA, 1},
		{MEMCACHED_BEHAVIOR_NO_BLOCK, 1},
		{MEMCACHED_BEHAVIOR_TCP_NODELAY, 1},
		{MEMCACHED_BEHAVIOR_CONNECT_TIMEOUT, half_ms},
		{MEMCACHED_BEHAVIOR_POLL_TIMEOUT, half_ms},
		{MEMCACHED_BEHAVIOR_SND_TIMEOUT, half_ms * 1000},
		{MEMCACHED_BEHAVIOR_RCV_TIMEOUT, half_ms * 1000},
		{MEMCACHED_BEHAVIOR_SERVER_FAILURE_LIMIT, 1},
		{MEMCACHED_BEHAVIOR_SERVER_TIMEOUT_LIMIT, 1},
		{MEMCACHED_BEHAVIOR_RETRY_TIMEOUT, o->retry_s},
		{MEMCACHED_BEHAVIOR_DEAD_TIMEOUT, o->retry_s},
		{MEMCACHED_BEHAVIOR_REMOVE_FAILED_SERVERS, 1},
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (c->lib->behavior_set(c->first, settings[i].behavior, settings[i].value) != MEMCACHED_SUCCESS)
			return -ENOTSUP;
	return 0;
}

static int add_servers(struct cluster *c, const char *servers, struct quire_error *err)
{
	struct memcached_server s;
	unsigned n = 0;
	int rc;

	while ((rc = memcached_servers_next(&servers, &s, err)) > 0) {
		memcached_return_t added = s.port == 0 ? c->lib->server_add_unix_socket(c->first, s.host)
		                                       : c->lib->server_add(c->first, s.host, s.port);
		if (added != MEMCACHED_SUCCESS)
			return quire_fail(err, -ENOMEM, "memcached server %s", s.host);
		if (++n > MOST_SERVERS)
			return quire_fail(err, -EINVAL, "memcached: more than %u servers", MOST_SERVERS);
	}
	return rc == 0 && n == 0 ? quire_fail(err, -EINVAL, "memcached: no servers") : rc;
}

static int open_cluster(const char *servers, const struct quire_tmem_memcached_options *o, struct cluster **ret, struct quire_error *err)
{
	const struct memcached_lib *lib;
	int rc = memcached_lib_get(&lib, err);

	if (rc < 0)
		return rc;
	struct cluster *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return quire_fail(err, -ENOMEM, "memcached");
	c->lib = lib;
	pthread_mutex_init(&c->lock, NULL);
	c->first = lib->create(NULL);
	rc = c->first == NULL ? -ENOMEM : set_behavior(c, o);
	if (rc < 0)
		(void)quire_fail(err, rc, "memcached");
	else
		rc = add_servers(c, servers, err);
	if (rc < 0) {
		close_cluster(c);
		return rc;
	}
	*ret = c;
	return 0;
}

int quire_tmem_set_memcached(struct quire_tmem *tmem, const char *servers, const struct quire_tmem_memcached_options *opts,
                             struct quire_error *err)
{
	static const struct tmem_remote_ops ops = {.send = send_value, .fetch = fetch_value, .drop = drop_value, .close = close_cluster};
	struct quire_tmem_memcached_options o;
	struct cluster *c = NULL;

	if (tmem == NULL || servers == NULL)
		return quire_fail(err, -EINVAL, "memcached");
	int rc = look_at(opts, &o, err);
	if (rc == 0)
		rc = open_cluster(servers, &o, &c, err);
	if (rc < 0)
		return rc;
	struct tmem_remote tier = {.ops = &ops, .arg = c, .queue_bytes = o.queue_bytes};
	rc = tmem_remote_set(tmem, &tier, err);
	if (rc < 0)
		close_cluster(c);
	return rc;
}

int quire_tmem_clear_memcached(struct quire_tmem *tmem)
{
	return tmem_remote_clear(tmem);
}
