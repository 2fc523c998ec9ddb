/* map_cache.c - see map_cache.h.
 *
 * Slots of one page each, in one mapping that is touched as it is needed; a hash table from (owner, place) to slot; S3-FIFO says
 * who leaves. Dropping all is a new epoch: what is of an earlier one is not found any more, and its slots are taken again as the
 * policy comes to them.
 *
 * States of a slot: FREE → (got) FILLING → FULL → FREE. A slot that is FILLING is in no chain; two who miss the same page both read it,
 * and the second lets his go. All under the lock but reading.
 *
 *   1. A slot is in a chain of the table if and only if it is FULL.
 *   2. Pinned slots are not evicted. Unpinned FULL ones have one entry in the policy each; ones of an earlier epoch perhaps.
 */
#include "map_cache.h"

#include "../base/assert.h"
#include "../base/pages.h"
#include "../base/policy.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NO_SLOT UINT32_MAX
#define POLICY_BYTES 32u /* an entry of its queues, at worst */
#define MAX_USES 3u
#define SHRINK_PAGES 16u /* at a time */

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FULL };

struct slot {
	uint64_t owner;
	uint64_t place;
	uint32_t next;  /* in its chain, or of the free ones */
	uint32_t epoch;
	uint16_t n_pins;
	uint8_t uses, state;
	bool entered;   /* the policy has it */
};

struct map_cache {
	pthread_mutex_t lock;
	struct budget *budget; /* borrowed */
	struct policy *policy;
	uint8_t *pages;        /* owned mapping */
	struct slot *slots;    /* owned */
	uint32_t *table;       /* owned; heads of chains */
	uint32_t n_slots, n_fresh, first_free, first_bare, table_mask, epoch; /* bare: free, without memory, as fresh ones are */
	uint64_t cap_bytes, n_full, n_hits, n_misses, charged_bytes, fixed_bytes;
	enum map_cache_kind kind;
	_Atomic unsigned n_shares;
	/* shared_lock: */
	struct map_cache *next;  /* shared ones */
};

/* What is one for the process has no better place. */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map_cache *shared; /* a list */

