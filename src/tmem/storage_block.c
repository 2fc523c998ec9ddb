/* storage_block.c - a block of slots: classes, its pages as they come and go, its slots as they are taken and given. */
#include "storage_internal.h"

#include "../base/assert.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_BYTES (1u << 20)
#define BLOCK_LEAST_BYTES (1u << 17) /* the first ones of a class */
#define BLOCK_LEAST_SLOTS 8u
#define FINE_STEP 16u
#define FINE_CLASSES ((STORAGE_FINE_BYTES - STORAGE_LEAST_BYTES) / FINE_STEP + 1)
#define COARSE_SHIFT 6u /* 64 classes to a doubling */
#define POPULATE_MOST 16u /* pages at once, */
#define POPULATE_SHIFT 6u /* and no more than a 64th of what the class has */

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* ---- classes ---- */

uint32_t storage_class_of(uint32_t n_bytes)
{
	quire_assert(n_bytes <= STORAGE_MOST_BYTES);
	if (n_bytes <= STORAGE_LEAST_BYTES)
		return 0;
	if (n_bytes <= STORAGE_FINE_BYTES)
		return (n_bytes - STORAGE_LEAST_BYTES + FINE_STEP - 1) / FINE_STEP;
	uint32_t k = 31 - (uint32_t)__builtin_clz(n_bytes - 1); /* 2^k < n_bytes <= 2^(k+1) */
	uint32_t step = 1u << (k - COARSE_SHIFT);
	return FINE_CLASSES + ((k - 12) << COARSE_SHIFT) + (n_bytes - (1u << k) + step - 1) / step - 1;
}

uint32_t storage_bytes_of_class(uint32_t class_no)
{
	if (class_no < FINE_CLASSES)
		return STORAGE_LEAST_BYTES + class_no * FINE_STEP;
	uint32_t i = class_no - FINE_CLASSES, k = 12 + (i >> COARSE_SHIFT);
	return (1u << k) + ((i & ((1u << COARSE_SHIFT) - 1)) + 1) * (1u << (k - COARSE_SHIFT));
}

/* ---- lists of blocks ---- */

static void list_add(struct storage_class *c, struct block *b)
{
	b->prev = NULL;
	b->next = c->first;
	if (c->first != NULL)
		c->first->prev = b;
	c->first = b;
}

static void list_remove(struct storage_class *c, struct block *b)
{
	*(b->prev != NULL ? &b->prev->next : &c->first) = b->next;
	if (b->next != NULL)
		b->next->prev = b->prev;
}

static void idle_add(struct storage *s, struct block *b)
{
	b->idle_prev = NULL;
	b->idle_next = s->idle;
	if (s->idle != NULL)
		s->idle->idle_prev = b;
	s->idle = b;
}

static void idle_remove(struct storage *s, struct block *b)
{
	*(b->idle_prev != NULL ? &b->idle_prev->idle_next : &s->idle) = b->idle_next;
	if (b->idle_next != NULL)
		b->idle_next->idle_prev = b->idle_prev;
}

/* ---- pages ---- */

void block_pages_of(const struct storage *s, const struct block *b, uint32_t slot, uint32_t *ret_first,
                     uint32_t *ret_last)
{
	uint64_t at = (uint64_t)slot * b->slot_bytes;

	*ret_first = (uint32_t)(at >> s->page_shift);
	*ret_last = (uint32_t)((at + b->slot_bytes - 1) >> s->page_shift);
}

static void count_idle(struct storage *s, struct block *b, bool more)
{
	if (more && b->n_idle++ == 0)
		idle_add(s, b);
	if (!more && --b->n_idle == 0)
		idle_remove(s, b);
	s->idle_bytes += more ? UINT64_C(1) << s->page_shift : -(UINT64_C(1) << s->page_shift);
}

/* Pages that the slot needs and that are not resident. */
uint32_t block_n_missing(const struct storage *s, const struct block *b, uint32_t slot)
{
	uint32_t first, last, n = 0;

	block_pages_of(s, b, slot, &first, &last);
	for (uint32_t p = first; p <= last; p++)
		n += !bit_get(b->there, p);
	return n;
}

bool block_charge(struct storage *s, struct block *b, uint32_t slot)
{
	uint64_t bytes = (uint64_t)block_n_missing(s, b, slot) << s->page_shift;

	if (!budget_try_charge(s->budget, BUDGET_TMEM, bytes))
		return false;
	s->resident_bytes += bytes;
	s->classes[b->class_no].resident_bytes += bytes;
	return true;
}

