/* unpack.c - whatever form a page has, out again.
 *
 * LZ4 needs nothing for that. zstd needs a context and, for a unit, room for all of it: an unpacker, of which there is one for
 * each thread that is just unpacking, made when it is first needed and kept. The first is made before anything is packed by zstd. So
 * a page comes out without memory too: who gets no unpacker then waits for one, which is some 20 microseconds.
 *
 * An unpacker remembers which unit it has unpacked last, by a number that no other unit has. Who gets the pages of an object in order
 * finds the next ones of a unit there: that is what neighbours are packed together for. The packed bytes are checked all the same.
 */
#include "tmem_internal.h"

#include "../base/crc32c.h"
#include "../base/spin.h"

struct packed tmem_packed(const struct quire_tmem *t, const struct slot_head *h, uint16_t low)
{
	struct packed p = {.head = h, .codec = (enum slot_codec)h->codec};

	if (h->kind == SLOT_UNIT) {
		uint32_t page_bytes = content_pool(t, h)->o.page_bytes;
		p.unit_bytes = slot_n_packed(h) * page_bytes;
		p.offset = slot_rank(h, low) * page_bytes;
		p.serial = h->serial;
	}
	return p;
}

bool tmem_packed_is_intact(const struct slot_head *h)
{
	return crc32c(0, h + 1, slot_len(h)) == h->check;
}

/* ---- unpackers ---- */

/* One more, which the caller has. NULL: no memory. The lock not held. */
static struct unpacker *make_unpacker(struct quire_tmem *t, uint32_t unit_bytes)
{
	size_t most = unpacker_most_bytes(unit_bytes);

	if (!budget_try_charge(t->budget, BUDGET_TMEM, most))
		return NULL;
	struct unpacker *u = unpacker_new(unit_bytes);
	size_t bytes = u == NULL ? 0 : u->bytes;
	if (bytes > most)
		budget_charge(t->budget, BUDGET_TMEM, bytes - most);
	else
		budget_uncharge(t->budget, BUDGET_TMEM, most - bytes);
	return u;
}

static void put_unpacker(struct quire_tmem *t, struct unpacker *u)
{
	spin_lock(&t->lock);
	u->next = t->unpackers;
	t->unpackers = u;
	if (u->unit_bytes > t->unpacker_bytes)
		t->unpacker_bytes = u->unit_bytes;
	pthread_cond_broadcast(&t->unpacker_back);
	pthread_mutex_unlock(&t->lock);
}

/* An idle one, that has the unit if there is one; NULL. The lock held. */
static struct unpacker *idle_unpacker(struct quire_tmem *t, const struct packed *p)
{
	struct unpacker **best = NULL, *u;

	for (struct unpacker **at = &t->unpackers; *at != NULL; at = &(*at)->next)
		if ((*at)->unit_bytes >= p->unit_bytes && (best == NULL || (p->serial != 0 && (*at)->serial == p->serial)))
			best = at;
	if (best == NULL)
		return NULL;
	u = *best;
	*best = u->next;
	return u;
}

static struct unpacker *get_unpacker(struct quire_tmem *t, const struct packed *p)
{
	spin_lock(&t->lock);
	struct unpacker *u = idle_unpacker(t, p);
	pthread_mutex_unlock(&t->lock);
	if (u == NULL)
		u = make_unpacker(t, p->unit_bytes);
	if (u != NULL)
		return u;
	pthread_mutex_lock(&t->lock);
	while ((u = idle_unpacker(t, p)) == NULL)
		pthread_cond_wait(&t->unpacker_back, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return u;
}

bool tmem_unpackers_reserve(struct quire_tmem *t, uint32_t unit_bytes)
{
	pthread_mutex_lock(&t->lock);
	bool there = t->unpacker_bytes >= unit_bytes;
	pthread_mutex_unlock(&t->lock);
	struct unpacker *u = there ? NULL : make_unpacker(t, unit_bytes);
	if (u != NULL)
		put_unpacker(t, u);
	return there || u != NULL;
}

void tmem_unpackers_init(struct quire_tmem *t)
{
	pthread_cond_init(&t->unpacker_back, NULL);
}

void tmem_unpackers_fini(struct quire_tmem *t)
{
	for (struct unpacker *u = t->unpackers, *next; u != NULL; u = next) {
		next = u->next;
		budget_uncharge(t->budget, BUDGET_TMEM, u->bytes);
		unpacker_free(u);
	}
	pthread_cond_destroy(&t->unpacker_back);
}

/* ---- out ---- */

static bool unpack_unit(struct unpacker *u, const struct packed *p)
{
	if (u->serial == p->serial)
		return true;
	bool good = unpacker_run(u, p->head + 1, slot_len(p->head), u->unit, p->unit_bytes);
	u->serial = good ? p->serial : 0;
	return good;
}

bool tmem_unpack(struct quire_tmem *t, const struct packed *p, void *page, uint32_t n_bytes)
{
	const struct slot_head *h = p->head;

	if (!tmem_packed_is_intact(h))
		return false;
	if (p->codec != CODEC_ZSTD)
		return codec_unpack(p->codec, h + 1, slot_len(h), page, n_bytes);
	struct unpacker *u = get_unpacker(t, p);
	bool good = p->unit_bytes == 0 ? unpacker_run(u, h + 1, slot_len(h), page, n_bytes) : unpack_unit(u, p);
	if (good && p->unit_bytes != 0)
		memcpy(page, u->unit + p->offset, n_bytes);
	put_unpacker(t, u);
	return good;
}
