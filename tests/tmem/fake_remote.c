/* fake_remote.c - see fake_remote.h. */
#include "fake_remote.h"

#include "../../src/tmem/remote_tier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fake_remote_init(struct fake_remote *f)
{
	memset(f, 0, sizeof(*f));
	f->random = 1;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
}

void fake_remote_lose(struct fake_remote *f)
{
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < FAKE_VALUES; i++) {
		free(f->values[i].value);
		f->values[i].value = NULL;
	}
	pthread_mutex_unlock(&f->lock);
}

void fake_remote_fini(struct fake_remote *f)
{
	assert_true(f->closed);
	fake_remote_lose(f);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
}

void fake_remote_hold(struct fake_remote *f, bool hold)
{
	pthread_mutex_lock(&f->lock);
	f->hold_sends = hold;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

/* The lock held from here on. 0: all is well. */
static unsigned badness(struct fake_remote *f)
{
	f->random = f->random * 6364136223846793005u + 1442695040888963407u;
	if (f->bad_one_in == 0 || (f->random >> 33) % f->bad_one_in != 0)
		return 0;
	return 1 + (unsigned)(f->random >> 48) % 5;
}

static struct fake_value *place_of(struct fake_remote *f, uint64_t version)
{
	return &f->values[version % FAKE_VALUES];
}

static struct tmem_remote_head *find(struct fake_remote *f, uint64_t version)
{
	struct fake_value *v = place_of(f, version);

	return v->version == version ? v->value : NULL;
}

static int send_value(void *arg, const struct tmem_remote_head *value)
{
	struct fake_remote *f = arg;
	size_t n_bytes = sizeof(*value) + value->len;

	pthread_mutex_lock(&f->lock);
	while (f->hold_sends)
		pthread_cond_wait(&f->changed, &f->lock);
	unsigned bad = badness(f);
	bool fails = f->fail_sends || bad == 1;
	/* 2: it says it has it; 3: it says it hasn't. */
	if (!fails && bad != 2) {
		struct fake_value *v = place_of(f, value->key.version);
		free(v->value);
		v->version = value->key.version;
		v->value = malloc(n_bytes);
		memcpy(v->value, value, n_bytes);
	}
	f->n_sends++;
	pthread_mutex_unlock(&f->lock);
	return fails || bad == 3 ? -EIO : 0;
}

static void take_time(struct fake_remote *f)
{
	pthread_mutex_lock(&f->lock);
	bool late = f->late_one_in != 0 && ++f->n_fetches % f->late_one_in == 0;
	void (*hook)(void *) = f->hook;
	f->hook = NULL;
	pthread_mutex_unlock(&f->lock);
	if (late)
		usleep(f->late_us);
	if (hook != NULL)
		hook(f->hook_arg);
}

static int fetch_value(void *arg, const struct tmem_remote_key *key, struct tmem_remote_head *ret_head, void *ret_bytes, uint32_t n_bytes)
{
	struct fake_remote *f = arg;

	take_time(f);
	pthread_mutex_lock(&f->lock);
	unsigned bad = badness(f);
	const struct tmem_remote_head *value = find(f, f->instead != 0 ? f->instead : key->version);
	if (bad == 2) /* it has something else */
		value = find(f, key->version - 1 - (f->random >> 40) % 16);
	int rc = f->fail_fetches || bad == 1 ? -ETIMEDOUT : value == NULL ? -ENOENT : value->len != n_bytes || f->cut ? -EBADMSG : 0;
	if (rc == 0) {
		*ret_head = *value;
		memcpy(ret_bytes, value + 1, n_bytes);
		if (bad == 3 || f->damage)
			((uint8_t *)ret_bytes)[(f->random >> 20) % n_bytes] ^= 1;
		if (bad == 4)
			((uint8_t *)ret_head)[(f->random >> 20) % sizeof(*ret_head)] ^= 1;
		f->n_wrong += bad >= 2 && bad <= 4;
	}
	f->n_fetches += f->late_one_in == 0;
	pthread_mutex_unlock(&f->lock);
	return rc;
}

static void drop_value(void *arg, const struct tmem_remote_key *key)
{
	struct fake_remote *f = arg;

	pthread_mutex_lock(&f->lock);
	if (badness(f) == 0 && find(f, key->version) != NULL) {
		free(place_of(f, key->version)->value);
		place_of(f, key->version)->value = NULL;
	}
	f->n_drops++;
	pthread_mutex_unlock(&f->lock);
}

static void close_remote(void *arg)
{
	struct fake_remote *f = arg;

	f->closed = true;
}

int fake_remote_set(struct fake_remote *f, struct quire_tmem *t, uint64_t queue_bytes)
{
	static const struct tmem_remote_ops ops = {send_value, fetch_value, drop_value, close_remote};
	struct tmem_remote r = {.ops = &ops, .arg = f, .queue_bytes = queue_bytes};

	return tmem_remote_set(t, &r, NULL);
}

void fake_remote_settle(struct quire_tmem *t)
{
	bool busy = true;

	while (busy) {
		pthread_mutex_lock(&t->lock);
		busy = t->remote->n_entries > 0 || t->remote->n_drops > 0 || !t->remote->asleep;
		pthread_mutex_unlock(&t->lock);
		sched_yield();
	}
}
