/* steps.c - one thing at random, with op == NULL: a plain thread waits, a coroutine is suspended. */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WALK_PAGES 8
#define THROUGH_PAGES 600

int scratch_open(void)
{
	int fd = memfd_create("stress", MFD_CLOEXEC);

	CHECK(fd >= 0, "%s", strerror(errno));
	return fd;
}

static void step_raw(struct walker *w, struct view *v)
{
	struct piece p;

	doing(w->actor, "a raw read");
	if (raw_allowed(v) && piece_pick(v, &w->chance, WALK_PAGES, &p))
		piece_check(&p, "raw");
}

/* In order, which is seen, and read ahead of. */
static void step_through(struct walker *w, struct view *v)
{
	struct piece all, p;

	if (!raw_allowed(v) || !piece_pick(v, &w->chance, THROUGH_PAGES, &all))
		return;
	p = all;
	for (size_t done = 0; done < all.len && !atomic_load(&stopping); done += p.len) {
		doing(w->actor, "reading through");
		p.at = all.at + done;
		p.len = all.len - done < 2 * page_bytes ? all.len - done : 2 * page_bytes;
		piece_check(&p, "in order");
	}
}

/* libc's own routines over raw memory. Not where the load may be suspended: that code is not ours. */
static void step_copy(struct walker *w, struct view *v)
{
	unsigned char copy[4096], expected[4096];
	struct piece p;

	if (!raw_allowed(v) || !piece_pick(v, &w->chance, 1, &p) || quire_in_coroutine())
		return;
	if (p.len > sizeof(copy))
		p.len = sizeof(copy);
	doing(w->actor, "memcpy and memcmp");
	content_fill(p.item->key, p.item->offset + p.at, expected, p.len);
	for (size_t i = 0; i < p.len && p.item->inverted; i++)
		expected[i] = (unsigned char)~expected[i];
	memcpy(copy, piece_address(&p), p.len);
	CHECK(memcmp(copy, expected, p.len) == 0, "memcpy");
	CHECK(memcmp(piece_address(&p), expected, p.len) == 0, "memcmp");
}

/* write(2) from the map's memory to a file, and what arrived there. */
static void write_and_compare(struct walker *w, const struct piece *p, bool must)
{
	unsigned char back[4096];
	size_t len = p->len < sizeof(back) ? p->len : sizeof(back);

	doing(w->actor, "write(2) from the map");
	ssize_t n = pwrite(w->scratch_fd, piece_address(p), len, 0);
	if (n < 0 && errno == EFAULT && !must)
		return;
	CHECK(n > 0 && (n == (ssize_t)len || !must), "write: %zd of %zu, %s", n, len, strerror(errno));
	CHECK(pread(w->scratch_fd, back, (size_t)n, 0) == n, "%s", strerror(errno));
	CHECK(content_equal(p->item->key, p->item->inverted, p->item->offset + p->at, back, (size_t)n),
	      "write(2): wrong bytes");
}

static void step_write(struct walker *w, struct view *v)
{
	bool must = v->fault == QUIRE_FAULT_KERNEL ||
	            (v->fault == QUIRE_FAULT_SERVICE && caps.syscalls_on_cold);
	struct piece p;

	if (raw_allowed(v) && piece_pick(v, &w->chance, 1, &p))
		write_and_compare(w, &p, must);
}

/* What result_check wants, for a call that waits. */
static int wait_for(struct walker *w, struct slot *s, struct pins *p, unsigned flags)
{
	unsigned n_destroys = atomic_load(&s->n_destroys);

	doing(w->actor, flags & QUIRE_WANT_PIN ? "want, pinned" : "want");
	int rc = quire_map_want(p->view.map, p->ranges, p->n, flags, NULL);
	result_check(p, rc, flags & QUIRE_WANT_PIN, false, n_destroys);
	return rc;
}

static void step_want(struct walker *w, struct slot *s, struct view *v)
{
	struct pins p;

	if (!pins_pick(&p, s, v, &w->chance, WALK_PAGES) || wait_for(w, s, &p, 0) < 0)
		return;
	for (unsigned i = 0; i < p.n && raw_allowed(v); i++)
		piece_check(&p.pieces[i], "wanted");
}