static uint32_t *head_of(struct map_cache *c, uint64_t owner, uint64_t place)
{
	uint64_t h = (owner << 40 ^ place * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;

	return &c->table[(h >> 32) & c->table_mask];
}

static uint8_t *page_of(struct map_cache *c, uint32_t slot)
{
	return c->pages + (size_t)slot * MAP_NODE_BYTES;
}

/* ---- life ---- */

void map_cache_destroy(struct map_cache *c)
{
	if (c == NULL)
		return;
	budget_uncharge(c->budget, BUDGET_TABLES, c->charged_bytes);
	if (c->pages != NULL)
		munmap(c->pages, (size_t)c->n_slots * MAP_NODE_BYTES);
	policy_destroy(c->policy);
	free(c->slots);
	free(c->table);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int map_cache_create(uint64_t cap_bytes, struct budget *budget, struct map_cache **ret_cache)
{
	uint64_t each = MAP_NODE_BYTES + sizeof(struct slot) + 2 * sizeof(uint32_t) + POLICY_BYTES;
	struct map_cache *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->budget = budget;
	c->cap_bytes = cap_bytes;
	c->first_free = c->first_bare = NO_SLOT;
	pthread_mutex_init(&c->lock, NULL);
	uint64_t n = cap_bytes / each;
	c->n_slots = n < 8 ? 8 : n > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)n;
	c->table_mask = 8;
	while (c->table_mask < c->n_slots)
		c->table_mask *= 2;
	if (c->table_mask > 2 * c->n_slots)
		c->table_mask /= 2;
	c->fixed_bytes = (uint64_t)c->n_slots * (sizeof(struct slot) + POLICY_BYTES) + c->table_mask * sizeof(uint32_t);
	c->slots = calloc(c->n_slots, sizeof(c->slots[0]));
	c->table = malloc(c->table_mask * sizeof(c->table[0]));
	void *pages = mmap(NULL, (size_t)c->n_slots * MAP_NODE_BYTES, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	c->pages = pages == MAP_FAILED ? NULL : pages;
	if (c->slots == NULL || c->table == NULL || c->pages == NULL || policy_create(&c->policy) < 0) {
		map_cache_destroy(c);
		return -ENOMEM;
	}
	memset(c->table, 0xff, c->table_mask * sizeof(c->table[0]));
	c->table_mask--;
	budget_charge(budget, BUDGET_TABLES, c->fixed_bytes);
	c->charged_bytes = c->fixed_bytes;
	*ret_cache = c;
	return 0;
}

int map_cache_share(enum map_cache_kind kind, uint64_t cap_bytes, struct budget *budget, struct map_cache **ret_cache)
{
	int rc = 0;

	pthread_mutex_lock(&shared_lock);
	struct map_cache *c = shared;
	while (c != NULL && (c->budget != budget || c->kind != kind))
		c = c->next;
	if (c == NULL) {
		rc = map_cache_create(cap_bytes, budget, &c);
		if (rc == 0) {
			c->kind = kind;
			c->next = shared;
			shared = c;
		}
	}
	if (rc == 0) {
		c->n_shares++;
		*ret_cache = c;
	}
	pthread_mutex_unlock(&shared_lock);
	return rc;
}

void map_cache_unshare(struct map_cache *c)
{
	struct map_cache **link = &shared;

	if (c == NULL)
		return;
	pthread_mutex_lock(&shared_lock);
	bool last = --c->n_shares == 0;
	while (last && *link != c)
		link = &(*link)->next;
	if (last)
		*link = c->next;
	pthread_mutex_unlock(&shared_lock);
	if (last)
		map_cache_destroy(c);
}

uint64_t map_cache_share_bytes(struct map_cache *c)
{
	return c->cap_bytes / atomic_load_explicit(&c->n_shares, memory_order_relaxed);
}

uint64_t map_cache_new_owner(void)
{
	static _Atomic uint64_t last;

	return atomic_fetch_add(&last, 1) + 1;
}

/* ---- slots; lock held ---- */

static void unlink_slot(struct map_cache *c, uint32_t slot)
{
	uint32_t *link = head_of(c, c->slots[slot].owner, c->slots[slot].place);

	while (*link != slot)
		link = &c->slots[*link].next;
	*link = c->slots[slot].next;
	c->n_full--;
}

static void free_slot(struct map_cache *c, uint32_t slot)
{
	c->slots[slot].state = SLOT_FREE;
	c->slots[slot].next = c->first_free;
	c->first_free = slot;
}

static enum policy_answer ask(void *arg, uint64_t page, unsigned threshold)
{
	struct map_cache *c = arg;
	struct slot *s = &c->slots[page];

	if (s->state != SLOT_FULL) {
		s->entered = false;
		return POLICY_GONE;
	}
	if (s->n_pins > 0)
		return POLICY_BUSY;
	if (s->epoch == c->epoch && s->uses >= threshold) {
		s->uses--;
		return POLICY_USED;
	}
	s->entered = false;
	return POLICY_TAKEN;
}

/* Pages of the map must be had; data may stay where they are. */
static bool charge_one(struct map_cache *c)
{
	if (c->kind == MAP_CACHE_DATA)
		return c->charged_bytes + MAP_NODE_BYTES <= budget_limit(c->budget) / 2 &&
		       budget_try_charge(c->budget, BUDGET_TABLES, MAP_NODE_BYTES);
	budget_charge(c->budget, BUDGET_TABLES, MAP_NODE_BYTES);
	return true;
}

/* Data has more than its half of the budget, which was lowered: some of it leaves, and its memory with it. */
static void shrink(struct map_cache *c)
{
	uint64_t pages[SHRINK_PAGES];
	unsigned n = 0;

	/* Where the kernel's pages are larger than a slot it keeps them: with one others would go. */
	if (c->kind == MAP_CACHE_DATA && c->charged_bytes > budget_limit(c->budget) / 2 && pages_bytes(MAP_NODE_BYTES) == MAP_NODE_BYTES)
		n = policy_pick(c->policy, pages, SHRINK_PAGES, ask, c);
	for (unsigned i = 0; i < n; i++) {
		unlink_slot(c, (uint32_t)pages[i]);
		if (madvise(page_of(c, (uint32_t)pages[i]), MAP_NODE_BYTES, MADV_DONTNEED) < 0) {
			free_slot(c, (uint32_t)pages[i]);
			continue;
		}
		budget_uncharge(c->budget, BUDGET_TABLES, MAP_NODE_BYTES);
		c->charged_bytes -= MAP_NODE_BYTES;
		c->slots[pages[i]].state = SLOT_FREE;
		c->slots[pages[i]].next = c->first_bare;
		c->first_bare = (uint32_t)pages[i];
	}
}

/* One without memory yet. */
static bool take_bare(struct map_cache *c)
{
	uint32_t slot = c->first_bare != NO_SLOT ? c->first_bare : c->n_fresh;

	if (slot >= c->n_slots || !charge_one(c))
		return false;
	c->charged_bytes += MAP_NODE_BYTES;
	if (slot == c->first_bare)
		c->first_bare = c->slots[slot].next;
	else
		c->n_fresh++;
	free_slot(c, slot);
	return true;
}

/* One whose page nobody needs. NO_SLOT: all are pinned. */
static uint32_t get_slot(struct map_cache *c)
{
	uint64_t page;

	if (c->first_free == NO_SLOT && !take_bare(c) && policy_pick(c->policy, &page, 1, ask, c) == 1) {
		unlink_slot(c, (uint32_t)page);
		free_slot(c, (uint32_t)page);
	}
	uint32_t slot = c->first_free;
	if (slot == NO_SLOT)
		return NO_SLOT;
	c->first_free = c->slots[slot].next;
	struct slot *s = &c->slots[slot];
	s->state = SLOT_FILLING;
	s->n_pins = 1;
	s->uses = 0;
	s->epoch = c->epoch;
	return slot;
}

static uint32_t find(struct map_cache *c, uint64_t owner, uint64_t place)
{
	for (uint32_t i = *head_of(c, owner, place); i != NO_SLOT; i = c->slots[i].next)
		if (c->slots[i].owner == owner && c->slots[i].place == place && c->slots[i].epoch == c->epoch)
			return i;
	return NO_SLOT;
}

static void pin(struct map_cache *c, uint32_t slot, struct map_pin *ret)
{
	struct slot *s = &c->slots[slot];

	s->n_pins++;
	if (s->uses < MAX_USES)
		s->uses++;
	*ret = (struct map_pin){.node = (const struct map_node_le *)page_of(c, slot), .slot = slot};
}

/* ---- pages ---- */

static int fill(struct map_owner *owner, const struct map_extent *ref, unsigned level, void *page)
{
	int rc = owner->read(owner, ref->place, page);

	return rc < 0 ? rc : map_node_verify(page, ref, level);
}

static int get_alone(struct map_owner *owner, const struct map_extent *ref, unsigned level, struct map_pin *ret)
{
	void *page = aligned_alloc(MAP_NODE_BYTES, MAP_NODE_BYTES);
	int rc = page == NULL ? -ENOMEM : fill(owner, ref, level, page);

	if (rc < 0) {
		free(page);
		return rc;
	}
	*ret = (struct map_pin){.node = page, .alone = page};
	return 0;
}

/* The slot, FILLING and pinned by the caller, has the page: it is found from now on, or another one is there already. Lock held. */
static void publish(struct map_cache *c, uint32_t slot, uint64_t owner, uint64_t place, struct map_pin *ret)
{
	struct slot *s = &c->slots[slot];
	uint32_t other = find(c, owner, place);

	if (other != NO_SLOT) {
		free_slot(c, slot);
		pin(c, other, ret);
		return;
	}
	s->owner = owner;
	s->place = place;
	s->state = SLOT_FULL;
	uint32_t *head = head_of(c, owner, place);
	s->next = *head;
	*head = slot;
	c->n_full++;
	if (!s->entered)
		s->entered = policy_insert(c->policy, slot) == 0;
	*ret = (struct map_pin){.node = (const struct map_node_le *)page_of(c, slot), .slot = slot};
}

int map_cache_get(struct map_cache *c, struct map_owner *owner, const struct map_extent *ref, unsigned level,
                  struct map_pin *ret)
{
	pthread_mutex_lock(&c->lock);
	uint32_t slot = find(c, owner->id, ref->place);
	if (slot != NO_SLOT) {
		c->n_hits++;
		pin(c, slot, ret);
		pthread_mutex_unlock(&c->lock);
		/* The page was verified, but not for this reference. */
		if (le64toh(ret->node->birth) == ref->birth && ret->node->level == level)
			return 0;
		map_cache_put(c, ret);
		return -EUCLEAN;
	}
	c->n_misses++;
	slot = get_slot(c);
	pthread_mutex_unlock(&c->lock);
	if (slot == NO_SLOT)
		return get_alone(owner, ref, level, ret);
	int rc = fill(owner, ref, level, page_of(c, slot));
	pthread_mutex_lock(&c->lock);
	if (rc < 0)
		free_slot(c, slot);
	else
		publish(c, slot, owner->id, ref->place, ret);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

void map_cache_put(struct map_cache *c, struct map_pin *pin)
{
	if (pin->alone != NULL) {
		free(pin->alone);
	} else {
		pthread_mutex_lock(&c->lock);
		struct slot *s = &c->slots[pin->slot];
		quire_assert(s->n_pins > 0);
		/* The policy had no memory to note it: it leaves at once. */
		if (--s->n_pins == 0 && !s->entered) {
			unlink_slot(c, pin->slot);
			free_slot(c, pin->slot);
		}
		pthread_mutex_unlock(&c->lock);
	}
	*pin = (struct map_pin){0};
}

bool map_cache_copy_out(struct map_cache *c, uint64_t owner_id, uint64_t place, void *to)
{
	struct map_pin p = {0};

	pthread_mutex_lock(&c->lock);
	uint32_t slot = find(c, owner_id, place);
	c->n_hits += slot != NO_SLOT;
	c->n_misses += slot == NO_SLOT;
	if (slot != NO_SLOT)
		pin(c, slot, &p);
	pthread_mutex_unlock(&c->lock);
	if (slot == NO_SLOT)
		return false;
	memcpy(to, p.node, MAP_NODE_BYTES);
	map_cache_put(c, &p);
	return true;
}

void map_cache_copy_in(struct map_cache *c, uint64_t owner_id, uint64_t place, const void *from)
{
	struct map_pin p;

	pthread_mutex_lock(&c->lock);
	shrink(c);
	uint32_t slot = find(c, owner_id, place) == NO_SLOT ? get_slot(c) : NO_SLOT;
	pthread_mutex_unlock(&c->lock);
	if (slot == NO_SLOT)
		return;
	memcpy(page_of(c, slot), from, MAP_NODE_BYTES);
	pthread_mutex_lock(&c->lock);
	publish(c, slot, owner_id, place, &p);
	pthread_mutex_unlock(&c->lock);
	map_cache_put(c, &p);
}

void map_cache_drop(struct map_cache *c)
{
	pthread_mutex_lock(&c->lock);
	c->epoch++;
	pthread_mutex_unlock(&c->lock);
}

void map_cache_stat(struct map_cache *c, struct map_cache_stat *ret)
{
	pthread_mutex_lock(&c->lock);
	*ret = (struct map_cache_stat){.cap_bytes = c->cap_bytes, .bytes = c->charged_bytes, .n_pages = c->n_full,
	                               .n_hits = c->n_hits, .n_misses = c->n_misses};
	pthread_mutex_unlock(&c->lock);
}
