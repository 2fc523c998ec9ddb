/* remote_queue.c - values on their way to the remote tier, and the thread that sends them; see remote.c.
 *
 * Evictions must not wait, so they copy what leaves, a few KiB, into a ring of bytes. One thread sends the oldest, without the lock,
 * where it lies: it gives up its place in the ring only after that. It deletes what nobody wants any more as well, so no
 * value is deleted before it was sent. Deletions that don't fit into their own ring are forgotten: the tier is a cache.
 *
 * In the ring a value is in one piece: what would pass its end begins anew at its beginning. Values are found by their versions, which rise.
 */
#include "remote_tier.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_AN_ENTRY 256u

static struct remote_entry *entry(const struct remote *r, uint32_t i)
{
	return &r->entries[(r->first + i) % r->capacity];
}

static struct tmem_remote_head *value_at(const struct remote *r, uint64_t at)
{
	return (struct tmem_remote_head *)(r->ring + at % r->tier.queue_bytes);
}

/* NULL: it is not there. */
static struct remote_entry *find(const struct remote *r, uint64_t version)
{
	uint32_t low = 0, high = r->n_entries;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (entry(r, middle)->version < version)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->n_entries && entry(r, low)->version == version ? entry(r, low) : NULL;
}

static void wake(struct remote *r)
{
	if (r->asleep)
		pthread_cond_signal(&r->wake);
}

bool remote_queue_push(struct remote *r, const struct tmem_remote_head *head, const void *bytes)
{
	uint64_t n_bytes = (sizeof(*head) + head->len + 7) & ~UINT64_C(7), size = r->tier.queue_bytes, at = r->end;

	if (at % size + n_bytes > size)
		at += size - at % size;
	uint64_t oldest = r->n_entries == 0 ? at : entry(r, 0)->at;
	if (r->n_entries == r->capacity || at + n_bytes - oldest > size)
		return false;
	memcpy(value_at(r, at), head, sizeof(*head));
	memcpy(value_at(r, at) + 1, bytes, head->len);
	*entry(r, r->n_entries++) = (struct remote_entry){.version = head->key.version, .at = at};
	r->end = at + n_bytes;
	wake(r);
	return true;
}

bool remote_queue_copy(const struct remote *r, uint64_t version, void *ret_bytes)
{
	const struct remote_entry *e = find(r, version);

	if (e == NULL)
		return false;
	memcpy(ret_bytes, value_at(r, e->at) + 1, value_at(r, e->at)->len);
	return true;
}

void remote_queue_drop(struct remote *r, uint64_t version)
{
	struct remote_entry *e = find(r, version);
	bool sent = e == NULL || (r->sending && e == entry(r, 0));

	if (e != NULL)
		e->dropped = true;
	if (!sent || r->n_drops == REMOTE_DROPS)
		return;
	r->drops[(r->first_drop + r->n_drops++) % REMOTE_DROPS] = version;
	wake(r);
}

/* ---- the thread; the lock held, and released meanwhile ---- */

/* It didn't arrive, as far as is known. */
static void lose(struct remote *r, const struct tmem_remote_head *head)
{
	struct quire_tmem *t = r->tmem;
	struct quire_tmem_pool *pool = t->pools[head->pool];
	struct quire_tmem_key key = {.index = head->index};

	r->counts.n_errors++;
	if (pool == NULL)
		return;
	memcpy(key.object, head->object, sizeof(key.object));
	struct where at = tmem_stub_find(pool, &key, head->key.version);
	if (at.value == VALUE_NONE)
		return;
	tmem_page_remove(pool, &at);
	pool->counts.n_evicted++;
}

static void send_oldest(struct remote *r)
{
	const struct tmem_remote_head *value = value_at(r, entry(r, 0)->at);
	struct tmem_remote_head head = *value;
	int rc = 0;

	if (!entry(r, 0)->dropped) {
		r->sending = true;
		pthread_mutex_unlock(&r->tmem->lock);
		rc = r->tier.ops->send(r->tier.arg, value);
		pthread_mutex_lock(&r->tmem->lock);
		r->sending = false;
		r->counts.n_sent += rc == 0;
	}
	r->first = (r->first + 1) % r->capacity;
	r->n_entries--;
	if (rc < 0)
		lose(r, &head);
}

static void drop_oldest(struct remote *r)
{
	struct tmem_remote_key key = r->next;

	key.version = r->drops[r->first_drop];
	r->first_drop = (r->first_drop + 1) % REMOTE_DROPS;
	r->n_drops--;
	pthread_mutex_unlock(&r->tmem->lock);
	r->tier.ops->drop(r->tier.arg, &key);
	pthread_mutex_lock(&r->tmem->lock);
}

static void *sender(void *arg)
{
	struct remote *r = arg;

	pthread_mutex_lock(&r->tmem->lock);
	while (!r->stop) {
		if (r->n_entries > 0)
			send_oldest(r);
		if (r->n_drops > 0 && !r->stop)
			drop_oldest(r);
		while (r->n_entries == 0 && r->n_drops == 0 && !r->stop) {
			r->asleep = true;
			pthread_cond_wait(&r->wake, &r->tmem->lock);
			r->asleep = false;
		}
	}
	pthread_mutex_unlock(&r->tmem->lock);
	return NULL;
}

/* ---- life ---- */

static int start_sender(struct remote *r)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&r->sender, NULL, sender, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

static void release(struct remote *r)
{
	free(r->ring);
	free(r->entries);
	pthread_cond_destroy(&r->wake);
	pthread_cond_destroy(&r->idle);
	budget_uncharge(r->tmem->budget, BUDGET_TMEM, r->charged_bytes);
}

int remote_queue_init(struct remote *r)
{
	r->tier.queue_bytes &= ~UINT64_C(7);
	r->capacity = (uint32_t)(r->tier.queue_bytes / BYTES_AN_ENTRY);
	uint64_t bytes = sizeof(*r) + r->tier.queue_bytes + r->capacity * sizeof(r->entries[0]);
	if (!budget_try_charge(r->tmem->budget, BUDGET_TMEM, bytes))
		return -ENOMEM;
	r->charged_bytes = bytes;
	r->ring = calloc(1, r->tier.queue_bytes);
	r->entries = calloc(r->capacity, sizeof(r->entries[0]));
	pthread_cond_init(&r->wake, NULL);
	pthread_cond_init(&r->idle, NULL);
	int rc = r->ring == NULL || r->entries == NULL ? -ENOMEM : start_sender(r);
	if (rc < 0)
		release(r);
	return rc;
}

void remote_queue_fini(struct remote *r)
{
	pthread_mutex_lock(&r->tmem->lock);
	r->stop = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->tmem->lock);
	pthread_join(r->sender, NULL);
	release(r);
}
