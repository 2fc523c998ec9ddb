/* stalled.c - see stalled.h. */
#include "stalled.h"

const enum quire_engine both_engines[2] = {QUIRE_ENGINE_URING, QUIRE_ENGINE_THREADS};

static void start_all(void *arg)
{
	struct stalled *s = arg;

	for (unsigned i = 0; i < s->n; i++)
		assert_int_equal(quire_map_want(s->map, &s->ranges[i], 1, s->flags, &s->ops[i]), 0);
	s->started = true;
}

void stalled_start(struct stalled *s, enum quire_engine engine, unsigned depth)
{
	struct quire_loop_options o = {
		.size = sizeof(o), .engine = engine, .depth = depth, .n_threads = 4};
	struct quire_capabilities caps;

	quire_capabilities(&caps);
	if (engine == QUIRE_ENGINE_URING && !caps.io_uring)
		o.engine = QUIRE_ENGINE_THREADS;
	assert_int_equal(quire_loop_create(&o, &s->loop, NULL), 0);
	assert_int_equal(quire_co_spawn(s->loop, start_all, s), 0);
	while (!s->started)
		quire_loop_poll(s->loop);
}

void stalled_end(struct stalled *s)
{
	assert_int_equal(quire_loop_run(s->loop), 0);
	assert_int_equal(quire_loop_destroy(s->loop), 0);
}
