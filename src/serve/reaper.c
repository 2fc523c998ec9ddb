/* reaper.c - a thread that destroys pools, which takes as long as there are pages in them: nobody is to wait for that but who
 * asked for it.
 *
 * In the order of coming: a client's own grave comes after those of its pools, so what they name is there still. Once the service
 * has been stopped nothing more is destroyed until it is freed.
 */
#include "service_internal.h"

#include "../base/assert.h"

#include <stdlib.h>

static void destroy_pool(struct grave *g)
{
	struct client *c = g->client;
	struct handle *h = g->handle;
	uint32_t slot = g->slot;

	quire_tmem_pool_destroy(h->pool);
	/* From here on the grave, which lies in the handle, is another's. */
	atomic_store_explicit(&h->state, HANDLE_FREE, memory_order_release);
	atomic_store_explicit(&ring_message(&c->ring, slot)->result, 0, memory_order_relaxed);
	client_complete(c, slot);
}

static void destroy_client(struct client *c)
{
	struct quire_tmem_service *s = c->service;
	unsigned place = c->account.place;

	client_destroy(c);
	service_free_place(s, place);
}

static void *reap(void *arg)
{
	struct quire_tmem_service *s = arg;
	struct reaper *r = &s->reaper;

	pthread_mutex_lock(&r->lock);
	while (r->first != NULL || !r->stop) {
		struct grave *g = r->first;
		if (g == NULL || r->hold) {
			pthread_cond_wait(&r->wake, &r->lock);
			continue;
		}
		r->first = g->next;
		if (r->first == NULL)
			r->last = &r->first;
		pthread_mutex_unlock(&r->lock);
		if (g->handle != NULL)
			destroy_pool(g);
		else
			destroy_client(g->client);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

void reaper_bury(struct quire_tmem_service *s, struct grave *g)
{
	struct reaper *r = &s->reaper;

	g->next = NULL;
	pthread_mutex_lock(&r->lock);
	*r->last = g;
	r->last = &g->next;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

void reaper_each_client(struct quire_tmem_service *s, void (*fn)(struct client *c))
{
	pthread_mutex_lock(&s->reaper.lock);
	quire_assert(s->reaper.hold);
	for (struct grave *g = s->reaper.first; g != NULL; g = g->next)
		if (g->handle == NULL)
			fn(g->client);
	pthread_mutex_unlock(&s->reaper.lock);
}

int reaper_start(struct quire_tmem_service *s)
{
	struct reaper *r = &s->reaper;

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	r->last = &r->first;
	return service_start_thread(&r->thread, reap, s, "quire-tmem-reap");
}

void reaper_hold(struct quire_tmem_service *s)
{
	pthread_mutex_lock(&s->reaper.lock);
	s->reaper.hold = true;
	pthread_mutex_unlock(&s->reaper.lock);
}

void reaper_stop(struct quire_tmem_service *s)
{
	struct reaper *r = &s->reaper;

	pthread_mutex_lock(&r->lock);
	r->stop = true;
	r->hold = false;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->wake);
}
