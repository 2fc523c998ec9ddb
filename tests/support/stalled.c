/* stalled.c - see stalled.h. */
#include "stalled.h"

const enum quire_engine both_engines[2] = {QUIRE_ENGINE_URING, QUIRE_ENGINE_THREADS};

/* No assertion here: this is not cmocka's thread. */
static void start_all(void *arg)
{
	struct stalled *s = arg;

	for (unsigned i = 0; i < s->n && s->rc == 0; i++)
		s->rc = quire_map_want(s->map, &s->ranges[i], 1, s->flags, &s->ops[i]);
	if (s->body != NULL)
		s->body(s);
	sem_post(&s->started);
	while (sem_wait(&s->go) < 0)
		;
}

static void *stalled_main(void *arg)
{
	struct stalled *s = arg;

	if (quire_co_spawn(s->loop, start_all, s) < 0 || quire_loop_run(s->loop) < 0)
		abort();
	return NULL;
}

void stalled_start(struct stalled *s, enum quire_engine engine)
{
	struct quire_loop_options o = {
		.size = sizeof(o), .engine = engine, .depth = s->depth, .n_threads = 4};
	struct quire_capabilities caps;

	quire_capabilities(&caps);
	if (engine == QUIRE_ENGINE_URING && !caps.io_uring)
		o.engine = QUIRE_ENGINE_THREADS;
	sem_init(&s->started, 0, 0);
	sem_init(&s->go, 0, 0);
	assert_int_equal(quire_loop_create(&o, &s->loop, NULL), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, stalled_main, s), 0);
	while (sem_wait(&s->started) < 0)
		;
	assert_int_equal(s->rc, 0);
}

void stalled_end(struct stalled *s)
{
	sem_post(&s->go);
	pthread_join(s->thread, NULL);
	assert_int_equal(quire_loop_destroy(s->loop), 0);
	sem_destroy(&s->started);
	sem_destroy(&s->go);
}
