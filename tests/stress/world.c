/* world.c - maps that come and go, and what must be read through them. */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAP_TRIES 5000u /* a millisecond apart */
#define WORD_STATE 0xfu /* in a page's word; all zero: absent */

struct slot slots[N_SLOTS + N_PREY];
struct quire_cache *cache;

/* ---- use ---- */

struct view *slot_enter(struct slot *s)
{
	atomic_fetch_add(&s->n_uses, 1);
	if (!atomic_load(&s->closed) && s->view.map != NULL)
		return &s->view;
	atomic_fetch_sub(&s->n_uses, 1);
	return NULL;
}

void slot_leave(struct slot *s)
{
	atomic_fetch_sub(&s->n_uses, 1);
}

void slot_close(struct slot *s)
{
	atomic_store(&s->closed, true);
	while (atomic_load(&s->n_uses) > 0)
		sched_yield();
}

void slot_open(struct slot *s)
{
	atomic_store(&s->closed, false);
}

struct slot *slot_pick(struct chance *c)
{
	return &slots[chance_below(c, N_SLOTS + N_PREY)];
}

/* ---- making and ending maps ---- */

static enum quire_fault fault_pick(struct chance *c)
{
	static const enum quire_fault all[] = {QUIRE_FAULT_SERVICE, QUIRE_FAULT_SIGNAL,
	                                       QUIRE_FAULT_PINNED, QUIRE_FAULT_KERNEL};

	if (!options.mix)
		return options.fault;
	if (caps.grade == QUIRE_GRADE_NONE)
		return all[2 + chance_below(c, 2)];
	/* Mostly those that do the most. */
	return one_in(c, 4) ? all[chance_below(c, 4)] : all[chance_below(c, 2)];
}

static size_t page_bytes_pick(struct chance *c)
{
	static const size_t sizes[] = {0, QUIRE_PAGE_4K, QUIRE_PAGE_16K, QUIRE_PAGE_64K, QUIRE_PAGE_2M};

	return sizes[one_in(c, 3) ? 1 + chance_below(c, 4) : 0];
}

static void item_pick_blob(struct slot *s, unsigned i, struct quire_item *item, struct chance *c)
{
	struct blob b = blobs_pick_locked(c);
	struct view_item *v = &s->view.items[i];

	*v = (struct view_item){.blob = b.id, .key = b.key};
	*item = (struct quire_item){.store = store, .blob = b.id, .page_bytes = page_bytes_pick(c)};
	if (b.size > 4 * page_bytes && one_in(c, 3)) {
		v->offset = item->offset = chance_below(c, (unsigned)(b.size / page_bytes)) * page_bytes;
		item->len_bytes = one_in(c, 2) ? 0 : 1 + chance_next(c) % (b.size - v->offset);
	}
}

static void item_pick(struct slot *s, unsigned i, struct quire_item *item, struct chance *c)
{
	struct file *f = &files[chance_below(c, N_FILES)];
	struct view_item *v = &s->view.items[i];
	uint64_t size = atomic_load(&f->size);

	*v = (struct view_item){.file = f, .key = f->key};
	*item = (struct quire_item){.path = f->path, .page_bytes = page_bytes_pick(c)};
	if (one_in(c, 4)) {
		item->path = NULL;
		item->fd = f->fd;
	} else if (one_in(c, 4)) {
		item->flags |= QUIRE_ITEM_HOLD;
	}
	if (f->reserve != 0) {
		item->flags |= QUIRE_ITEM_APPEND;
		item->reserve_bytes = f->reserve;
	} else if (size > 4 * page_bytes && one_in(c, 3)) {
		v->offset = item->offset = chance_below(c, (unsigned)(size / page_bytes)) * page_bytes;
		item->len_bytes = one_in(c, 2) ? 0 : 1 + chance_next(c) % (size - v->offset);
	}
	if (s->view.fault != QUIRE_FAULT_KERNEL && one_in(c, 3)) {
		v->inverted = true;
		item->fill = content_hook;
		item->fill_arg = &f->key;
	}
}

/* It is refused while pins, and what is fixed, fill a budget that was just made small: for moments. */
int map_create_when_it_fits(const struct quire_item *items, size_t n, const struct quire_map_options *o, struct quire_map **ret_map,
                            struct quire_error *err)
{
	int rc = -ENOMEM;

