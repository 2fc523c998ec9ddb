/* memory.c - memory that is refused. All that the library holds is charged to the budget before it is taken; so that is where it is
 * refused, by the linker's seam. */
#include "world.h"

static uint64_t random_state, n_refused;
static uint32_t one_in_so_many;

void memory_refuse(uint32_t one_in, uint64_t seed)
{
	one_in_so_many = one_in;
	random_state = seed;
}

uint64_t memory_n_refused(void)
{
	return n_refused;
}

bool __real_budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes);
bool __wrap_budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes);
bool __wrap_budget_try_charge(struct budget *b, enum budget_kind kind, uint64_t bytes)
{
	if (one_in_so_many != 0 && bytes != 0 && random_below(&random_state, one_in_so_many) == 0) {
		n_refused++;
		return false;
	}
	return __real_budget_try_charge(b, kind, bytes);
}
