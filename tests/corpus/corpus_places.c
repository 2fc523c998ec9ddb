/* corpus_places.c - where everything lies: by what the store knows in memory, and by the format. */
#include "corpus.h"

#include "../../src/store/store_internal.h"

#include <string.h>

const char *const place_names[PLACE_N_KINDS] = {
	"superblock", "header of the catalogue", "catalogue", "page", "checksums", "container", "header of a log's segment",
	"records of a log", "checksums of a log", "marks", "footer", "list of keys", "end of a log", "end of a log in pmem",
	"segment of volumes", "page of a map", "checkpoint of volumes", "saved pool",
};

struct list {
	struct corpus *corpus;
	struct place *places;
	unsigned n;
};

static struct place *add(struct list *l, enum place_kind kind, unsigned class_no, uint64_t offset, uint64_t len_bytes)
{
	assert_true(l->n < CORPUS_MOST_PLACES && len_bytes > 0);
	l->places[l->n] = (struct place){.kind = kind, .class_no = class_no, .offset = offset, .len_bytes = len_bytes};
	return &l->places[l->n++];
}

/* Begins a block on the medium with that? */
static bool has(struct list *l, unsigned class_no, uint64_t at, const char *magic)
{
	char bytes[8];

	sim_peek(*corpus_sim(l->corpus, class_no), at, bytes, sizeof(bytes));
	return memcmp(bytes, magic, strlen(magic)) == 0;
}

static void add_superblocks(struct list *l)
{
	for (unsigned cls = 0; cls < STORE_N_CLASSES; cls++)
		for (unsigned copy = 0; copy < SUPERBLOCK_COPIES && corpus_sim(l->corpus, cls) != NULL; copy++)
			add(l, PLACE_SUPERBLOCK, cls, (uint64_t)copy * FORMAT_SUPERBLOCK_STEP, FORMAT_UNIT_BYTES);
}

/* What volumes need may be missing, if the last of its records are. */
static void add_catalogue(void *arg, uint64_t offset)
{
	struct list *l = arg;
	struct place *head = add(l, PLACE_CATALOGUE_HEADER, 0, offset, FORMAT_UNIT_BYTES);
	struct place *body = add(l, PLACE_CATALOGUE, 0, offset + FORMAT_UNIT_BYTES, l->corpus->store->segment_bytes - FORMAT_UNIT_BYTES);

	head->is_end = head->is_volumes = body->is_end = body->is_volumes = true;
}

static void add_object(struct list *l, const struct index_entry *e)
{
	uint64_t n_pages = format_n_pages(e->len_bytes);
	enum place_kind kind = e->tag == FORMAT_TAG_VOLUMES ? PLACE_CHECKPOINT : e->tag == QUIRE_TMEM_IMAGE_TAG ? PLACE_POOL : PLACE_PAGE;
	struct extent one;
	unsigned n;
	const struct extent *extents = index_entry_extents(e, &one, &n);

	for (unsigned i = 0; i < n; i++) {
		uint64_t units = extents[i].n_units - (i + 1 == n && n_pages > 1);
		if (units > 0)
			add(l, kind, e->class_no, extents[i].start * FORMAT_UNIT_BYTES, units * FORMAT_UNIT_BYTES);
	}
	/* None of them has a second group. */
	if (n_pages > 1)
		add(l, PLACE_SUMS, e->class_no, (extents[n - 1].start + extents[n - 1].n_units - 1) * FORMAT_UNIT_BYTES, FORMAT_UNIT_BYTES);
}

/* Segment by segment, so that their headers are hit as often as the rest. */
static void add_container(struct list *l, const struct store_container *c)
{
	for (unsigned i = 0; i < c->extents.n; i++) {
		uint64_t at = c->extents.extents[i].start * FORMAT_UNIT_BYTES, end = at + c->extents.extents[i].n_units * FORMAT_UNIT_BYTES;
		for (; at < end; at += c->segment_bytes)
			if (has(l, c->class_no, at, "QuireSeg"))
				add(l, PLACE_CONTAINER, c->class_no, at, c->segment_bytes)->is_end = true;
	}
}

static void add_map_pages(struct list *l, uint64_t at, uint32_t bytes, bool is_end)
{
	for (uint64_t block = at; block < at + bytes; block += FORMAT_UNIT_BYTES)
		if (has(l, 0, block + 4, "QvmN"))
			*add(l, PLACE_MAP_PAGE, 0, block, FORMAT_UNIT_BYTES) = (struct place){PLACE_MAP_PAGE, 0, block, FORMAT_UNIT_BYTES, is_end, true};
}

static void add_segment(struct list *l, const struct store_log_extent *e)
{
	const struct store_log *log = e->log;
	uint32_t bytes = log->settings.segment_bytes, sums = format_log_sums_units(bytes) * FORMAT_UNIT_BYTES;
	uint64_t at = e->start * FORMAT_UNIT_BYTES, footer = at + (format_log_extent_units(bytes) - 1) * (uint64_t)FORMAT_UNIT_BYTES;
	bool sealed = has(l, e->class_no, footer, FORMAT_LOG_FOOTER_MAGIC), volumes = log->settings.volumes;
	unsigned cls = e->class_no;

	if (volumes)
		add_map_pages(l, at, bytes, !sealed);
	struct place *head = add(l, volumes ? PLACE_VOLUME_SEGMENT : PLACE_LOG_HEADER, cls, at, FORMAT_UNIT_BYTES);
	struct place *body = add(l, volumes ? PLACE_VOLUME_SEGMENT : sealed ? PLACE_LOG_RECORDS : cls == QUIRE_CLASS_PMEM ? PLACE_PMEM_TAIL : PLACE_LOG_TAIL,
	                         cls, at + FORMAT_UNIT_BYTES, bytes - FORMAT_UNIT_BYTES);
	head->is_end = body->is_end = !sealed;
	head->is_volumes = body->is_volumes = volumes;
	if (!sealed)
		return;
	add(l, PLACE_LOG_SUMS, cls, at + bytes, sums)->is_volumes = volumes;
	if (!volumes)
		add(l, PLACE_LOG_MARKS, cls, at + bytes + sums, footer - at - bytes - sums);
	add(l, PLACE_LOG_FOOTER, cls, footer, FORMAT_UNIT_BYTES)->is_volumes = volumes;
	if (log->settings.keys)
		add(l, PLACE_LOG_KEYS, cls, footer + FORMAT_UNIT_BYTES, format_log_keys_units(bytes) * FORMAT_UNIT_BYTES);
}

unsigned corpus_places(struct corpus *c, struct place *ret)
{
	struct list l = {.corpus = c, .places = ret};
	struct store *s = c->store;
	struct index_entry *e;

	add_superblocks(&l);
	container_segments(s->catalogue, add_catalogue, &l);
	for (uint64_t after = 0; (e = index_next(&s->index, after)) != NULL; after = e->id)
		add_object(&l, e);
	for (struct idmap_node *node = idmap_any(&s->containers); node != NULL; node = idmap_after(&s->containers, node))
		add_container(&l, (struct store_container *)node);
	for (struct idmap_node *node = idmap_any(&s->log_segments); node != NULL; node = idmap_after(&s->log_segments, node))
		add_segment(&l, (struct store_log_extent *)node);
	return l.n;
}

const struct place *corpus_place_at(const struct place *places, unsigned n, unsigned class_no, uint64_t offset)
{
	for (unsigned i = 0; i < n; i++)
		if (places[i].class_no == class_no && offset >= places[i].offset && offset - places[i].offset < places[i].len_bytes)
			return &places[i];
	return NULL;
}
