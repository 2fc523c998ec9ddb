/* remote_calls.c - the calls on pools of a service, each a message. */
#include "remote_internal.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>

static void write_head(struct quire_tmem_client *c, uint32_t slot, enum ring_verb verb, uint32_t n)
{
	struct ring_message *m = ring_message(&c->ring, slot);

	m->verb = verb;
	m->n = n;
}

/* ---- pages ---- */

static bool has_page(enum quire_tmem_verb verb)
{
	return verb == QUIRE_TMEM_PUT || verb == QUIRE_TMEM_GET;
}

static void write_request(struct quire_tmem_client *c, uint32_t slot, uint32_t i, uint32_t at,
                          const struct quire_tmem_remote_request *r)
{
	ring_message(&c->ring, slot)->requests[i] = (struct ring_request){
		.pool = r->pool->number,
		.verb = (uint8_t)r->verb,
		.how = (uint8_t)r->how,
		.object = {r->key.object[0], r->key.object[1], r->key.object[2]},
		.index = r->key.index,
		.at = at,
		.result = -EPIPE,
	};
	if (r->verb == QUIRE_TMEM_PUT)
		memcpy(ring_data(&c->ring, slot) + at, r->page, r->pool->page_bytes);
}

static void read_answers(struct quire_tmem_client *c, uint32_t slot, struct quire_tmem_remote_request *requests, uint32_t n)
{
	const struct ring_request *answers = ring_message(&c->ring, slot)->requests;
	const uint8_t *page = ring_data(&c->ring, slot);

	for (uint32_t i = 0; i < n; i++) {
		struct quire_tmem_remote_request *r = &requests[i];
		r->result = answers[i].result;
		if (r->verb == QUIRE_TMEM_GET && r->result == 0)
			memcpy(r->page, page, r->pool->page_bytes);
		page += has_page(r->verb) ? r->pool->page_bytes : 0;
	}
}

/* As many as go into one message, at least one; all have the result -EPIPE, if it fails with that. */
static int ask_some(struct quire_tmem_client *c, struct quire_tmem_remote_request *requests, unsigned n, unsigned *ret_n)
{
	uint32_t slot, at = 0, k = 0;
	int rc = remote_take_slot(c, &slot);

	if (rc < 0)
		return rc;
	for (; k < n && k < RING_REQUESTS_MOST; k++) {
		uint32_t n_bytes = has_page(requests[k].verb) ? requests[k].pool->page_bytes : 0;
		if (n_bytes > c->ring.slot_bytes - at)
			break;
		write_request(c, slot, k, at, &requests[k]);
		at += n_bytes;
	}
	write_head(c, slot, RING_BATCH, k);
	rc = remote_ask(c, slot);
	if (rc < 0)
		return rc;
	read_answers(c, slot, requests, k);
	remote_free_slot(c, slot);
	*ret_n = k;
	return 0;
}

int quire_tmem_remote_batch(struct quire_tmem_client *c, struct quire_tmem_remote_request *requests, unsigned n)
{
	unsigned k;

	for (unsigned i = 0; i < n; i++)
		if (requests[i].verb < QUIRE_TMEM_PUT || requests[i].verb > QUIRE_TMEM_FLUSH_OBJECT || requests[i].pool->client != c)
			return -EINVAL;
	for (unsigned done = 0; done < n; done += k) {
		int rc = ask_some(c, requests + done, n - done, &k);
		if (rc < 0) {
			for (; done < n; done++)
				requests[done].result = rc;
			return rc;
		}
	}
	return 0;
}

static int64_t ask_one(struct quire_tmem_remote *pool, const struct quire_tmem_key *key, enum quire_tmem_verb verb,
                       enum quire_tmem_get how, void *page)
{
	struct quire_tmem_remote_request r = {.pool = pool, .key = *key, .verb = verb, .how = how, .page = page};
	unsigned n;
	int rc = ask_some(pool->client, &r, 1, &n);

	return rc < 0 ? rc : r.result;
}