static void touch(struct storage *s, struct block *b, uint32_t slot)
{
	uint32_t first, last;

	block_pages_of(s, b, slot, &first, &last);
	for (uint32_t p = first; p <= last; p++) {
		if (b->touching[p]++ == 0 && bit_get(b->there, p))
			count_idle(s, b, false);
		bit_set(b->there, p);
	}
}

static void untouch(struct storage *s, struct block *b, uint32_t slot)
{
	uint32_t first, last;

	block_pages_of(s, b, slot, &first, &last);
	for (uint32_t p = first; p <= last; p++)
		if (--b->touching[p] == 0)
			count_idle(s, b, true);
}

void block_populate(struct storage *s, struct block *b, uint32_t slot)
{
	struct storage_class *c = &s->classes[b->class_no];
	uint64_t most = c->resident_bytes >> s->page_shift >> POPULATE_SHIFT;
	uint32_t first, last, end;

	block_pages_of(s, b, slot, &first, &last);
	if (most > POPULATE_MOST)
		most = POPULATE_MOST;
	for (end = last + 1; end < b->n_pages && end - last <= most && !bit_get(b->there, end);)
		end++;
	uint64_t n_bytes = (uint64_t)(end - last - 1) << s->page_shift;
	if (n_bytes == 0 || !budget_try_charge(s->budget, BUDGET_TMEM, n_bytes))
		return;
	/* What the kernel can't do at once comes by faults. */
	(void)madvise(b->base + ((size_t)first << s->page_shift), (size_t)(end - first) << s->page_shift,
	              MADV_POPULATE_WRITE);
	s->resident_bytes += n_bytes;
	c->resident_bytes += n_bytes;
	for (uint32_t p = last + 1; p < end; p++) {
		bit_set(b->there, p);
		count_idle(s, b, true);
	}
}

/* A program may have locked all of its memory (mlockall): then it is to be said. */
static void give_back(void *at, uint64_t n_bytes)
{
	int rc = madvise(at, n_bytes, MADV_DONTNEED);

	if (rc < 0)
		rc = madvise(at, n_bytes, MADV_DONTNEED_LOCKED);
	quire_assert(rc == 0);
}

/* Gives back the block's idle pages, run by run. */
void block_drop_idle(struct storage *s, struct block *b)
{
	for (uint32_t p = 0, end; p < b->n_pages && b->n_idle > 0; p = end + 1) {
		for (end = p; end < b->n_pages && b->touching[end] == 0 && bit_get(b->there, end); end++)
			bit_clear(b->there, end);
		if (end == p)
			continue;
		uint64_t n_bytes = (uint64_t)(end - p) << s->page_shift;
		give_back(b->base + ((size_t)p << s->page_shift), n_bytes);
		s->resident_bytes -= n_bytes;
		s->classes[b->class_no].resident_bytes -= n_bytes;
		s->idle_bytes -= n_bytes;
		budget_uncharge(s->budget, BUDGET_TMEM, n_bytes);
		b->n_idle -= end - p;
		if (b->n_idle == 0)
			idle_remove(s, b);
	}
}

/* ---- blocks ---- */

void block_free(struct storage *s, struct block *b)
{
	struct storage_class *c = &s->classes[b->class_no];

	list_remove(c, b);
	block_drop_idle(s, b);
	munmap(b->base, (size_t)b->n_pages << s->page_shift);
	s->blocks[b->no].block = NULL;
	if (b->no < s->first_free)
		s->first_free = b->no;
	s->meta_bytes -= b->meta_bytes;
	budget_uncharge(s->budget, BUDGET_TMEM, b->meta_bytes);
	heap_put(&s->heap, b, b->meta_bytes);
}

static bool number_free(struct storage *s, uint32_t *ret_no)
{
	while (s->first_free < s->n_blocks && s->blocks[s->first_free].block != NULL)
		s->first_free++;
	if (s->first_free == s->n_blocks && s->n_blocks == s->capacity) {
		uint32_t capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
		uint64_t more = (capacity - s->capacity) * sizeof(s->blocks[0]);
		if (s->n_blocks >> PLACE_BLOCK_BITS != 0 || !budget_try_charge(s->budget, BUDGET_TMEM, more))
			return false;
		struct storage_block *blocks =
			heap_array_grow(s->blocks, s->capacity * sizeof(blocks[0]), capacity * sizeof(blocks[0]));
		if (blocks == NULL) {
			budget_uncharge(s->budget, BUDGET_TMEM, more);
			return false;
		}
		s->blocks = blocks;
		s->capacity = capacity;
		s->meta_bytes += more;
	}
	*ret_no = s->first_free;
	return *ret_no >> PLACE_BLOCK_BITS == 0;
}

