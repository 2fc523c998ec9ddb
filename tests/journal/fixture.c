/* fixture.c - see fixture.h. */
#include "fixture.h"

struct env e;
struct seen seen;

void fixture_make(unsigned n_extents, uint64_t seed, const struct sim_faults *faults)
{
	static const struct sim_faults none = {.cut_ends_io = true};

	env_make(&e, n_extents, seed, faults != NULL ? faults : &none);
	record_sizes(SIZES_EQUAL);
	seen_init(&seen);
}

int tear_down(void **state)
{
	(void)state;
	seen_fini(&seen);
	env_end(&e);
	return 0;
}

int end(void **state)
{
	(void)state;
	return e.loop == NULL ? 0 : quire_loop_destroy(e.loop);
}