int quire_tmem_remote_put(struct quire_tmem_remote *pool, const struct quire_tmem_key *key, const void *page)
{
	return (int)ask_one(pool, key, QUIRE_TMEM_PUT, QUIRE_TMEM_GET_USUAL, (void *)(uintptr_t)page);
}

int quire_tmem_remote_get(struct quire_tmem_remote *pool, const struct quire_tmem_key *key, void *page,
                          enum quire_tmem_get how)
{
	return (int)ask_one(pool, key, QUIRE_TMEM_GET, how, page);
}

int quire_tmem_remote_flush(struct quire_tmem_remote *pool, const struct quire_tmem_key *key)
{
	return (int)ask_one(pool, key, QUIRE_TMEM_FLUSH, QUIRE_TMEM_GET_USUAL, NULL);
}

int64_t quire_tmem_remote_flush_object(struct quire_tmem_remote *pool, const uint64_t object[3])
{
	const struct quire_tmem_key key = {.object = {object[0], object[1], object[2]}};

	return ask_one(pool, &key, QUIRE_TMEM_FLUSH_OBJECT, QUIRE_TMEM_GET_USUAL, NULL);
}

/* ---- pools ---- */

/* Writes n_told bytes into the data, asks, and reads n_heard of them: the message's result, or why there is none. */
static int ask(struct quire_tmem_client *c, const struct ring_message *m, const void *told, size_t n_told, void *heard, size_t n_heard,
               struct quire_tmem_remote *ret_pool)
{
	uint32_t slot;
	int rc = remote_take_slot(c, &slot);

	if (rc < 0)
		return rc;
	struct ring_message *shared = ring_message(&c->ring, slot);
	write_head(c, slot, (enum ring_verb)m->verb, 0);
	shared->pool = m->pool;
	shared->argument = m->argument;
	if (n_told > 0)
		memcpy(ring_data(&c->ring, slot), told, n_told);
	rc = remote_ask(c, slot);
	if (rc < 0)
		return rc;
	rc = (int)atomic_load_explicit(&shared->result, memory_order_relaxed);
	if (rc == 0 && n_heard > 0)
		memcpy(heard, ring_data(&c->ring, slot), n_heard);
	if (rc == 0 && ret_pool != NULL)
		*ret_pool = (struct quire_tmem_remote){.client = c, .number = shared->number, .page_bytes = shared->page_bytes};
	remote_free_slot(c, slot);
	return rc;
}

static int get_pool(struct quire_tmem_client *c, enum ring_verb verb, const void *told, size_t n_told,
                    struct quire_tmem_remote **ret_pool)
{
	const struct ring_message m = {.verb = verb};
	struct quire_tmem_remote *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		return -ENOMEM;
	int rc = ask(c, &m, told, n_told, NULL, 0, pool);
	if (rc < 0) {
		free(pool);
		return rc;
	}
	pthread_mutex_lock(&c->lock);
	pool->next = c->pools;
	pool->at = &c->pools;
	if (pool->next != NULL)
		pool->next->at = &pool->next;
	c->pools = pool;
	pthread_mutex_unlock(&c->lock);
	*ret_pool = pool;
	return 0;
}

int quire_tmem_remote_create(struct quire_tmem_client *c, const struct quire_tmem_pool_options *opts,
                             struct quire_tmem_remote **ret_pool, struct quire_error *err)
{
	struct quire_tmem_pool_options o = {0};

	if (opts == NULL || opts->size == 0 || opts->size > sizeof(o))
		return quire_fail(err, -EINVAL, "tmem pool options");
	memcpy(&o, opts, opts->size);
	struct ring_pool_options told = {
		.kind = (uint32_t)o.kind,
		.page_bytes = o.page_bytes,
		.flags = o.flags,
		.weight = o.weight,
		.domain = o.domain,
		.cap_bytes = o.cap_bytes,
	};
	memcpy(told.uuid, o.uuid, sizeof(told.uuid));
	int rc = get_pool(c, RING_POOL_CREATE, &told, sizeof(told), ret_pool);
	return rc < 0 ? quire_fail(err, rc, "tmem pool at the service") : 0;
}

