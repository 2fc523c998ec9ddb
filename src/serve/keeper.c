/* keeper.c - a thread that saves pools in a store, and removes them from it: that waits for I/O, which nobody is to do but who asked for it.
 *
 * What a client asks for is an errand. It has its own open of the pool, so it needs nothing of the client's but to tell it; and when the
 * client goes first, the errand is told so, under the lock, and tells nobody. If it has not been begun by then, it isn't.
 *
 * A client has one errand at a time: so what waits is no more than there are clients, and each comes in turn.
 */
#include "service_internal.h"

#include <errno.h>
#include <stdlib.h>

struct errand {
	struct errand *next;
	struct client *client;        /* borrowed: until it leaves, then NULL; the keeper's lock */
	uint32_t slot;
	bool forget;
	uint8_t uuid[16];
	struct quire_tmem_pool *pool; /* owned: an open of it; NULL: to forget */
};

/* With the lock, which it leaves meanwhile. */
static void run(struct quire_tmem_service *s, struct errand *e)
{
	bool wanted = e->client != NULL;
	int rc = 0;

	pthread_mutex_unlock(&s->keeper.lock);
	if (!wanted)
		quire_tmem_pool_destroy(e->pool);
	else
		rc = e->forget ? kept_forget(s, e->uuid) : kept_save(s, e->uuid, e->pool);
	pthread_mutex_lock(&s->keeper.lock);
	if (e->client != NULL) {
		struct client *c = e->client;
		c->errand = NULL;
		atomic_store_explicit(&ring_message(&c->ring, e->slot)->result, rc, memory_order_relaxed);
		client_complete(c, e->slot);
	}
	free(e);
}

static void *keep(void *arg)
{
	struct quire_tmem_service *s = arg;
	struct keeper *k = &s->keeper;

	pthread_mutex_lock(&k->lock);
	while (k->first != NULL || !k->stop) {
		struct errand *e = k->first;
		if (e == NULL) {
			pthread_cond_wait(&k->wake, &k->lock);
			continue;
		}
		k->first = e->next;
		if (k->first == NULL)
			k->last = &k->first;
		run(s, e);
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

int keeper_ask(struct client *c, const uint8_t uuid[16], bool forget)
{
	struct quire_tmem_service *s = c->service;
	struct keeper *k = &s->keeper;

	if (s->o.store == NULL)
		return -EOPNOTSUPP;
	struct errand *e = calloc(1, sizeof(*e));
	if (e == NULL)
		return -ENOMEM;
	*e = (struct errand){.client = c, .slot = c->slot, .forget = forget};
	memcpy(e->uuid, uuid, sizeof(e->uuid));
	int rc = forget ? 0 : quire_tmem_pool_open(s->tmem, uuid, &e->pool);
	pthread_mutex_lock(&k->lock);
	if (rc == 0 && c->errand != NULL)
		rc = -EBUSY;
	if (rc == 0) {
		c->errand = e;
		*k->last = e;
		k->last = &e->next;
		pthread_cond_signal(&k->wake);
	}
	pthread_mutex_unlock(&k->lock);
	if (rc < 0) {
		quire_tmem_pool_destroy(e->pool);
		free(e);
	}
	return rc;
}

void keeper_leave(struct client *c)
{
	struct keeper *k = &c->service->keeper;

	if (c->service->o.store == NULL)
		return;
	pthread_mutex_lock(&k->lock);
	if (c->errand != NULL)
		c->errand->client = NULL;
	c->errand = NULL;
	pthread_mutex_unlock(&k->lock);
}

int keeper_start(struct quire_tmem_service *s)
{
	struct keeper *k = &s->keeper;

	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->wake, NULL);
	k->last = &k->first;
	return service_start_thread(&k->thread, keep, s, "quire-tmem-keep");
}

void keeper_stop(struct quire_tmem_service *s)
{
	struct keeper *k = &s->keeper;

	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	pthread_mutex_destroy(&k->lock);
	pthread_cond_destroy(&k->wake);
}
