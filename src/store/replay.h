/* replay.h - what a reading of the catalogue carries along. */
#ifndef STORE_REPLAY_H
#define STORE_REPLAY_H

#include "extents.h"
#include "../journal/journal.h"

struct replay {
	struct store *store;      /* borrowed */
	struct quire_error *err;  /* borrowed */
	struct extent_list list;  /* owned; of the record at hand */
	uint64_t end_id;          /* above all that were seen */
	uint64_t last_id;         /* of the object that was seen last */
	uint64_t raced_id;        /* of the last raced record, if no seal came after it; else 0 */
};

/* For container_open; arg: struct replay. */
int replay_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload,
                  uint32_t len_bytes);

#endif
