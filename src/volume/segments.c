/* segments.c - segments of a group's log: got, filled, sealed, read.
 *
 * SPARE → NEXT (the journal has it for later) → OPEN (a record was put into it; it has its number) → SEALED (an object) → gone, when
 * a checkpoint finds nothing live in it. Until a segment is sealed it has an image in memory, from which it is read.
 *
 * Sealed are those behind which something is durable, so that everything of them is. A coroutine of the service loop does it,
 * in order; the worker that makes checkpoints may wait for it, but not the other way round.
 */
#include "space.h"

#include "../base/assert.h"
#include "../journal/frame.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LEAST_GAIN_PART 32u /* a segment is left alone unless so much less is live in it than a cleaned one holds */

static struct budget *budget_of(struct quire_volumes *g)
{
	return store_config_of(g->store)->budget;
}

/* ---- images ---- */

static struct image *take_kept(struct quire_volumes *g)
{
	for (unsigned i = 0; i < GROUP_KEPT_IMAGES; i++) {
		struct image *image = g->kept_images[i];
		if (image == NULL)
			continue;
		g->kept_images[i] = NULL;
		image->refs = 1;
		return image;
	}
	return NULL;
}

int segment_need_image(struct quire_volumes *g, struct segment *seg)
{
	if (seg->image == NULL)
		seg->image = take_kept(g);
	if (seg->image != NULL)
		return 0;
	struct image *image = calloc(1, sizeof(*image));
	if (image == NULL)
		return -ENOMEM;
	void *bytes = mmap(NULL, g->settings.segment_bytes, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bytes == MAP_FAILED) {
		free(image);
		return -ENOMEM;
	}
	*image = (struct image){.refs = 1, .bytes = bytes};
	seg->image = image;
	budget_charge(budget_of(g), BUDGET_BUFFERS, g->settings.segment_bytes);
	return 0;
}

static void free_image(struct quire_volumes *g, struct image *image)
{
	munmap(image->bytes, g->settings.segment_bytes);
	free(image->damaged);
	budget_uncharge(budget_of(g), BUDGET_BUFFERS, g->settings.segment_bytes);
	free(image);
}

void image_put(struct quire_volumes *g, struct image *image)
{
	if (image == NULL || --image->refs != 0)
		return;
	/* While the log is read it says what was on the medium, zeros where nothing was: then each is a new one. */
	for (unsigned i = 0; g->journal != NULL && !g->closed && i < GROUP_KEPT_IMAGES; i++)
		if (g->kept_images[i] == NULL) {
			image->used = true;
			free(image->damaged);
			image->damaged = NULL;
			g->kept_images[i] = image;
			return;
		}
	free_image(g, image);
}

void group_free_images(struct quire_volumes *g)
{
	for (unsigned i = 0; i < GROUP_KEPT_IMAGES; i++)
		if (g->kept_images[i] != NULL)
			free_image(g, g->kept_images[i]);
}

int segment_note_damage(struct quire_volumes *g, struct segment *seg, uint32_t block)
{
	struct image *image = seg->image;

	if (image->damaged == NULL)
		image->damaged = calloc(g->segment_blocks / 8 + 1, 1);
	if (image->damaged == NULL)
		return -ENOMEM;
	image->damaged[block / 8] |= (uint8_t)(1u << block % 8);
	return 0;
}

bool image_is_damaged(const struct image *image, uint32_t block, uint32_t n_blocks)
{
	for (uint32_t i = block; image->damaged != NULL && i < block + n_blocks; i++)
		if ((image->damaged[i / 8] & 1u << i % 8) != 0)
			return true;
	return false;
}

/* ---- lists ---- */

/* For one more that is young. */
static int make_room(struct quire_volumes *g)
{
	if (g->n_young < g->young_capacity)
		return 0;
	unsigned capacity = 2 * g->young_capacity + 8;
	struct segment **grown = reallocarray(g->young, capacity, sizeof(grown[0]));
	if (grown == NULL)
		return -ENOMEM;
	g->young = grown;
	g->young_capacity = capacity;
	return 0;
}