int quire_tmem_remote_open(struct quire_tmem_client *c, const uint8_t uuid[16], struct quire_tmem_remote **ret_pool)
{
	return get_pool(c, RING_POOL_OPEN, uuid, 16, ret_pool);
}

void quire_tmem_remote_destroy(struct quire_tmem_remote *pool)
{
	if (pool == NULL)
		return;
	const struct ring_message m = {.verb = RING_POOL_DESTROY, .pool = pool->number};
	struct quire_tmem_client *c = pool->client;
	/* In a forked child the lock may be one that another thread held; there is no other here. */
	bool locks = ask(c, &m, NULL, 0, NULL, 0, NULL) != -ECHILD;
	if (locks)
		pthread_mutex_lock(&c->lock);
	*pool->at = pool->next;
	if (pool->next != NULL)
		pool->next->at = pool->at;
	if (locks)
		pthread_mutex_unlock(&c->lock);
	free(pool);
}

int quire_tmem_remote_freeze(struct quire_tmem_remote *pool, bool frozen)
{
	const struct ring_message m = {.verb = RING_POOL_FREEZE, .pool = pool->number, .argument = frozen};

	return ask(pool->client, &m, NULL, 0, NULL, 0, NULL);
}

int quire_tmem_remote_save(struct quire_tmem_remote *pool)
{
	const struct ring_message m = {.verb = RING_POOL_SAVE, .pool = pool->number};

	return ask(pool->client, &m, NULL, 0, NULL, 0, NULL);
}

int quire_tmem_remote_forget(struct quire_tmem_remote *pool)
{
	const struct ring_message m = {.verb = RING_POOL_FORGET, .pool = pool->number};

	return ask(pool->client, &m, NULL, 0, NULL, 0, NULL);
}

int quire_tmem_remote_stat(struct quire_tmem_remote *pool, struct quire_tmem_pool_stat *ret)
{
	const struct ring_message m = {.verb = RING_POOL_STAT, .pool = pool->number};
	struct ring_pool_stat s;
	int rc = ask(pool->client, &m, NULL, 0, &s, sizeof(s), NULL);

	if (rc == 0)
		*ret = RING_POOL_STAT_AS(struct quire_tmem_pool_stat, s);
	return rc;
}

int quire_tmem_client_stat(struct quire_tmem_client *c, struct quire_tmem_client_stat *ret)
{
	const struct ring_message m = {.verb = RING_CLIENT_STAT};
	struct ring_client_stat s;
	int rc = ask(c, &m, NULL, 0, &s, sizeof(s), NULL);

	if (rc == 0)
		*ret = (struct quire_tmem_client_stat){
			.held_bytes = s.held_bytes,
			.cap_bytes = s.cap_bytes,
			.n_pools = s.n_pools,
			.n_handles = s.n_handles,
			.most_pools = s.most_pools,
			.most_handles = s.most_handles,
		};
	return rc;
}

static void take_words(void *to, size_t to_bytes, const uint64_t *words, uint32_t n)
{
	memset(to, 0, to_bytes);
	memcpy(to, words, n * sizeof(words[0]) < to_bytes ? n * sizeof(words[0]) : to_bytes);
}

int quire_tmem_remote_service_stat(struct quire_tmem_client *c, struct quire_tmem_stat *ret_tmem,
                                   struct quire_tmem_service_stat *ret_service)
{
	const struct ring_message m = {.verb = RING_SERVICE_STAT};
	struct ring_service_stat s;
	int rc = ask(c, &m, NULL, 0, &s, sizeof(s), NULL);

	if (rc == 0 && (s.n_tmem > RING_STAT_WORDS || s.n_service > RING_STAT_WORDS - s.n_tmem))
		rc = -EPROTO;
	if (rc == 0) {
		take_words(ret_tmem, sizeof(*ret_tmem), s.words, s.n_tmem);
		take_words(ret_service, sizeof(*ret_service), s.words + s.n_tmem, s.n_service);
	}
	return rc;
}
