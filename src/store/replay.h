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
};

/* For container_open; arg: struct replay. */
int replay_record(void *arg, const struct journal_place *at, uint16_t type, const void *payload,
                  uint32_t len_bytes);

#endif
