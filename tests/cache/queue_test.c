/* The queue of a filler: who waits there for a buffer or for memory, and in which order they are served. */
#include "../support/maps.h"

#include "../../src/cache/filler.h"
#include "../../src/cache/want.h"

#define N_PAGES 8

/* On a loop of the test's own, whose filler has no buffers or whose cache has no memory at will. */
static struct scene {
	struct quire_loop *loop;
	struct quire_map *map;
	struct range *range;
	struct filler *filler;
	const char *base;
	uint64_t taken_bytes;
	char *buffers[FILLER_BUFFERS];
	unsigned n_ended;
	int ended[N_PAGES];
	struct quire_op ops[N_PAGES];
} scene;

/* All but n. */
static void take_buffers(unsigned n)
{
	for (unsigned i = n; i < scene.filler->n_buffers; i++)
		assert_non_null(scene.buffers[i] = filler_buffers_get(scene.filler, 1));
}

static void give_buffers(unsigned n)
{
	for (unsigned i = n; i < scene.filler->n_buffers; i++)
		filler_buffers_put(scene.filler, scene.buffers[i], 1);
}

/* All but one page, which is a frame that no pin holds: so waiting for memory is not hopeless. */
static void take_memory(void)
{
	uint64_t page_bytes = cache_page_bytes(cache);

	scene.taken_bytes = budget_limit(&cache->budget) - budget_used(&cache->budget) - page_bytes;
	budget_charge(&cache->budget, BUDGET_OTHER, scene.taken_bytes);
	budget_charge(&cache->budget, BUDGET_FRAMES, page_bytes);
}

static void give_memory(void)
{
	budget_uncharge(&cache->budget, BUDGET_OTHER, scene.taken_bytes);
	budget_uncharge(&cache->budget, BUDGET_FRAMES, cache_page_bytes(cache));
	fillers_feed(cache);
}

static void ended(struct quire_op *op, void *arg)
{
	assert_int_equal(op->result, 0);
	scene.ended[scene.n_ended++] = (int)(op - scene.ops);
}

static void wants(unsigned page, unsigned flags)
{
	struct iovec at = io(scene.base + page * cache_page_bytes(cache), 1);

	quire_op_init_callback(&scene.ops[page], scene.loop, ended, NULL);
	assert_int_equal(want_submit(scene.range, &at, 1, flags, &scene.ops[page]), 0);
}

/* Until so many have ended, or nothing more has happened for a while. */
static void settle(unsigned n_ended)
{
	for (unsigned i = 0; i < 100 && scene.n_ended < n_ended; i++)
		assert_int_equal(quire_sleep_ns(1000000, NULL), 0);
}

/* Runs play in a coroutine of the scene's loop, until nothing is left to do or the loop is stopped. */
static void scene_begin(void (*play)(void *arg))
{
	file_sparse("queue", N_PAGES * cache_page_bytes(cache));
	struct quire_map *m = map_name("queue");

	scene = (struct scene){.map = m, .base = item_ptr(m, 0)};
	scene.range = range_find(cache, (uintptr_t)scene.base >> cache->page_shift);
	assert_int_equal(quire_loop_create(NULL, &scene.loop, NULL), 0);
	assert_int_equal(quire_co_spawn(scene.loop, play, NULL), 0);
	assert_int_equal(quire_loop_run(scene.loop), 0);
}

static void scene_end(void)
{
	assert_int_equal(quire_loop_destroy(scene.loop), 0);
	range_put(scene.range);
	map_end(scene.map);
}

static void on_scene(void (*play)(void *arg))
{
	scene_begin(play);
	scene_end();
}

static void play_fault_behind_the_starving(void *arg)
{
	assert_int_equal(filler_get(cache, quire_loop_self(), &scene.filler), 0);
	take_memory();
	take_buffers(0);
	wants(0, WANT_FAULT);
	wants(1, 0);
	give_buffers(0);
	settle(1);
	assert_int_equal(scene.n_ended, 1);
	assert_int_equal(scene.ended[0], 0);
	give_memory();
	settle(2);
	assert_int_equal(scene.n_ended, 2);
}

/* The memory may be of a loop whose thread is in that very fault: who waits for memory must not stand before it. */
static void a_fault_does_not_wait_for_the_memory_that_others_wait_for(void **state)
{
	on_scene(play_fault_behind_the_starving);
}

static void play_in_order(void *arg)
{
	assert_int_equal(filler_get(cache, quire_loop_self(), &scene.filler), 0);
	take_memory();
	take_buffers(1); /* one read at a time, as reads end in any order */
	for (unsigned i = 0; i < N_PAGES; i++)
		wants(i, 0);
	settle(1);
	assert_int_equal(scene.n_ended, 0);
	fillers_feed(cache); /* who looks again in vain stays where he was */
	settle(1);
	assert_int_equal(scene.n_ended, 0);
	give_memory();
	settle(N_PAGES);
	for (unsigned i = 0; i < N_PAGES; i++)
		assert_int_equal(scene.ended[i], i);
	assert_int_equal(scene.n_ended, N_PAGES);
	give_buffers(1);
}

static void those_who_wait_for_memory_get_it_in_order(void **state)
{
	on_scene(play_in_order);
}

static void makes_a_filler(void *arg)
{
	struct filler *f;

	assert_int_equal(filler_get(cache, quire_loop_self(), &f), 0);
}

static struct quire_loop *other_loop;

static void play_other_loop_ends(void *arg)
{
	makes_a_filler(NULL);
	take_memory();
	wants(0, 0);
	settle(1);
	assert_int_equal(scene.n_ended, 0);
	assert_int_equal(quire_loop_destroy(other_loop), 0);
	settle(1);
	unsigned n_ended = scene.n_ended;
	give_memory();
	settle(1);
	assert_int_equal(n_ended, 1);
}

/* Nothing else may give any back for a long time. */
static void the_buffers_of_a_loop_that_ends_are_memory(void **state)
{
	assert_int_equal(quire_loop_create(NULL, &other_loop, NULL), 0);
	assert_int_equal(quire_co_spawn(other_loop, makes_a_filler, NULL), 0);
	assert_int_equal(quire_loop_run(other_loop), 0);
	on_scene(play_other_loop_ends);
}

/* ---- a loop that nobody turns ---- */

static void asks_and_stops(void *arg)
{
	for (unsigned i = 0; i < N_PAGES; i++)
		wants(i, 0);
	quire_loop_stop(scene.loop);
}

/* The pages are brought by the very loop that this thread would not turn while it waits. */
static void nobody_blocks_for_what_his_own_loop_is_to_bring(void **state)
{
	size_t bytes = N_PAGES * cache_page_bytes(cache);

	scene_begin(asks_and_stops);
	assert_int_equal(scene.n_ended, 0);
	assert_int_equal(want(scene.map, scene.base, bytes), -EDEADLK);
	assert_int_equal(want(scene.map, scene.base + bytes - 1, 1), -EDEADLK);
	assert_int_equal(quire_loop_run(scene.loop), 0);
	assert_int_equal(scene.n_ended, N_PAGES);
	assert_int_equal(want(scene.map, scene.base, bytes), 0);
	scene_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_SERVICE(a_fault_does_not_wait_for_the_memory_that_others_wait_for),
		ON_SERVICE(those_who_wait_for_memory_get_it_in_order),
		ON_SERVICE(nobody_blocks_for_what_his_own_loop_is_to_bring),
		ON_SERVICE(the_buffers_of_a_loop_that_ends_are_memory),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