static void step_pin(struct walker *w, struct slot *s, struct view *v)
{
	struct pins *p = &w->held[chance_below(&w->chance, N_HELD)];

	if (p->n > 0) {
		doing(w->actor, "unpinning");
		pins_check(p);
		pins_put(p);
		return;
	}
	if (!pins_pick(p, s, v, &w->chance, WALK_PAGES))
		return;
	if (wait_for(w, s, p, QUIRE_WANT_PIN) < 0) {
		p->n = 0;
		return;
	}
	pins_check(p);
	if (p->pieces[0].len > 0 && one_in(&w->chance, 3))
		write_and_compare(w, &p->pieces[0], true);
	/* Pins hold no map where the kernel maps. */
	if (v->fault == QUIRE_FAULT_KERNEL)
		p->n = 0;
}

static void step_held(struct walker *w)
{
	doing(w->actor, "looking at pinned pages");
	for (struct pins *p = w->held; p < w->held + N_HELD; p++)
		if (p->n > 0)
			pins_check(p);
}

static void step_blob(struct walker *w)
{
	doing(w->actor, "reading a blob");
	blob_read_some(&w->chance);
}

static void step_small(struct walker *w, struct slot *s, struct view *v)
{
	struct chance *c = &w->chance;
	unsigned item = chance_below(c, v->n_items);
	struct quire_map_stat stat;
	struct quire_error err;
	struct piece p;
	int rc;

	doing(w->actor, "purge, advice, state");
	if (!piece_pick(v, c, MAX_RANGE_PAGES, &p))
		return;
	switch (chance_below(c, 7)) {
	case 0:
		CHECK(quire_map_purge(v->map, piece_address(&p), p.len) >= 0, "purge");
		break;
	case 1:
		rc = quire_map_advise(v->map, item, (enum quire_advice)chance_below(c, 3));
		CHECK(rc == 0 || rc == -EBUSY, "advice: %d", rc); /* busy: the maintainer pins it */
		break;
	case 2:
		(void)quire_map_resident(v->map, piece_address(&p), p.len);
		break;
	case 3: {
		int state = quire_map_item_state(v->map, item);
		CHECK(s >= slots + N_SLOTS || (state & ~QUIRE_ITEM_VERIFIED) == 0, "state %#x", state);
		break;
	}
	case 4:
		CHECK(quire_map_stat(v->map, &stat) == 0, "stat");
		CHECK(stat.n_items == v->n_items, "stat");
		break;
	case 5:
		CHECK(quire_map_item_error(v->map, item, &err) == 0, "item error");
		CHECK(err.code == 0 || v->prey, "%s: %d", err.text, err.code);
		CHECK(err.code != -EBADMSG || v->items[item].blob != 0, "%s", err.text);
		break;
	case 6:
		CHECK(quire_map_stream(v->map, item, (enum quire_stream)chance_below(c, 3)) == 0, "stream");
		break;
	}
}

void walker_step(struct walker *w)
{
	struct slot *s = slot_pick(&w->chance);
	struct view *v = slot_enter(s);

	if (v == NULL) {
		quire_co_yield();
		return;
	}
	unsigned what = chance_below(&w->chance, 100);
	if (what < 3)
		step_through(w, v);
	else if (what < 35)
		step_raw(w, v);
	else if (what < 45)
		step_copy(w, v);
	else if (what < 55)
		step_write(w, v);
	else if (what < 70)
		step_want(w, s, v);
	else if (what < 88)
		step_pin(w, s, v);
	else if (what < 95)
		step_small(w, s, v);
	else if (what < 98)
		step_blob(w);
	else
		step_held(w);
	slot_leave(s);
}

void walker_end(struct walker *w)
{
	for (struct pins *p = w->held; p < w->held + N_HELD; p++)
		if (p->n > 0)
			pins_put(p);
}

void actor_plain(struct actor *a)
{
	struct walker w = {.actor = a, .chance = a->chance, .scratch_fd = scratch_open()};

	while (!atomic_load(&stopping))
		walker_step(&w);
	walker_end(&w);
	close(w.scratch_fd);
}
