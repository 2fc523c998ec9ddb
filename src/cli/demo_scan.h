/* demo_scan.h - the largest readable files of a directory tree. */
#ifndef CLI_DEMO_SCAN_H
#define CLI_DEMO_SCAN_H

#include "demo_corpus.h"

/* Fills files, first_page, n_files, n_unreadable, bytes of a zeroed corpus. The last file may
 * be used in part. Symbolic links are not followed, other file systems not entered. Returns an
 * exit code; what went wrong was printed. */
int demo_scan(const char *dir, uint64_t max_bytes, struct demo_corpus *c);

#endif
