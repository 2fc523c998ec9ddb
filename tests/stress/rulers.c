/* rulers.c - who changes the world under the others: the maintainer, the writer of blobs, and the vandal.
 *
 * The vandal's maps are over files that he rewrites, truncates, and renames others over, and blobs whose medium
 * he damages. What is wanted there may end with -ESTALE, or -EBADMSG; what was pinned must be, byte
 * for byte, the version that was mapped.
 */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define N_PREY_FILES 3
#define N_PREY_BLOBS 2
#define N_PREY_ITEMS (N_PREY_FILES + N_PREY_BLOBS)
#define PREY_BYTES_MAX (1u << 20)

static void pause_ms(unsigned ms)
{
	struct timespec ts = {.tv_nsec = ms * 1000000l};

	nanosleep(&ts, NULL);
}

/* ---- the maintainer ---- */

static void change_budget(struct actor *a)
{
	uint64_t before = atomic_load(&budget_in_force);
	uint64_t least = QUIRE_BUDGET_MIN_BYTES, room = options.budget_bytes - least;
	uint64_t bytes = one_in(&a->chance, 3) ? options.budget_bytes
	                                       : least + (room != 0 ? chance_next(&a->chance) % room : 0);

	doing(a, "changing the budget");
	atomic_store(&budget_in_force, bytes > before ? bytes : before);
	int rc = quire_cache_set_budget(cache, bytes);
	CHECK(rc == 0 || rc == -ENOMEM, "budget: %d", rc);
	atomic_store(&budget_in_force, rc == 0 ? bytes : before);
}

static void replace_map(struct actor *a)
{
	struct slot *s = &slots[chance_below(&a->chance, N_SLOTS)];

	doing(a, "waiting for users of a map");
	slot_close(s);
	doing(a, "destroying a map");
	if (s->view.map == NULL || slot_try_destroy(s, &a->chance)) {
		doing(a, "creating a map");
		slot_fill(s, &a->chance);
	}
	slot_open(s);
}

static void extend_items(struct actor *a)
{
	struct file *f = &files[N_FILES - 1 - chance_below(&a->chance, N_GROWING)];

	doing(a, "growing a file");
	files_grow(f, chance_next(&a->chance) % (one_in(&a->chance, 4) ? 4 * page_bytes : 300));
	doing(a, "extending items");
	for (struct slot *s = slots; s < slots + N_SLOTS; s++) {
		struct view *v = slot_enter(s);

		for (unsigned i = 0; v != NULL && i < v->n_items; i++) {
			struct view_item *it = &v->items[i];
			size_t len;

			if (it->file != f)
				continue;
			int rc = quire_map_extend(v->map, i, &len);
			CHECK(rc == 0 || rc == -EBUSY, "extend: %d", rc);
			if (rc == 0)
				atomic_store(&it->len, len);
		}
		if (v != NULL)
			slot_leave(s);
	}
}

static void advise_pinned(struct actor *a)
{
	struct slot *s = &slots[chance_below(&a->chance, N_SLOTS)];
	struct view *v = slot_enter(s);

	if (v == NULL)
		return;
	unsigned i = chance_below(&a->chance, v->n_items);
	struct piece all = {.item = &v->items[i], .len = (size_t)atomic_load(&v->items[i].len)};
	doing(a, "pinning an item by advice");
	if (all.len > 0 && all.len <= 128 * page_bytes) {
		int rc = quire_map_advise(v->map, i, QUIRE_ADVISE_PINNED);
		CHECK(rc == 0 || rc == -ENOMEM, "advice: %d", rc);
		/* Others' advice may have taken the pin back by now. */
		if (rc == 0 && raw_allowed(v))
			piece_check(&all, "pinned by advice");
		CHECK(quire_map_advise(v->map, i, QUIRE_ADVISE_WARM) == 0, "advice");
	}
	slot_leave(s);
}

void actor_maintainer(struct actor *a)
{
	while (!atomic_load(&stopping)) {
		switch (chance_below(&a->chance, 8)) {
		case 0:
		case 1:
			change_budget(a);
			break;
		case 2:
		case 3:
			replace_map(a);
			break;
		case 4:
		case 5:
			extend_items(a);
			break;
		case 6:
			advise_pinned(a);
			break;
		case 7: {
			struct slot *s = &slots[chance_below(&a->chance, N_SLOTS)];
			struct view *v = slot_enter(s);

			doing(a, "purging a map");
			if (v != NULL) {
				CHECK(quire_map_purge(v->map, quire_map_base(v->map), quire_map_bytes(v->map)) >= 0, "purge");
				slot_leave(s);
			}
			break;
		}
		}
		pause_ms(chance_below(&a->chance, 4));
	}
}

/* ---- the writer ---- */

void actor_writer(struct actor *a)
{
	while (!atomic_load(&stopping)) {
		doing(a, "replacing blobs");
		blobs_replace(&a->chance);
		pause_ms(chance_below(&a->chance, 20));
	}
}

/* ---- the vandal ---- */

static struct {
	char path[256];
	uint64_t version, size;
} prey_files[N_PREY][N_PREY_FILES];

static uint64_t n_prey_blobs;

/* A change within the same tick of a coarse clock as the identity's would not be seen. */
static void wait_for_a_tick(void)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_REALTIME_COARSE, &begin);
	do {
		pause_ms(1);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while (now.tv_sec == begin.tv_sec && now.tv_nsec == begin.tv_nsec);
}

