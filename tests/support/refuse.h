/* refuse.h - memory, descriptors, threads or space on the disk that is refused, whoever asks. The seam is the linker's: an executable that has
 * one of these is linked with `refusing_memory`, `refusing_descriptors`, `refusing_threads` or `refusing_space` (meson.build), and so refuses its tests, too. What the
 * kernel does by itself for a ring goes past it. Any thread. */
#ifndef TESTS_SUPPORT_REFUSE_H
#define TESTS_SUPPORT_REFUSE_H

#include <stdbool.h>
#include <stdint.h>

/* Of malloc, its relatives and mmap: the nth request from now on (from 1), and no other. */
void refuse_nth(uint64_t n);
bool refuse_off(void); /* all are given again. True: one was refused since */

/* The same of what makes a descriptor: EMFILE. */
void refuse_nth_descriptor(uint64_t n);
bool refuse_descriptors_off(void);

/* The same of threads: EAGAIN. */
void refuse_nth_thread(uint64_t n);
bool refuse_threads_off(void);

/* The same of writes to files at an offset, and of all that makes a file longer or its writes last: that error. lasting: the nth, and all
 * behind it. */
void refuse_nth_write(uint64_t n, int error, bool lasting);
bool refuse_writes_off(void);

#endif
