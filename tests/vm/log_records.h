/* log_records.h - records that say who they are, and the order in which they must come out of a log. */
#ifndef TESTS_VM_LOG_RECORDS_H
#define TESTS_VM_LOG_RECORDS_H

#include <quire/log.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_MAX 57344u
#define N_WRITERS 6u
#define N_LIVES 64u

/* A life is one run of a program that appends; in it, each writer's records are numbered from 0. The rest of a record, and
 * its length, are a function of these. */
struct record_name {
	uint64_t life;
	uint32_t writer, no;
};

/* buf: RECORD_MAX. Returns the length. */
size_t record_make(struct record_name name, void *buf);

/* Which one it is. NULL, or what is wrong with it. */
const char *record_read(const void *data, size_t len_bytes, struct record_name *ret_name);

/* What was seen on a walk forward over a log. Zeroed: at its start, or where a trim made one. */
struct record_order {
	uint64_t lsn;              /* of the next */
	uint64_t n;                /* seen */
	uint64_t lives[N_LIVES];   /* the last is the one that goes on */
	unsigned n_lives;
	uint32_t next[N_WRITERS];
	bool begun[N_WRITERS];     /* in this life */
};

/* NULL, or what is wrong with the record that comes next. */
const char *record_follow(struct record_order *o, const struct quire_log_record *r);

#endif