/* As much as the class has already: so what describes blocks is in proportion to what is in them. */
static uint32_t block_bytes(const struct storage *s, uint32_t class_no)
{
	uint32_t slot_bytes = storage_bytes_of_class(class_no), page_bytes = 1u << s->page_shift, n_bytes = BLOCK_LEAST_BYTES;
	uint32_t most = BLOCK_BYTES;

	if (slot_bytes < BLOCK_BYTES >> PLACE_SLOT_BITS)
		most = slot_bytes << PLACE_SLOT_BITS;
	while (n_bytes < most && n_bytes < s->classes[class_no].resident_bytes)
		n_bytes *= 2;
	if (n_bytes > most)
		n_bytes = most;
	if (n_bytes < slot_bytes * BLOCK_LEAST_SLOTS)
		n_bytes = slot_bytes * BLOCK_LEAST_SLOTS;
	return (n_bytes + page_bytes - 1) & ~(page_bytes - 1);
}

static struct block *block_make(struct storage *s, uint32_t class_no, uint32_t no)
{
	uint32_t slot_bytes = storage_bytes_of_class(class_no), n_bytes = block_bytes(s, class_no);
	uint32_t n_slots = n_bytes / slot_bytes, n_pages = n_bytes >> s->page_shift;
	size_t slot_words = (n_slots + N_RUN - 1) / N_RUN, page_words = (n_pages + N_RUN - 1) / N_RUN;
	size_t meta_bytes = sizeof(struct block) + (2 * slot_words + page_words) * sizeof(uint64_t) +
	                    n_pages * sizeof(uint16_t);
	if (!budget_try_charge(s->budget, BUDGET_TMEM, meta_bytes))
		return NULL;
	struct block *b = heap_get(&s->heap, meta_bytes);
	uint8_t *base = b == NULL ? MAP_FAILED
	                          : mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
	                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		heap_put(&s->heap, b, meta_bytes);
		budget_uncharge(s->budget, BUDGET_TMEM, meta_bytes);
		return NULL;
	}
	/* Pages come one by one, as they are charged. */
	(void)madvise(base, n_bytes, MADV_NOHUGEPAGE);
	(void)madvise(base, n_bytes, MADV_DONTDUMP);
	(void)madvise(base, n_bytes, MADV_DONTFORK);
	s->locks = s->locks && mlock2(base, n_bytes, MLOCK_ONFAULT) == 0;
	b->base = base;
	b->slot_bytes = slot_bytes;
	b->n_slots = n_slots;
	b->n_pages = n_pages;
	b->no = no;
	b->class_no = class_no;
	b->meta_bytes = meta_bytes;
	b->used = (uint64_t *)(b + 1);
	b->late = b->used + slot_words;
	b->there = b->late + slot_words;
	b->touching = (uint16_t *)(b->there + page_words);
	s->meta_bytes += meta_bytes;
	return b;
}

struct block *block_new(struct storage *s, uint32_t class_no)
{
	uint32_t no;

	if (!number_free(s, &no))
		return NULL;
	struct block *b = block_make(s, class_no, no);
	if (b == NULL)
		return NULL;
	s->blocks[no] = (struct storage_block){.block = b, .base = b->base, .slot_bytes = b->slot_bytes};
	if (no == s->n_blocks)
		s->n_blocks++;
	list_add(&s->classes[class_no], b);
	return b;
}

/* ---- slots ---- */

uint32_t block_lowest_free(struct block *b)
{
	while (~b->used[b->hint] == 0)
		b->hint++;
	return b->hint * N_RUN + (uint32_t)__builtin_ctzll(~b->used[b->hint]);
}

uint32_t block_take(struct storage *s, struct block *b, uint32_t slot)
{
	struct storage_class *c = &s->classes[b->class_no];

	touch(s, b, slot);
	bit_set(b->used, slot);
	c->n_used++;
	if (++b->n_used == b->n_slots)
		list_remove(c, b);
	s->live_bytes += b->slot_bytes;
	return b->no << PLACE_SLOT_BITS | slot;
}

void block_give(struct storage *s, struct block *b, uint32_t slot)
{
	struct storage_class *c = &s->classes[b->class_no];

	quire_assert(bit_get(b->used, slot));
	bit_clear(b->used, slot);
	untouch(s, b, slot);
	if (slot / N_RUN < b->hint)
		b->hint = slot / N_RUN;
	c->n_used--;
	c->tight = s->tight = false;
	s->live_bytes -= b->slot_bytes;
	if (b->n_used-- == b->n_slots)
		list_add(c, b);
	if (b->n_used == 0 && (b->prev != NULL || b->next != NULL))
		block_free(s, b);
}