struct segment *segment_new(struct quire_volumes *g, const struct store_log_segment *from)
{
	struct segment *seg = make_room(g) == 0 ? calloc(1, sizeof(*seg)) : NULL;

	if (seg == NULL)
		return NULL;
	seg->id = from->id;
	seg->offset = from->offset;
	g->young[g->n_young++] = seg;
	return seg;
}

struct segment *segment_young_at(const struct quire_volumes *g, uint64_t offset)
{
	for (unsigned i = 0; i < g->n_young; i++)
		if (g->young[i]->offset == offset)
			return g->young[i];
	return NULL;
}

struct segment *segment_find(const struct quire_volumes *g, uint64_t no)
{
	return (struct segment *)idmap_find(&g->segments, no);
}

int segment_bind(struct quire_volumes *g, struct segment *seg, uint64_t no)
{
	/* Its places are below MAP_MAX_LBA; no log lives to see that. */
	if (no >= MAP_MAX_LBA / g->segment_blocks - 1)
		return -EUCLEAN;
	int rc = idmap_add(&g->segments, &seg->node, no);

	if (rc == 0 && seg->state != SEGMENT_SEALED)
		seg->state = SEGMENT_OPEN;
	return rc;
}

static void leave_young(struct quire_volumes *g, struct segment *seg)
{
	unsigned i = 0;

	while (i < g->n_young && g->young[i] != seg)
		i++;
	if (i == g->n_young)
		return;
	memmove(g->young + i, g->young + i + 1, (--g->n_young - i) * sizeof(g->young[0]));
}

void segment_is_sealed(struct quire_volumes *g, struct segment *seg)
{
	seg->state = SEGMENT_SEALED;
	image_put(g, seg->image);
	seg->image = NULL;
	leave_young(g, seg);
}

void segment_free(struct quire_volumes *g, struct segment *seg)
{
	leave_young(g, seg);
	image_put(g, seg->image);
	free(seg);
}

unsigned group_n_unsealed(const struct quire_volumes *g)
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->n_young; i++)
		n += g->young[i]->state == SEGMENT_OPEN;
	return n;
}

bool group_has_open_below(const struct quire_volumes *g, uint64_t no)
{
	for (unsigned i = 0; i < g->n_young; i++)
		if (g->young[i]->state == SEGMENT_OPEN && g->young[i]->node.id < no)
			return true;
	return false;
}

/* ---- spares ---- */

/* They are begun in the order of their ids, and given back from the last on: so whatever a crash or an error leaves of a change of the store's list, what has
 * an id below one that was begun was begun, too. A check goes by that (store/check_log_unsealed.c). */
static struct segment *find_spare(const struct quire_volumes *g, bool last)
{
	struct segment *found = NULL;

	for (unsigned i = 0; i < g->n_young; i++)
		if (g->young[i]->state == SEGMENT_SPARE && (found == NULL || (g->young[i]->id > found->id) == last))
			found = g->young[i];
	return found;
}

unsigned group_n_spares(const struct quire_volumes *g)
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->n_young; i++)
		n += g->young[i]->state == SEGMENT_SPARE;
	return n;
}

bool group_release_spare(struct quire_volumes *g)
{
	int rc = wait_for(&g->waits, WAIT_SPARE, 0, NULL); /* one that is coming is the last */

	group_lock(g);
	struct segment *seg = rc == 0 ? find_spare(g, true) : NULL;
	if (seg != NULL)
		seg->state = SEGMENT_LEAVING;
	group_unlock(g);
	if (seg == NULL)
		return false;
	rc = store_log_remove_these(g->space, &seg->id, 1);
	group_lock(g);
	if (rc == 0)
		segment_free(g, seg);
	else if (store_error(g->store) == 0) /* else its removal may be on the medium: it is nobody's */
		seg->state = SEGMENT_SPARE;
	group_unlock(g);
	if (rc < 0)
		return false;
	store_settle(g->store);
	return true;
}

