/* failing.h - memory that is refused: what the library under test asks of the kernel, of malloc and of its budget, and threads. The
 * seam is the linker's (see meson.build); what tests ask for themselves by malloc is always given. Any thread. */
#ifndef TESTS_TMEM_FAILING_H
#define TESTS_TMEM_FAILING_H

#include <stdint.h>

void failing_nth(uint64_t n);      /* the nth from now on (from 1), and no other */
void failing_often(uint32_t one_in); /* each with that probability */
void failing_off(void);

uint64_t failing_n_refused(void);  /* since the first two of these calls */
int64_t failing_mapped_bytes(void); /* mapped by the library and not yet unmapped */

#endif
