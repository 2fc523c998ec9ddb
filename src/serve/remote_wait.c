/* remote_wait.c - a client's threads take slots, submit them, and wait; see remote.c. */
#include "remote_internal.h"

#include <errno.h>
#include <sys/socket.h>

/* ---- slots ---- */

static bool try_slot(struct quire_tmem_client *c, uint32_t *ret_slot)
{
	uint32_t free_slots = atomic_load(&c->free_slots);

	while (free_slots != 0) {
		uint32_t slot = (uint32_t)__builtin_ctz(free_slots);
		if (atomic_compare_exchange_weak(&c->free_slots, &free_slots, free_slots & ~(1u << slot))) {
			*ret_slot = slot;
			return true;
		}
	}
	return false;
}

int remote_take_slot(struct quire_tmem_client *c, uint32_t *ret_slot)
{
	if (atomic_load_explicit(c->here, memory_order_relaxed) == 0)
		return -ECHILD;
	if (atomic_load_explicit(&c->broken, memory_order_relaxed) != 0)
		return -EPIPE;
	if (try_slot(c, ret_slot))
		return 0;
	int rc = 0;
	pthread_mutex_lock(&c->lock);
	atomic_fetch_add(&c->n_wanting, 1);
	while (!try_slot(c, ret_slot) && (rc = atomic_load(&c->broken)) == 0)
		pthread_cond_wait(&c->freed, &c->lock);
	atomic_fetch_sub(&c->n_wanting, 1);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

void remote_free_slot(struct quire_tmem_client *c, uint32_t slot)
{
	atomic_fetch_or(&c->free_slots, 1u << slot);
	if (atomic_load(&c->n_wanting) == 0)
		return;
	pthread_mutex_lock(&c->lock);
	pthread_cond_signal(&c->freed);
	pthread_mutex_unlock(&c->lock);
}

/* ---- waiting ---- */

static void submit(struct quire_tmem_client *c, uint32_t slot)
{
	struct ring_head *head = ring_head(&c->ring);
	static const char bell = 1;

	atomic_store_explicit(&ring_message(&c->ring, slot)->state, RING_SUBMITTED, memory_order_relaxed);
	pthread_mutex_lock(&c->lock);
	head->order[c->tail & (c->ring.n_slots - 1)] = (uint8_t)slot;
	c->tail++;
	atomic_store_explicit(&head->tail, c->tail, memory_order_release);
	pthread_mutex_unlock(&c->lock);
	/* Either the service sees the tail before it sleeps, or this sees that it does. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&head->asleep, memory_order_relaxed) != 0 && atomic_exchange(&head->asleep, 0) != 0)
		(void)send(c->socket, &bell, sizeof(bell), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool is_done(const struct ring_message *m)
{
	return atomic_load_explicit(&m->state, memory_order_acquire) == RING_DONE;
}

/* Whoever comes first receives for all that sleep; a byte says that some message is done, each looks whether it is his. */
static int sleep_until_done(struct quire_tmem_client *c, const struct ring_message *m)
{
	pthread_mutex_lock(&c->sleep_lock);
	while (!is_done(m) && atomic_load(&c->broken) == 0) {
		if (c->receiving) {
			pthread_cond_wait(&c->woken, &c->sleep_lock);
			continue;
		}
		char bells[8];
		c->receiving = true;
		pthread_mutex_unlock(&c->sleep_lock);
		ssize_t n = recv(c->socket, bells, sizeof(bells), 0);
		bool gone = n == 0 || (n < 0 && errno != EINTR);
		pthread_mutex_lock(&c->sleep_lock);
		c->receiving = false;
		if (gone)
			atomic_store(&c->broken, -EPIPE);
		pthread_cond_broadcast(&c->woken);
	}
	int rc = is_done(m) ? 0 : -EPIPE;
	pthread_mutex_unlock(&c->sleep_lock);
	if (rc < 0) {
		pthread_mutex_lock(&c->lock);
		pthread_cond_broadcast(&c->freed);
		pthread_mutex_unlock(&c->lock);
	}
	return rc;
}

int remote_ask(struct quire_tmem_client *c, uint32_t slot)
{
	struct ring_message *m = ring_message(&c->ring, slot);
	uint32_t submitted = RING_SUBMITTED;
	struct spin spin;
	int rc = 0;

	submit(c, slot);
	spin_begin(&spin, &c->habit);
	while (!is_done(m))
		if (!spin_again(&spin)) {
			if (atomic_compare_exchange_strong(&m->state, &submitted, RING_SLEEPING))
				rc = sleep_until_done(c, m);
			break;
		}
	spin_end(&spin);
	return rc;
}
