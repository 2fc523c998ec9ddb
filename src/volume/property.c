/* property.c - see property.h. */
#include "property.h"
#include "volume_internal.h"

#include <errno.h>
#include <string.h>

int property_read(struct quire_volumes *g, uint32_t tree, enum property which, void *block)
{
	static const char *const magics[] = {PROPERTY_BASE_MAGIC, PROPERTY_RECEIVED_MAGIC};
	uint64_t lba = PROPERTY_FIRST_LBA + which;
	int rc;

	do {
		struct map_extent e;
		uint64_t epoch;
		bool gap;
		rc = group_look(g, tree, lba, lba + 1, 0, &e, &gap, &epoch);
		if (rc == 0 && !map_is_data(e.place))
			return -ENODATA;
		if (rc == 0)
			rc = group_read_place(g, e.place, 1, block);
		if (rc == -ESTALE && group_look_again(g, epoch) < 0)
			rc = -EUCLEAN;
	} while (rc == -ESTALE);
	return rc == 0 && memcmp(block, magics[which], 8) != 0 ? -EUCLEAN : rc;
}

int property_write(struct quire_volume *h, enum property which, const void *block)
{
	struct iovec part = {(void *)(uintptr_t)block, MAP_BLOCK_BYTES};
	struct request r = {.kind = REQUEST_DATA, .group = h->group, .volume = h->id, .lba = PROPERTY_FIRST_LBA + which, .n = 1,
	                    .parts = &part, .n_parts = 1, .is_property = true, .growth = 1};
	uint64_t last_no = 0;

	return volume_submit(&r, &last_no);
}