	for (unsigned tries = 0; rc == -ENOMEM && tries < MAP_TRIES; tries++) {
		if (tries > 0)
			usleep(1000);
		rc = quire_map_create(cache, items, n, o, ret_map, err);
	}
	return rc;
}

void slot_fill(struct slot *s, struct chance *c)
{
	struct quire_item items[MAX_ITEMS];
	struct quire_error err;
	struct view *v = &s->view;
	char list[sizeof(directory) + 16]; /* of this slot's hot pages, whichever map left it */

	v->fault = fault_pick(c);
	v->prey = false;
	v->n_items = 1 + chance_below(c, MAX_ITEMS);
	blobs_lock();
	for (unsigned i = 0; i < v->n_items; i++) {
		if (v->fault != QUIRE_FAULT_KERNEL && one_in(c, 3))
			item_pick_blob(s, i, &items[i], c);
		else
			item_pick(s, i, &items[i], c);
	}
	struct quire_map_options o = {.size = sizeof(o), .fault = v->fault};
	if (one_in(c, 3)) {
		snprintf(list, sizeof(list), "%s/hot%u", directory, (unsigned)(s - slots));
		o.warm_path = list;
		o.warm_seconds = chance_below(c, 2);
	}
	int rc = map_create_when_it_fits(items, v->n_items, &o, &v->map, &err);
	blobs_unlock();
	CHECK(rc == 0, "map: %s", err.text);
	for (unsigned i = 0; i < v->n_items; i++) {
		const void *base;
		size_t len;

		CHECK(quire_map_item(v->map, i, &base, &len) == 0, "item %u", i);
		v->items[i].base = base;
		v->items[i].len = len;
	}
}

bool slot_try_destroy(struct slot *s, struct chance *c)
{
	struct quire_op op;
	int rc;

	atomic_fetch_add(&s->n_destroys, 1);
	if (one_in(c, 2)) {
		rc = quire_map_destroy(s->view.map, NULL);
	} else {
		quire_op_init(&op);
		rc = quire_map_destroy(s->view.map, &op);
		if (rc == 0 && one_in(c, 4))
			(void)quire_op_cancel(&op); /* can't be: it ends all the same */
		if (rc == 0)
			rc = (int)quire_await(&op);
	}
	CHECK(rc == 0 || rc == -EBUSY, "destroy: %d", rc);
	if (rc == 0)
		s->view.map = NULL;
	return rc == 0;
}

void world_create(void)
{
	struct chance c = {options.seed ^ 0x1234};

	for (unsigned i = 0; i < N_SLOTS; i++)
		slot_fill(&slots[i], &c);
}

/* A page that is there though its word says that it is not would never leave. */
static void look_for_strays(const struct view *v)
{
	const uint32_t *words = quire_map_residency(v->map);
	const char *base = quire_map_base(v->map);
	size_t n = quire_map_bytes(v->map) / page_bytes;

	for (size_t i = 0; words != NULL && i < n; i++) {
		unsigned char present = 0;
		bool absent = (__atomic_load_n(&words[i], __ATOMIC_ACQUIRE) & WORD_STATE) == 0;

		CHECK(mincore((void *)(uintptr_t)(base + i * page_bytes), page_bytes, &present) == 0, "%s", strerror(errno));
		absent &= (__atomic_load_n(&words[i], __ATOMIC_ACQUIRE) & WORD_STATE) == 0;
		CHECK(!(absent && (present & 1)),
		      "page %zu of a map, fault service %d, is there but not known", i, (int)v->fault);
	}
}

void world_destroy(void)
{
	struct chance c = {options.seed ^ 0x4321};

	for (struct slot *s = slots; s < slots + N_SLOTS + N_PREY; s++)
		if (s->view.map != NULL)
			look_for_strays(&s->view);
	for (struct slot *s = slots; s < slots + N_SLOTS + N_PREY; s++)
		if (s->view.map != NULL)
			CHECK(slot_try_destroy(s, &c), "slot %d: pins are left", (int)(s - slots));
}

/* ---- pieces ---- */

bool piece_pick(const struct view *v, struct chance *c, unsigned max_pages, struct piece *ret)
{
	const struct view_item *it = &v->items[chance_below(c, v->n_items)];
	uint64_t len = atomic_load(&it->len);

	if (len == 0)
		return false;
	uint64_t room, most = 1 + chance_next(c) % (page_bytes * (1 + chance_below(c, max_pages)));
	/* A hot end, and the rest; often the item's last page, which is special. */
	uint64_t at = one_in(c, 8) ? (len - 1) & ~(page_bytes - 1)
	              : one_in(c, 2) && len > 16 * page_bytes ? chance_next(c) % (16 * page_bytes)
	                                                      : chance_next(c) % len;
	room = len - at;
	*ret = (struct piece){.item = it, .at = at, .len = (size_t)(most < room ? most : room)};
	return true;
}

