/* recompress_job.c - contents are packed anew, and take the place of what they were.
 *
 * What is worked on is pinned, so it stays where it is and no other gets its slot; its pages may go meanwhile, or others come to
 * share it. So under the lock it is asked again whether it was freed, and what its head says then is what the new one gets. Readers who
 * hold the old slot go on with it.
 *
 * Without memory for the new slot everything stays as it was, to be tried again.
 */
#include "recompress.h"

#include "page_hash.h"
#include "../base/crc32c.h"

#define TIGHT_GAIN 32u /* the part of a content by which it must get smaller, or it stays as it is */
#define COLD_GAIN 16u

/* ---- without the lock ---- */

static bool unpack_all(struct quire_tmem *t, struct job *j, struct packer *p)
{
	if (j->kind == JOB_DISSOLVE) {
		struct packed unit = j->pieces[0].packed;
		uint32_t n_bytes = unit.unit_bytes;
		unit.unit_bytes = 0;
		return tmem_unpack(t, &unit, p->raw, n_bytes);
	}
	for (unsigned i = 0; i < j->n; i++)
		if (!tmem_unpack(t, &j->pieces[i].packed, p->raw + (size_t)i * j->page_bytes, j->page_bytes))
			return false;
	return true;
}

/* The page as it is, if it gets no smaller than that. */
static uint32_t pack_whatever(struct packer *p, bool warm, const uint8_t *page, uint32_t n_bytes, uint8_t *to, struct piece *ret)
{
	uint32_t most = n_bytes - n_bytes / TIGHT_GAIN;

	ret->len = warm ? packer_tight(p, page, n_bytes, to, most) : packer_cold(p, page, n_bytes, to, most);
	ret->codec = ret->len == 0 ? CODEC_RAW : warm ? CODEC_LZ4 : CODEC_ZSTD;
	if (ret->len == 0) {
		memcpy(to, page, n_bytes);
		ret->len = n_bytes;
	}
	ret->bytes = to;
	ret->check = crc32c(0, to, ret->len);
	return ret->len;
}

static void pack_smaller(struct packer *p, struct job *j)
{
	struct piece *first = &j->pieces[0];
	uint32_t old = (j->n - 1) * (uint32_t)sizeof(struct slot_head), n_bytes = j->n * j->page_bytes;

	for (unsigned i = 0; i < j->n; i++)
		old += slot_len(j->pieces[i].packed.head);
	first->len = j->kind == JOB_TIGHT ? packer_tight(p, p->raw, n_bytes, p->packed, old - old / TIGHT_GAIN)
	                                  : packer_cold(p, p->raw, n_bytes, p->packed, old - old / COLD_GAIN);
	first->codec = j->kind == JOB_TIGHT ? CODEC_LZ4 : CODEC_ZSTD;
	first->bytes = p->packed;
	first->check = crc32c(0, p->packed, first->len);
}

void job_run(struct quire_tmem *t, struct job *j, struct packer *p)
{
	j->intact = unpack_all(t, j, p);
	if (!j->intact)
		return;
	if (j->kind != JOB_DISSOLVE && j->kind != JOB_WARM) {
		pack_smaller(p, j);
		return;
	}
	uint8_t *to = p->packed;
	for (unsigned i = 0; i < j->n; i++) {
		struct piece *piece = &j->pieces[i];
		const uint8_t *page = p->raw + (j->kind == JOB_DISSOLVE ? piece->packed.offset : 0);
		to += pack_whatever(p, j->warm, page, j->page_bytes, to, piece);
		if (j->known && j->kind == JOB_DISSOLVE)
			piece->hash = page_hash(page, j->page_bytes);
	}
}

/* ---- with it ---- */

static struct slot_head *head_at(const struct quire_tmem *t, uint32_t place)
{
	return storage_at(&t->storage, place);
}

static uint32_t bytes_needed(const struct piece *piece, uint32_t tail_bytes)
{
	return (uint32_t)sizeof(struct slot_head) + piece->len + tail_bytes;
}

/* A slot of less than `below` bytes. PLACE_NONE: no memory. */
static uint32_t alloc(struct quire_tmem *t, uint32_t n_bytes, uint32_t below)
{
	uint32_t place = storage_alloc(&t->storage, n_bytes);

	if (place == PLACE_NONE)
		place = storage_alloc_resident(&t->storage, n_bytes);
	if (place != PLACE_NONE && storage_bytes_of(&t->storage, place) >= below) {
		storage_free(&t->storage, place);
		return PLACE_NONE;
	}
	return place;
}

static void fill(struct slot_head *h, const struct piece *piece, uint32_t before)
{
	h->codec = piece->codec & 3u;
	h->check = piece->check;
	h->tail = 1;
	slot_set_len(h, piece->len);
	memcpy(h + 1, piece->bytes, piece->len);
	if (before < piece->len)
		before = piece->len;
	memcpy(slot_tail(h), &before, sizeof(before));
}

static uint32_t before_of(const struct slot_head *h)
{
	return h->tail != 0 ? slot_before(h) : slot_len(h);
}

static unsigned finish_single(struct quire_tmem *t, const struct job *j)
{
	const struct piece *piece = &j->pieces[0];
	uint32_t old = piece->place, n_bytes = bytes_needed(piece, SLOT_TAIL_BYTES), mark = j->kind == JOB_COLD ? MARK_COLD : MARK_TIGHT;
	uint32_t below = j->kind == JOB_WARM ? UINT32_MAX : storage_bytes_of(&t->storage, old);
	struct slot_head *h = head_at(t, old);

	if (storage_is_freed(&t->storage, old))
		return 0;
	if (!j->intact || piece->len == 0 || storage_slot_bytes(n_bytes) >= below) {
		h->marks |= mark & 3u;
		return 0;
	}
	uint32_t place = alloc(t, n_bytes, below);
	if (place == PLACE_NONE)
		return 0;
	struct quire_tmem_pool *pool = content_pool(t, h);
	struct slot_head *to = head_at(t, place);
	content_count(t, pool, old, false);
	*to = *h;
	to->going = 0;
	fill(to, piece, before_of(h));
	to->marks = mark & 3u;
	content_count(t, pool, place, true);
	content_relink(t, old, place);
	storage_free(&t->storage, old);
	return 1;
}