/* Lock held; released meanwhile. */
static int prepare_spare(struct quire_volumes *g)
{
	struct store_log_segment got;
	struct store_stat stat;

	if (g->releasing)
		return -ENOSPC;
	/* What the store's list has is found there: it is not to be passed over for want of memory. */
	struct segment *seg = make_room(g) == 0 ? calloc(1, sizeof(*seg)) : NULL;
	if (seg == NULL)
		return -ENOMEM;
	g->preparing = true;
	group_unlock(g);
	/* Whoever it is for: a store that cannot write its catalogue can't give back anything either. */
	store_stat(g->store, &stat);
	int rc = stat.classes[g->settings.class_no].log_bytes < GROUP_LEFT_BYTES / 2 ? -ENOSPC : store_log_add(g->space, &got);
	group_lock(g);
	if (rc == 0) {
		*seg = (struct segment){.id = got.id, .offset = got.offset};
		g->young[g->n_young++] = seg;
	} else {
		free(seg);
	}
	g->preparing = false;
	g->class_has_none = rc == -ENOSPC;
	group_unlock_and_wake(g);
	group_lock(g);
	return rc;
}

/* Lock held; released meanwhile. A writer leaves what the next checkpoint needs, and cleaning, as segments that are got already: the
 * space that the store has left may be in pieces, or others'. */
static int need_spares(struct quire_volumes *g, uint64_t n)
{
	int rc = 0;

	while (rc == 0 && group_n_spares(g) < n) {
		if (!g->preparing) {
			rc = prepare_spare(g);
			continue;
		}
		group_unlock(g);
		rc = wait_for(&g->waits, WAIT_SPARE, 0, NULL);
		group_lock(g);
	}
	return rc;
}

bool group_has_spares(struct quire_volumes *g, uint64_t n)
{
	group_lock(g);
	bool has = need_spares(g, n) == 0;
	group_unlock(g);
	return has;
}

int group_segment_get(void *owner, uint64_t *ret_offset)
{
	struct quire_volumes *g = owner;
	bool upkeep = g->upkeep_turn;
	uint64_t kept = space_kept(g), n = upkeep ? g->n_left_spares : kept;
	int rc = 0;

	promise_settle(g);
	if (!upkeep) {
		space_clean_in_time(g);
		rc = space_store_is_full(g) ? -ENOSPC : 0;
	}
	group_lock(g);
	/* One of them is that which is just ending. */
	if (rc == 0 && group_n_unsealed(g) > GROUP_MAX_UNSEALED) {
		worker_kick(&g->sealer);
		group_unlock(g);
		rc = wait_for(&g->waits, WAIT_SEALS, 0, NULL);
		group_lock(g);
	}
	if (rc == 0)
		rc = need_spares(g, n + 1);
	struct segment *seg = rc == 0 ? find_spare(g, false) : NULL;
	if (rc == 0)
		rc = segment_need_image(g, seg);
	if (rc == 0) {
		seg->state = SEGMENT_NEXT;
		seg->of_kept = group_n_spares(g) < kept;
		*ret_offset = seg->offset;
		g->n_got += !upkeep;
	}
	group_unlock(g);
	return rc;
}

uint8_t *group_segment_memory(void *owner, uint64_t offset)
{
	struct quire_volumes *g = owner;

	group_lock(g);
	struct segment *seg = segment_young_at(g, offset);
	/* While the log is opened, images are made as it comes to them; without one it is told so afterwards. */
	if (seg != NULL && g->journal == NULL && !seg->is_object && !seg->missed)
		seg->missed = segment_need_image(g, seg) < 0;
	uint8_t *bytes = seg != NULL && seg->image != NULL ? seg->image->bytes : NULL;
	group_unlock(g);
	return bytes;
}

/* ---- seals ---- */

