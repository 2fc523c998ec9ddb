/* clock.h - a clock that is the test's own. The seam is the linker's: link with -Wl,--wrap=clock_gettime.
 *
 * CLOCK_REALTIME stands still where it was set last. CLOCK_MONOTONIC is the system's until clock_virtual() is called; from then on it
 * moves by clock_pass() alone. */
#ifndef TESTS_SUPPORT_CLOCK_H
#define TESTS_SUPPORT_CLOCK_H

#include <stdint.h>

void clock_set_real(uint64_t time_ns);
uint64_t clock_real(void);

void clock_virtual(void);
void clock_pass(uint64_t ns);

#endif
