/* destage_env.c - see destage_env.h. */
#include "destage_env.h"

struct env e;

void format(struct env *env, void *arg)
{
	assert_int_equal(env_format(env), 0);
}

int set_up_with(const struct quire_log_options *options, uint64_t n_units)
{
	record_max_len = 2000;
	env_init(&e, 5, n_units < 2000 ? 2000 : n_units, NULL);
	e.options = options;
	assert_int_equal(sim_create(n_units * FORMAT_UNIT_BYTES, 6, NULL, &e.other), 0);
	env_run(&e, format, NULL);
	return 0;
}

int set_up(void **state)
{
	return set_up_with(NULL, 2000);
}

int set_up_small(void **state)
{
	return set_up_with(NULL, SMALL_UNITS);
}

const struct quire_log_options by_rule = {
	.size = sizeof(by_rule), .segment_bytes = SEGMENT, .destage = true, .destage_to = STAGING,
	.destage_keep_bytes = 2 * SEGMENT - 1,
};

int set_up_rule(void **state)
{
	return set_up_with(&by_rule, 2000);
}

int set_up_small_rule(void **state)
{
	return set_up_with(&by_rule, SMALL_UNITS);
}

int tear_down(void **state)
{
	env_fini(&e);
	return 0;
}

void append_to(struct env *env, uint64_t n)
{
	for (uint64_t lsn = quire_log_visible(env->log); lsn < n; lsn++)
		assert_int_equal(env_append(env, SALT, lsn, true), 0);
}

void reopen(struct env *env)
{
	assert_int_equal(env_close(env), 0);
	assert_int_equal(env_open(env), 0);
}

void open_with(struct env *env, uint64_t n)
{
	assert_int_equal(env_open(env), 0);
	append_to(env, n);
	reopen(env);
}

uint64_t n_sealed(struct env *env, uint64_t *ret_n_elsewhere)
{
	struct quire_log_stat s;

	assert_int_equal(quire_log_stat(env->log, &s), 0);
	*ret_n_elsewhere = s.info.n_destaged;
	return s.n_sealed;
}

struct store_class_stat class_of(struct env *env, enum quire_class cls)
{
	struct store_stat s;

	store_settle(env->store);
	store_stat(env->store, &s);
	return s.classes[cls];
}

uint64_t extents_in_use(struct env *env, enum quire_class cls)
{
	return (class_of(env, cls).used_bytes / FORMAT_UNIT_BYTES - FORMAT_RESERVED_UNITS) / EXTENT_UNITS;
}

void wait_until_moved(struct env *env)
{
	uint64_t elsewhere, n;

	do {
		assert_int_equal(quire_co_yield(), 0);
		n = n_sealed(env, &elsewhere);
	} while (n - elsewhere > 2);
	assert_true(n <= 2 || n - elsewhere == 2);
}
