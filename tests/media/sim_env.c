/* sim_env.c - see sim_env.h. */
#include "sim_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned char memory[8][256 * 1024] __attribute__((aligned(DEVICE_BLOCK_BYTES)));

void *env_memory(unsigned slot)
{
	return memory[slot];
}

struct env env_make(uint64_t n_blocks, uint64_t seed, const struct sim_faults *faults)
{
	struct env e;
	struct quire_loop_options opts = {.size = sizeof(opts), .engine = QUIRE_ENGINE_THREADS, .n_threads = 1};
	assert_int_equal(quire_loop_create(&opts, &e.loop, NULL), 0);
	assert_int_equal(sim_create(n_blocks * BLOCK, seed, faults, &e.sim), 0);
	assert_int_equal(sim_open(e.sim, NULL, &e.device), 0);
	return e;
}

void env_end(struct env *e)
{
	device_close(e->device);
	sim_destroy(e->sim);
	assert_int_equal(quire_loop_run(e->loop), 0); /* orphaned lanes */
	assert_int_equal(quire_loop_destroy(e->loop), 0);
}

void env_reopen(struct env *e)
{
	device_close(e->device);
	assert_int_equal(sim_open(e->sim, NULL, &e->device), 0);
}

struct running {
	struct env *e;
	void (*fn)(struct env *e);
};

static void run_in_coroutine(void *arg)
{
	struct running *r = arg;
	r->fn(r->e);
}

void env_run(struct env *e, void (*fn)(struct env *e))
{
	struct running r = {.e = e, .fn = fn};
	assert_int_equal(quire_co_spawn(e->loop, run_in_coroutine, &r), 0);
	assert_int_equal(quire_loop_run(e->loop), 0);
}

void env_fill(void *buf, unsigned n_blocks, unsigned tag)
{
	for (unsigned i = 0; i < n_blocks * (BLOCK / SECTOR); i++) {
		unsigned char *sector = (unsigned char *)buf + i * SECTOR;
		memset(sector, (int)tag, SECTOR);
		sector[0] = 0xa5;
		sector[SECTOR - 1] = 0x5a;
	}
}

int env_tag(const void *buf, unsigned sector)
{
	static const unsigned char zeros[SECTOR];
	const unsigned char *s = (const unsigned char *)buf + sector * SECTOR;
	if (memcmp(s, zeros, SECTOR) == 0)
		return 0;
	if (s[0] != 0xa5 || s[SECTOR - 1] != 0x5a || memcmp(s + 1, s + 2, SECTOR - 3) != 0)
		return -1;
	return s[1];
}

void env_write(struct env *e, uint64_t block, unsigned n_blocks, unsigned tag, bool durable)
{
	void *buf = env_memory(7);
	env_fill(buf, n_blocks, tag);
	assert_int_equal(device_write(e->device, block * BLOCK, buf, n_blocks * (uint64_t)BLOCK, durable), 0);
}

void env_flush(struct env *e)
{
	assert_int_equal(device_flush(e->device), 0);
}

void env_tags(const struct env *e, uint64_t block, unsigned n_blocks, int *ret_tags)
{
	unsigned char buf[BLOCK];
	for (unsigned i = 0; i < n_blocks; i++) {
		sim_peek(e->sim, (block + i) * BLOCK, buf, BLOCK);
		for (unsigned j = 0; j < BLOCK / SECTOR; j++)
			ret_tags[i * (BLOCK / SECTOR) + j] = env_tag(buf, j);
	}
}

int env_one_tag(const struct env *e, uint64_t block, unsigned n_blocks)
{
	int tags[64 * (BLOCK / SECTOR)];
	assert_true(n_blocks <= 64);
	env_tags(e, block, n_blocks, tags);
	for (unsigned i = 1; i < n_blocks * (BLOCK / SECTOR); i++) {
		if (tags[i] != tags[0])
			return -2;
	}
	return tags[0];
}

static void io_done(struct device_io *io, int result)
{
	struct env_io *eio = (struct env_io *)io;
	eio->result = result;
	eio->n_done++;
}

void env_submit(struct env *e, struct env_io *io, enum device_verb verb, uint64_t block, unsigned n_blocks, void *buf)
{
	*io = (struct env_io){
		.io = {
			.verb = verb,
			.offset = block * BLOCK,
			.len_bytes = n_blocks * (uint64_t)BLOCK,
			.buf = buf,
			.buffer_slot = -1,
			.done = io_done,
		},
	};
	device_submit(e->device, e->loop, &io->io);
}
