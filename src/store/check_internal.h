/* check_internal.h - a check under way. For src/store/check*.c alone. */
#ifndef STORE_CHECK_INTERNAL_H
#define STORE_CHECK_INTERNAL_H

#include "store_internal.h"

#include <stdarg.h>

#define CHECK_PIECE_BYTES (1u << 20)

struct checking {
	struct store *store;
	const struct store_check *how;
	int64_t n_found;
	uint64_t done_bytes, all_bytes;
	uint8_t *buf; /* owned; device memory; CHECK_PIECE_BYTES */
	int catalogue_error; /* of its medium; what it says is known all the same, since it is open */
};

/* ---- check.c ---- */

/* One for which there is no remedy; and any: but for its text, which is made of the format. */
__attribute__((format(printf, 6, 7)))
void check_found(struct checking *c, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *format, ...);
__attribute__((format(printf, 3, 4)))
void check_settled(struct checking *c, struct store_finding finding, const char *format, ...);
int check_record(void *checking, const struct journal_place *at, uint16_t type, const void *payload,
                 uint32_t len_bytes); /* no more than its bytes counted */
int check_object(struct checking *c, struct object *o); /* every page and checksum of it */
uint64_t check_place(const struct object *o, uint64_t unit); /* of the object: where it is in its class */
/* Page of an object: it is lost. */
void check_page_is_lost(struct checking *c, int error, const struct object *o, uint64_t page);

/* ---- repair.c: each says what becomes of a finding, and, if that is to be, does it ---- */

enum store_remedy repair_superblock(struct checking *c, unsigned class_no, unsigned copy);
/* Once the check has let go of the catalogue. */
void repair_catalogue(struct checking *c);
/* A page of checksums that is none, found with `error`: tells it, and the pages of its group that are lost. -ENOMEM. */
int repair_sums(struct checking *c, struct object *o, uint64_t group, int error);
/* A list of keys behind a sealed segment's footer, found with `error`: tells it. -ENOMEM, -ECANCELED. */
int repair_list(struct checking *c, struct store_log *log, const struct store_log_segment *place, int error);

/* ---- check_logs.c ---- */

int check_logs(struct checking *c);

#endif