/* Goes on over the records of an OPEN one that has ended: what its footer says. */
static int walk(struct quire_volumes *g, struct segment *seg)
{
	const struct frame_segment_le *header = (const struct frame_segment_le *)seg->image->bytes;
	struct store_log_footer *f = &seg->footer;
	bool ended = false;

	*f = (struct store_log_footer){.segment_no = le64toh(header->segment_no),
	                               .first_no = le64toh(header->first_record_no),
	                               .end_no = le64toh(header->first_record_no),
	                               .end_bytes = FRAME_BLOCK_BYTES};
	if (f->segment_no != seg->node.id)
		return -EUCLEAN;
	while (!ended) {
		struct frame_record_le le;
		if (f->end_bytes + FRAME_LINK_BYTES > g->settings.segment_bytes)
			return -EUCLEAN;
		memcpy(&le, seg->image->bytes + f->end_bytes, sizeof(le));
		uint64_t bytes = frame_bytes(le32toh(le.len_bytes));
		if (bytes > g->settings.segment_bytes - f->end_bytes)
			return -EUCLEAN;
		ended = le16toh(le.type) == FRAME_LINK;
		f->end_no += le16toh(le.type) >= FRAME_FIRST_FOREIGN_TYPE;
		f->end_bytes += (uint32_t)bytes;
	}
	uint32_t rest = g->settings.segment_bytes - f->end_bytes;
	memset(seg->image->bytes + f->end_bytes, 0, seg->image->used ? rest : -f->end_bytes & (FORMAT_UNIT_BYTES - 1));
	return 0;
}

/* The oldest that has ended, and behind which something is durable. Lock held. */
static struct segment *next_to_seal(const struct quire_volumes *g)
{
	struct segment *oldest = NULL;

	for (unsigned i = 0; i < g->n_young; i++) {
		struct segment *seg = g->young[i];
		if (seg->state == SEGMENT_OPEN && seg->node.id < journal_segment_durable(g->journal) &&
		    (oldest == NULL || seg->node.id < oldest->node.id))
			oldest = seg;
	}
	return oldest;
}

void group_seal(struct quire_volumes *g)
{
	int rc = 0;

	group_lock(g);
	for (struct segment *seg; rc == 0 && (seg = next_to_seal(g)) != NULL;) {
		struct image *image = seg->image;
		image->refs++;
		rc = walk(g, seg);
		seg->footer.damaged = image->damaged;
		group_unlock(g);
		if (rc == 0)
			rc = store_log_seal(g->space, seg->id, &seg->footer, image->bytes, NULL);
		group_lock(g);
		image_put(g, image);
		if (rc == 0) {
			seg->is_object = true;
			segment_is_sealed(g, seg);
		}
		g->seal_error = rc;
		group_unlock_and_wake(g);
		group_lock(g);
	}
	g->seal_error = rc;
	group_unlock(g);
}

/* ---- what is live ---- */

/* It has its header, NEXT and LINK, and heads of records of single blocks, with an entry and a checksum for each. */
uint64_t group_holds(const struct quire_volumes *g)
{
	uint64_t each = (VOLUME_HEAD_ROOM - sizeof(struct data_le)) / (sizeof(struct entry_le) + sizeof(uint32_t));
	uint64_t n = g->segment_blocks - 3;

	return n - (n + each) / (each + 1);
}

uint64_t group_most_live(const struct quire_volumes *g)
{
	uint64_t holds = group_holds(g);

	return holds - holds / LEAST_GAIN_PART - 1;
}

void group_count_live(struct quire_volumes *g, uint64_t place, int64_t n_blocks)
{
	struct segment *seg = segment_find(g, place / g->segment_blocks - 1);

	if (seg == NULL)
		return;
	seg->n_live += n_blocks;
	g->n_live += n_blocks;
}

void group_leave_place(struct quire_volumes *g, uint64_t place, uint64_t n_blocks)
{
	struct segment *seg = segment_find(g, place / g->segment_blocks - 1);

	if (seg != NULL) {
		seg->n_live -= (int64_t)n_blocks;
		g->n_live -= (int64_t)n_blocks;
		seg->has_moved = true;
	}
}
