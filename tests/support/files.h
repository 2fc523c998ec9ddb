/* files.h - files to map, in a folder of the test's own, and what they must hold. */
#ifndef TESTS_SUPPORT_FILES_H
#define TESTS_SUPPORT_FILES_H

#include "sanitized.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

/* The folder: made for a test group below $TMPDIR or /tmp, removed after it. */
int files_setup(void **state);
int files_teardown(void **state);

/* DIR/name; the text lives until the 64th call after this, of this thread. */
const char *file_path(const char *name);

/* The system's page size, and a length of n pages. */
size_t page_size(void);
static inline size_t pages(size_t n)
{
	return n * page_size();
}

/* The byte that belongs at offset of a file made with this seed. */
unsigned char file_byte(unsigned seed, uint64_t offset);

void file_write(const char *name, unsigned seed, uint64_t len_bytes);
void file_append(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes);
void file_truncate(const char *name, uint64_t len_bytes);
void file_rewrite_in_place(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes);

/* An empty file of that length, with the pattern only where file_append puts it. */
void file_sparse(const char *name, uint64_t len_bytes);

int file_fd(const char *name); /* O_RDONLY */

/* Sets the times a second back: a change must not go unseen for being quick. */
void file_age(const char *name);

/* Is [p, p + len_bytes) what a file of the seed holds at offset? */
bool bytes_are(const void *p, unsigned seed, uint64_t offset, uint64_t len_bytes);
bool bytes_are_zero(const void *p, uint64_t len_bytes);
#define assert_bytes(p, seed, offset, len) assert_true(bytes_are(p, seed, offset, len))

#endif
