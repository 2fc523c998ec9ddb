/* keys_env.h - a log with keys on a quiet device, beside the one of log_env.h; its keys have numbers. */
#ifndef TESTS_LOG_KEYS_ENV_H
#define TESTS_LOG_KEYS_ENV_H

#include "log_env.h"

#define KEYED "keyed"
#define KEYS_MAX_RECORDS 20000u
#define NONE UINT32_MAX

extern struct env e;
extern uint32_t key_no[KEYS_MAX_RECORDS]; /* of each record appended; NONE: it has no key */
extern uint64_t n_appended;

int keys_set_up(void **state);
int keys_set_up_with(struct sim *other); /* of the class staging; NULL: none */
int keys_tear_down(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, keys_set_up, keys_tear_down)

/* In a coroutine, these: */
void open_keyed(struct env *env, bool read_only);
void reopen(struct env *env, bool read_only);
struct quire_log_stat stat_of(struct env *env);

size_t make_key(uint32_t no, char key[64]); /* 1 to 40 bytes, all different */
void append_keyed(struct env *env, uint32_t no, size_t len_bytes, bool durable);
/* n records, each without a key or with a random one of n_keys, and of less than len_bytes. */
void fill_keyed(struct env *env, uint64_t n, uint32_t n_keys, size_t len_bytes);

/* The last record of those with that key; -ENOENT. */
int64_t newest(uint32_t no, uint64_t first, uint64_t end);
int find_keyed(struct env *env, uint32_t no, enum quire_log_mark mark, uint64_t *ret_lsn);
void expect_newest(struct env *env, uint32_t no, enum quire_log_mark mark, int64_t want);
/* All keys are found where they should be, visible and durable. */
void expect_all(struct env *env, uint32_t n_keys);

#endif