bool raw_allowed(const struct view *v)
{
	return !v->prey && v->fault != QUIRE_FAULT_PINNED;
}

void piece_check(const struct piece *p, const char *how)
{
	const struct view_item *it = p->item;
	size_t in_page = p->at & (page_bytes - 1), done = 0;

	/* Page by page, so that the message can name it. */
	while (done < p->len) {
		size_t n = page_bytes - in_page < p->len - done ? page_bytes - in_page : p->len - done;
		uint64_t at = p->at + done;

		CHECK(content_equal(it->key, it->inverted, it->offset + at, it->base + at, n),
		      "%s: wrong bytes at %p, %s%s, item offset %llu + %zu of %llu, file offset %llu", how,
		      (const void *)(it->base + at), it->file != NULL ? it->file->path : it->blob != 0 ? "a blob" : "prey",
		      it->inverted ? " by hook" : "", (unsigned long long)at, n,
		      (unsigned long long)atomic_load(&it->len), (unsigned long long)(it->offset + at));
		done += n;
		in_page = 0;
	}
}

/* ---- pins ---- */

bool pins_pick(struct pins *p, struct slot *s, const struct view *v, struct chance *c, unsigned max_pages)
{
	unsigned n = one_in(c, 2) ? 1 : 1 + chance_below(c, MAX_RANGES);

	p->slot = s;
	p->view.map = v->map;
	p->view.fault = v->fault;
	p->view.prey = v->prey;
	p->view.n_items = v->n_items;
	for (unsigned i = 0; i < v->n_items; i++) {
		const struct view_item *it = &v->items[i];

		p->view.items[i] = (struct view_item){.file = it->file, .blob = it->blob, .key = it->key,
		                                      .offset = it->offset, .inverted = it->inverted, .base = it->base};
		atomic_init(&p->view.items[i].len, atomic_load(&it->len));
	}
	p->n = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!piece_pick(&p->view, c, max_pages, &p->pieces[p->n]))
			continue;
		p->ranges[p->n] = (struct iovec){(void *)(uintptr_t)piece_address(&p->pieces[p->n]),
		                                 p->pieces[p->n].len};
		p->n++;
	}
	return p->n > 0;
}

void pins_check(const struct pins *p)
{
	const uint32_t *words = quire_map_residency(p->view.map);
	const char *base = quire_map_base(p->view.map);

	for (unsigned i = 0; i < p->n; i++) {
		const struct piece *piece = &p->pieces[i];
		size_t first = (size_t)(piece_address(piece) - base) / page_bytes;
		size_t last = (size_t)(piece_address(piece) + piece->len - 1 - base) / page_bytes;

		for (size_t page = first; words != NULL && page <= last; page++)
			CHECK(__atomic_load_n(&words[page], __ATOMIC_RELAXED) & QUIRE_RESIDENT,
			      "a pinned page has left: %zu, word %#x", page, words[page]);
		if (p->view.fault != QUIRE_FAULT_KERNEL)
			CHECK(quire_map_resident(p->view.map, piece_address(piece), piece->len), "pinned");
		piece_check(piece, "pinned");
	}
}

void pins_put(struct pins *p)
{
	int rc = quire_map_unwant(p->view.map, p->ranges, p->n);

	CHECK(rc == 0, "unwant: %d", rc);
	p->n = 0;
}

void result_check(const struct pins *p, int64_t result, bool pinned, bool canceled, unsigned n_destroys)
{
	bool destroyed = atomic_load(&p->slot->n_destroys) != n_destroys;
	bool allowed = result == 0 || (result == -ECANCELED && (canceled || destroyed)) ||
	               (result == -ENOMEM && pinned && p->view.fault != QUIRE_FAULT_KERNEL) ||
	               ((result == -ESTALE || result == -EBADMSG) && p->view.prey);

	CHECK(allowed, "want: %lld, fault service %d%s%s%s", (long long)result, (int)p->view.fault,
	      pinned ? ", pinned" : "", canceled ? ", cancelled" : "", p->view.prey ? ", prey" : "");
}
