#include "blobs.h"

struct quire_store *store;
const char *dir;

void skip_if_impossible(void)
{
	struct quire_capabilities caps;

	assert_int_equal(quire_capabilities(&caps), 0);
	if (caps.grade == QUIRE_GRADE_NONE && (fault == QUIRE_FAULT_SERVICE || fault == QUIRE_FAULT_SIGNAL))
		skip_because("no userfaultfd");
}

void store_begin(void)
{
	static unsigned n;
	static char name[32];
	struct quire_store_options opts = {.size = sizeof(opts), .capacity_bytes = CLASS_BYTES};
	struct quire_error err = {0};

	skip_if_impossible();
	snprintf(name, sizeof(name), "store-%u", n++);
	dir = file_path(name);
	assert_int_equal(quire_store_create(dir, &opts, &err), 0);
	assert_int_equal(quire_store_open(cache, dir, 0, &store, &err), 0);
	assert_int_equal(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, CLASS_BYTES, &err), 0);
}

void store_end(void)
{
	assert_int_equal(quire_store_close(store), 0);
	store = NULL;
}

uint64_t blob_put(enum quire_class cls, unsigned seed, uint64_t len_bytes)
{
	struct quire_blob_hints hints = {.size = sizeof(hints), .cls = cls};
	unsigned char *bytes = malloc(len_bytes + 1);
	struct iovec v = {bytes, len_bytes};
	uint64_t id;

	for (uint64_t i = 0; i < len_bytes; i++)
		bytes[i] = file_byte(seed, i);
	assert_int_equal(quire_blob_alloc(store, &hints, &id), 0);
	assert_int_equal(quire_blob_write(store, id, &v, 1, NULL), 0);
	assert_int_equal(quire_blob_commit(store, &id, 1, NULL), 0);
	free(bytes);
	return id;
}

struct quire_map *map_blob(uint64_t id)
{
	return map_item_of((struct quire_item){.store = store, .blob = id});
}