/* Is it, still, the content of one page? */
static bool may_join(const struct quire_tmem *t, const struct piece *piece)
{
	return !storage_is_freed(&t->storage, piece->place) && head_at(t, piece->place)->kind == SLOT_PAGE;
}

/* The page's content goes into the unit. */
static void join(struct quire_tmem *t, struct quire_tmem_pool *pool, uint32_t unit, const struct piece *piece)
{
	struct slot_head *u = head_at(t, unit);
	const struct slot_head *h = head_at(t, piece->place);

	u->members = (uint16_t)(u->members | 1u << (piece->low - u->low));
	slot_tail(u)[SLOT_TAIL_BYTES + slot_rank(u, piece->low)] = h->stamp;
	content_forget(t, piece->place);
	content_count(t, pool, piece->place, false);
	spans_set(&t->spans, h->span, piece->low, unit);
	storage_free(&t->storage, piece->place);
}

/* Nothing is gained by a unit. */
static void mark_all(struct quire_tmem *t, const struct job *j)
{
	for (unsigned i = 0; i < j->n; i++)
		if (may_join(t, &j->pieces[i]))
			head_at(t, j->pieces[i].place)->marks |= MARK_COLD;
}

static uint32_t new_serial(struct quire_tmem *t)
{
	if (++t->recompressor.last_serial == 0)
		t->recompressor.last_serial = 1;
	return t->recompressor.last_serial;
}

static unsigned finish_unit(struct quire_tmem *t, const struct job *j)
{
	const struct piece *left = NULL;
	uint32_t n_left = 0, before = 0, below = 0, packed = 0, n_bytes = bytes_needed(&j->pieces[0], SLOT_TAIL_BYTES + j->n);

	for (unsigned i = 0; i < j->n; i++)
		if (may_join(t, &j->pieces[i])) {
			left = &j->pieces[i];
			n_left++;
			below += storage_bytes_of(&t->storage, left->place);
		}
	if (!j->intact || j->pieces[0].len == 0 || storage_slot_bytes(n_bytes) >= below) {
		mark_all(t, j);
		return 0;
	}
	uint32_t place = n_left < 2 ? PLACE_NONE : alloc(t, n_bytes, below);
	if (place == PLACE_NONE)
		return 0;
	const struct slot_head *h = head_at(t, left->place);
	struct quire_tmem_pool *pool = content_pool(t, h);
	uint32_t first = left->low & ~(pool->o.unit_bytes / j->page_bytes - 1);
	for (unsigned i = 0; i < j->n; i++) {
		packed |= 1u << (j->pieces[i].low - first);
		before += before_of(j->pieces[i].packed.head);
	}
	struct slot_head *u = head_at(t, place);
	*u = (struct slot_head){.span = h->span, .low = (uint16_t)first, .kind = SLOT_UNIT, .age = h->age, .packed = (uint16_t)packed,
	                        .serial = new_serial(t), .marks = MARK_COLD};
	fill(u, &j->pieces[0], before);
	for (unsigned i = 0; i < j->n; i++)
		if (may_join(t, &j->pieces[i]))
			join(t, pool, place, &j->pieces[i]);
	content_count(t, pool, place, true);
	return n_left;
}

/* The page leaves the unit and becomes a content. False: no memory. */
static bool leave(struct quire_tmem *t, const struct job *j, const struct piece *piece)
{
	const struct slot_head *u = head_at(t, piece->place);
	struct quire_tmem_pool *pool = content_pool(t, u);
	uint32_t span = u->span, before = slot_before(u) / slot_n_packed(u);
	uint32_t place = alloc(t, bytes_needed(piece, SLOT_TAIL_BYTES), UINT32_MAX);

	if (place == PLACE_NONE)
		return false;
	struct slot_head *h = head_at(t, place);
	*h = (struct slot_head){.span = span, .low = piece->low, .kind = SLOT_PAGE, .age = u->age, .hash = piece->hash,
	                        .stamp = slot_stamp(u, piece->low), .marks = j->warm ? MARK_TIGHT : MARK_COLD};
	fill(h, piece, before);
	if (j->known && chains_add(&t->by_content, place))
		h->known = 1;
	content_count(t, pool, place, true);
	spans_set(&t->spans, span, piece->low, place);
	unit_leave(t, pool, piece->place, piece->low);
	return true;
}

static unsigned finish_dissolve(struct quire_tmem *t, const struct job *j)
{
	uint32_t unit = j->pieces[0].place;
	unsigned n = 0;

	for (unsigned i = 0; i < j->n && j->intact && !storage_is_freed(&t->storage, unit); i++) {
		const struct slot_head *u = head_at(t, unit);
		if ((u->members >> (j->pieces[i].low - u->low) & 1) != 0)
			n += leave(t, j, &j->pieces[i]);
	}
	return n;
}

unsigned job_finish(struct quire_tmem *t, struct job *j)
{
	unsigned n = j->kind == JOB_UNIT       ? finish_unit(t, j)
	             : j->kind == JOB_DISSOLVE ? finish_dissolve(t, j)
	                                       : finish_single(t, j);

	for (unsigned i = 0; i < (j->kind == JOB_DISSOLVE ? 1 : j->n); i++)
		storage_unpin(&t->storage, j->pieces[i].place);
	return n;
}
