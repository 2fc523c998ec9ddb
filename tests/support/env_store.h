/* env_store.h - what the environments of stores, logs and volumes do alike, each with its own struct env: with its `loop`, and with its
 * `store`. For the one file that makes such an environment.
 */
#ifndef SUPPORT_ENV_STORE_H
#define SUPPORT_ENV_STORE_H

static void print_finding(void *arg, int error, uint64_t id, unsigned class_no, uint64_t offset, const char *text)
{
	if (*(bool *)arg)
		print_message("  found %d, object %llu, class %u, offset %llu: %s\n", error, (unsigned long long)id,
		              class_no, (unsigned long long)offset, text);
}

int64_t env_check(struct env *e, bool print)
{
	struct store_check check = {.found = print_finding, .arg = &print};

	return store_check(e->store, &check);
}

/* ---- running ---- */

struct running {
	struct env *e;
	void (*fn)(struct env *e, void *arg);
	void *arg;
};

static void run_in_coroutine(void *arg)
{
	struct running *r = arg;

	r->fn(r->e, r->arg);
}

void env_run(struct env *e, void (*fn)(struct env *e, void *arg), void *arg)
{
	struct running r = {.e = e, .fn = fn, .arg = arg};

	assert_int_equal(quire_co_spawn(e->loop, run_in_coroutine, &r), 0);
	assert_int_equal(quire_loop_run(e->loop), 0);
}

#endif
