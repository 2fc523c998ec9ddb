/* destage_env.h - a log in a store of two simulated devices, for tests of what moves between them. */
#ifndef TESTS_LOG_DESTAGE_ENV_H
#define TESTS_LOG_DESTAGE_ENV_H

#include "log_env.h"

#define SALT 31
#define STAGING QUIRE_CLASS_STAGING
#define CAPACITY QUIRE_CLASS_CAPACITY
#define EXTENT_UNITS format_log_extent_units(SEGMENT)
#define SMALL_UNITS (FORMAT_MIN_CLASS_BYTES / FORMAT_UNIT_BYTES) /* room for some ten segments */

extern struct env e;
extern const struct quire_log_options by_rule; /* all but two sealed segments go to staging */

/* Group functions of cmocka; n_units: of staging; of `capacity` at least 2000. */
int set_up_with(const struct quire_log_options *options, uint64_t n_units);
int set_up(void **state);            /* no rule, room enough */
int set_up_rule(void **state);
int set_up_small(void **state);      /* SMALL_UNITS */
int set_up_small_rule(void **state);
int tear_down(void **state);
void format(struct env *env, void *arg);

/* In a coroutine, these: */
void append_to(struct env *env, uint64_t n);
void reopen(struct env *env);
void open_with(struct env *env, uint64_t n); /* all that can be sealed is */
uint64_t n_sealed(struct env *env, uint64_t *ret_n_elsewhere);
struct store_class_stat class_of(struct env *env, enum quire_class cls); /* settled */
uint64_t extents_in_use(struct env *env, enum quire_class cls); /* about: the catalogue is on `capacity` */
void wait_until_moved(struct env *env); /* as by_rule says */

#endif
