/* refuse.h - memory that is refused: whatever the program asks of malloc, its relatives and mmap. The seam is the linker's: an executable that
 * has it is linked with `refusing_memory` (meson.build), and so refuses its tests, too. Any thread. */
#ifndef TESTS_SUPPORT_REFUSE_H
#define TESTS_SUPPORT_REFUSE_H

#include <stdbool.h>
#include <stdint.h>

void refuse_nth(uint64_t n); /* the nth request from now on (from 1), and no other */
bool refuse_off(void);       /* all are given again. True: one was refused since */

#endif
