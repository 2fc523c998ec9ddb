/* check_internal.h - a check under way. For src/store/check*.c alone. */
#ifndef STORE_CHECK_INTERNAL_H
#define STORE_CHECK_INTERNAL_H

#include "store_internal.h"

#define CHECK_PIECE_BYTES (1u << 20)

struct checking {
	struct store *store;
	const struct store_check *how;
	int64_t n_found;
	uint64_t done_bytes, all_bytes;
	uint8_t *buf; /* owned; device memory; CHECK_PIECE_BYTES */
};

/* ---- check.c ---- */

__attribute__((format(printf, 6, 7)))
void check_found(struct checking *c, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *format, ...);
int check_progress(struct checking *c, uint64_t bytes); /* -ECANCELED */
int check_record(void *checking, const struct journal_place *at, uint16_t type, const void *payload,
                 uint32_t len_bytes); /* no more than its bytes counted */
int check_object(struct checking *c, struct object *o); /* every page and checksum of it */

/* ---- check_logs.c ---- */

int check_logs(struct checking *c);

#endif