static void prey_fill_blobs(size_t nth, struct view *v, struct quire_item *items, struct chance *c)
{
	for (unsigned i = 0; i < N_PREY_BLOBS; i++) {
		uint64_t key = content_key(2000 + nth, n_prey_blobs++);
		struct blob b = prey_blob_make(key, page_bytes + chance_next(c) % PREY_BYTES_MAX);

		v->items[N_PREY_FILES + i] = (struct view_item){.blob = b.id, .key = b.key};
		items[N_PREY_FILES + i] = (struct quire_item){.store = store, .blob = b.id};
	}
}

void prey_fill(struct slot *s, struct chance *c)
{
	size_t nth = (size_t)(s - slots) - N_SLOTS;
	struct quire_item items[N_PREY_ITEMS];
	struct view *v = &s->view;
	struct quire_error err;

	v->prey = true;
	v->n_items = N_PREY_ITEMS;
	v->fault = !options.mix ? options.fault
	           : caps.grade == QUIRE_GRADE_NONE ? QUIRE_FAULT_PINNED
	                           : (enum quire_fault[]){QUIRE_FAULT_SERVICE, QUIRE_FAULT_SIGNAL,
	                                                  QUIRE_FAULT_PINNED}[chance_below(c, 3)];
	for (unsigned i = 0; i < N_PREY_FILES; i++) {
		uint64_t id = 1000 + nth * 100 + i;

		snprintf(prey_files[nth][i].path, sizeof(prey_files[nth][i].path), "%s/prey%zu-%u", directory, nth, i);
		prey_files[nth][i].version++;
		prey_files[nth][i].size = page_bytes + chance_next(c) % PREY_BYTES_MAX;
		v->items[i] = (struct view_item){.key = content_key(id, prey_files[nth][i].version)};
		content_write(prey_files[nth][i].path, O_TRUNC, v->items[i].key, 0, prey_files[nth][i].size);
		items[i] = (struct quire_item){.path = prey_files[nth][i].path,
		                               .flags = one_in(c, 3) ? QUIRE_ITEM_HOLD : 0};
	}
	prey_fill_blobs(nth, v, items, c);
	wait_for_a_tick();
	struct quire_map_options o = {.size = sizeof(o), .fault = v->fault};
	int rc = map_create_when_it_fits(items, N_PREY_ITEMS, &o, &v->map, &err);
	CHECK(rc == 0, "map: %s", err.text);
	for (unsigned i = 0; i < N_PREY_BLOBS; i++)
		prey_blob_delete(items[N_PREY_FILES + i].blob); /* the map goes on */
	for (unsigned i = 0; i < N_PREY_ITEMS; i++) {
		const void *base;
		size_t len;

		CHECK(quire_map_item(v->map, i, &base, &len) == 0, "item");
		v->items[i].base = base;
		v->items[i].len = len;
	}
	wait_for_a_tick();
}

static void damage(struct actor *a, size_t nth)
{
	unsigned i = chance_below(&a->chance, N_PREY_FILES);
	const char *path = prey_files[nth][i].path;
	uint64_t size = prey_files[nth][i].size, id = 1000 + nth * 100 + i;
	uint64_t key = content_key(id, 1000000 + chance_next(&a->chance) % 1000);
	char other[300];

	doing(a, "damaging a file");
	switch (chance_below(&a->chance, 5)) {
	case 0: /* rewritten in place */
		content_write(path, 0, key, size / 2, size);
		break;
	case 1: /* shortened, and made as long again */
		CHECK(truncate(path, (off_t)(size / 2)) == 0, "%s", strerror(errno));
		if (one_in(&a->chance, 2))
			CHECK(truncate(path, (off_t)size) == 0, "%s", strerror(errno));
		break;
	case 2: /* another one of the same name */
		snprintf(other, sizeof(other), "%s.new", path);
		content_write(other, O_TRUNC, key, 0, size);
		CHECK(rename(other, path) == 0, "%s", strerror(errno));
		break;
	case 3: /* none */
		CHECK(unlink(path) == 0 || errno == ENOENT, "%s", strerror(errno));
		/* So that the next round has a file of that name. */
		content_write(path, 0, key, 0, size);
		break;
	case 4:
		prey_blobs_damage(&a->chance);
		break;
	}
}

void actor_vandal(struct actor *a)
{
	while (!atomic_load(&stopping)) {
		size_t nth = chance_below(&a->chance, N_PREY);
		struct slot *s = &slots[N_SLOTS + nth];

		doing(a, "making prey");
		if (s->view.map == NULL)
			prey_fill(s, &a->chance);
		slot_open(s);
		pause_ms(chance_below(&a->chance, 10));
		for (unsigned n = 1 + chance_below(&a->chance, 3); n > 0; n--) {
			damage(a, nth);
			pause_ms(chance_below(&a->chance, 5));
		}
		slot_close(s);
		doing(a, "waiting for the pins of prey");
		while (!slot_try_destroy(s, &a->chance) && !atomic_load(&stopping)) {
			/* Whoever has pinned it must come by to unpin. */
			slot_open(s);
			pause_ms(1);
			doing(a, "waiting for the pins of prey");
			slot_close(s);
		}
	}
}
