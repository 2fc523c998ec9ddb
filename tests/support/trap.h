/* trap.h - touches that may end in SIGBUS. */
#ifndef TESTS_SUPPORT_TRAP_H
#define TESTS_SUPPORT_TRAP_H

#include <stdbool.h>

/* Installs the handler that the two below need: before the first cache, so that the library's
 * own handler chains to it. */
void trap_install(void);

/* Loads the byte at p; true if that was SIGBUS. */
bool load_traps(const void *p);

/* SIGBUSes that load_traps has seen, of the process. */
unsigned trap_count(void);

#endif
