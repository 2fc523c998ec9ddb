/* memory_limit.h - how much memory the kernel grants this process: cgroup limit,
 * usage and pressure (PSI), for budgets that follow them.
 * Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst,
 * Documentation/accounting/psi.rst.
 */
#ifndef BASE_MEMORY_LIMIT_H
#define BASE_MEMORY_LIMIT_H

#include <stdint.h>

struct memory_limit {
	uint64_t limit_bytes;     /* the tightest of cgroup v2, v1, and physical memory */
	uint64_t used_bytes;      /* by that cgroup (or machine), reclaimable file pages not counted */
	double pressure_some_pct; /* PSI "some avg10" of the cgroup or the machine; 0 if unknown */
};

/* root: "" for the live system; tests pass a directory that holds proc/ and sys/.
 * Reads a handful of small files of /proc and /sys. 0: what is not to be had is left at physical memory
 * and 0; or -EMFILE, -ENFILE, -ENOMEM: something could not be looked at, and ret is as it was. */
int memory_limit_read(const char *root, struct memory_limit *ret);

/* The budget that QUIRE_BUDGET_AUTO means now, given the budget in force and the bytes
 * held under it: a share of what is free, smaller under pressure, growing again slowly;
 * never under min_bytes. Pure. */
uint64_t memory_limit_auto_budget(const struct memory_limit *m, uint64_t budget_bytes,
                                  uint64_t held_bytes, uint64_t min_bytes);

#endif
