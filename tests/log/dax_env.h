/* dax_env.h - a log with some sealed segments in a class that is mapped: simulated persistent memory, or a file. */
#ifndef TESTS_LOG_DAX_ENV_H
#define TESTS_LOG_DAX_ENV_H

#include "log_env.h"

#define SALT 31
#define N_UNITS 3000u
#define PAGE 4096u

extern struct env e;
extern struct quire_log_open_options open_opts; /* of e */
extern uint64_t n_records, first_at;            /* first_at: where the oldest segment lies on the medium */

int set_up_sim(void **state);
int set_up_file(void **state);
int tear_down(void **state);
#define ON_SIM(test) {#test ": sim", test, set_up_sim, tear_down, NULL}
#define IN_FILE(test) {#test ": file", test, set_up_file, tear_down, NULL}

/* Tests with a file have it in that directory. False: it can't be mapped there; why, is printed. */
bool can_map_in(const char *dir);

void change_byte(uint64_t offset); /* one bit of it, on the medium */

/* In a coroutine, these: */
void build(struct env *env, void *n); /* unsigned: records; sealed but for the tail */
void settle(struct env *env);         /* until all that can be is sealed */
struct quire_log_stat stat_of(struct env *env);
uint64_t n_fills(struct env *env);
uint64_t end_of_sealed(struct env *env);
struct quire_log_cursor *cursor(struct env *env);
/* Reads n records from lsn on; each must be right. */
void read_some(struct env *env, uint64_t lsn, uint64_t n);

#endif
