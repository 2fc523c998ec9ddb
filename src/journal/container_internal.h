/* container_internal.h - a container from the inside. For src/journal/container*.c alone. */
#ifndef JOURNAL_CONTAINER_INTERNAL_H
#define JOURNAL_CONTAINER_INTERNAL_H

#include "container.h"
#include "journal_internal.h"

struct container_start_le {
	uint64_t generation;
	uint32_t complete;
	uint32_t zero;
};
static_assert(sizeof(struct container_start_le) == 16, "layout");

struct container_end_le {
	uint64_t generation;
};
static_assert(sizeof(struct container_end_le) == 8, "layout");

struct container_log {
	struct container *container;
	struct journal *journal; /* owned; NULL: gone */
	uint64_t first_segment;
	uint64_t generation;
	uint64_t base;           /* what is added to the journal's numbers */
	uint64_t n_own;          /* records that are ours */
	unsigned n_inside;
};

struct container {
	struct container_options o;
	bool read_only;
	uint64_t n_begun;        /* logs begun and opened, for salts of their own */
	struct wait_queue waits; /* its lock guards what follows */
	struct container_log logs[2];
	unsigned active, target; /* differ while compacting */
	bool compacting;
	uint64_t n_settled;
	int error;
	struct journal *retired; /* owned: the last old log, without segments */
};

struct container_log_state {
	int rc;                     /* of the header, then of the log: 0, -EBADMSG, … */
	struct frame_segment first; /* its header */
	uint64_t generation, n_own, n_seen;
	bool has_header, complete;
};

struct container_delivery {
	const struct container *container; /* borrowed */
	struct container_log_state *state;
	struct quire_error *err;           /* borrowed; NULL */
	journal_record_fn fn; /* or NULL */
	void *arg;
};

/* ---- container.c ---- */

/* Without logs. container_free: NULL allowed. */
int container_new(const struct container_options *o, const uint64_t first[2], struct container **ret,
                  struct quire_error *err);
void container_free(struct container *c);

/* The journal's, for one of the two logs. */
struct journal_options container_log_options(struct container *c, unsigned index);

int container_erase_header(struct container *c, unsigned index);

/* ---- container_open.c ---- */

/* A journal_record_fn for a whole log: takes in what is the container's, hands on the rest. arg: a container_delivery. */
int container_deliver(void *arg, const struct journal_place *at, uint16_t type, const void *payload,
                      uint32_t len_bytes);

#endif
