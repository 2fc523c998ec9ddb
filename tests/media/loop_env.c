/* loop_env.c - batches of reads. */
#include "loop_env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static enum quire_engine engine;

int env_run_engines(const struct CMUnitTest *tests, size_t n_tests)
{
	static const struct {
		enum quire_engine engine;
		const char *name;
	} engines[] = {{QUIRE_ENGINE_THREADS, "threads"}, {QUIRE_ENGINE_URING, "io_uring"}};
	int n_failed = 0;
	for (unsigned i = 0; i < 2; i++) {
		struct quire_loop *loop;
		struct quire_loop_options opts = {.size = sizeof(opts), .engine = engines[i].engine};
		if (quire_loop_create(&opts, &loop, NULL) < 0) {
			print_message("no engine %s here\n", engines[i].name);
			continue;
		}
		quire_loop_destroy(loop);
		engine = engines[i].engine;
		n_failed += _cmocka_run_group_tests(engines[i].name, tests, n_tests, env_setup,
		                                    env_teardown);
	}
	return n_failed;
}

struct quire_loop *env_loop(void)
{
	struct quire_loop *loop;
	struct quire_loop_options opts = {
		.size = sizeof(opts), .engine = engine, .n_threads = 4, .depth = 64};
	struct quire_error err = {0};
	if (quire_loop_create(&opts, &loop, &err) != 0)
		fail_msg("%s", err.text);
	return loop;
}

struct batch {
	struct env_read *reads;
	unsigned n;
	void (*after)(struct env_read *read);
	bool starting;
};

static _Thread_local struct batch *running;

static void read_done(struct media_read *read, int result)
{
	struct env_read *r = (struct env_read *)((char *)read - offsetof(struct env_read, read));
	assert_false(running->starting);
	r->n_done++;
	r->result = result;
	r->checked = result == 0 ? media_read_check(read) : 0;
	if (result == 0 && r->checked == 0)
		env_check(read->buf, r->seed, r->offset, r->len_bytes);
	if (running->after != NULL)
		running->after(r);
	media_read_finish(read);
}

static void start_all(void *arg)
{
	struct batch *batch = arg;
	batch->starting = true;
	for (unsigned i = 0; i < batch->n; i++) {
		struct env_read *r = &batch->reads[i];
		r->read = (struct media_read){
			.file = r->file,
			.offset = r->offset,
			.len_bytes = r->len_bytes,
			.buf = env_buffer(r->len_bytes),
			.buffer_slot = -1,
			.independent = r->independent,
			.done = read_done,
		};
		r->n_done = 0;
		media_read_start(quire_loop_self(), &r->read);
	}
	batch->starting = false;
}

void env_run_on(struct quire_loop *loop, struct env_read *reads, unsigned n,
                void (*after)(struct env_read *read))
{
	struct batch batch = {.reads = reads, .n = n, .after = after};
	running = &batch;
	assert_int_equal(quire_co_spawn(loop, start_all, &batch), 0);
	assert_int_equal(quire_loop_run(loop), 0);
	running = NULL;
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(reads[i].n_done, 1);
		free(reads[i].read.buf);
	}
}

void env_run(struct env_read *reads, unsigned n, void (*after)(struct env_read *read))
{
	struct quire_loop *loop = env_loop();
	env_run_on(loop, reads, n, after);
	assert_int_equal(quire_loop_destroy(loop), 0);
}
