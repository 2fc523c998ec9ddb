/* sim_shown.c - see sim_shown.h. */
#include "sim_shown.h"

#include "../base/assert.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct sim_shown *make(uint64_t n_blocks)
{
	struct sim_shown *shown = calloc(1, sizeof(*shown) + n_blocks);

	quire_assert(shown != NULL);
	shown->n_blocks = n_blocks;
	shown->bytes = mmap(NULL, n_blocks * SIM_BLOCK_BYTES, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	quire_assert(shown->bytes != MAP_FAILED);
	return shown;
}

static void show(const struct sim_medium *m, uint64_t block)
{
	memcpy(m->shown->bytes + block * SIM_BLOCK_BYTES, medium_bytes_of(sim_map_get(&m->view, block)), SIM_BLOCK_BYTES);
}

const void *shown_get(struct sim_medium *m, uint64_t offset, uint64_t len_bytes)
{
	if (m->shown == NULL)
		m->shown = make(m->n_blocks);
	struct sim_shown *shown = m->shown;
	if (offset + len_bytes > shown->n_blocks * SIM_BLOCK_BYTES)
		return NULL;
	for (uint64_t at = offset / SIM_BLOCK_BYTES; at * SIM_BLOCK_BYTES < offset + len_bytes; at++) {
		if (shown->is_shown[at])
			continue;
		show(m, at);
		shown->is_shown[at] = 1;
	}
	return shown->bytes + offset;
}

void shown_update(struct sim_medium *m, uint64_t block)
{
	if (m->shown != NULL && block < m->shown->n_blocks && m->shown->is_shown[block])
		show(m, block);
}

void shown_end(struct sim_medium *m)
{
	if (m->shown == NULL)
		return;
	munmap(m->shown->bytes, m->shown->n_blocks * SIM_BLOCK_BYTES);
	free(m->shown);
	m->shown = NULL;
}
