/* media_env.h - files to read, in a folder of their own, and what they must hold. */
#ifndef TESTS_MEDIA_ENV_H
#define TESTS_MEDIA_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/media/media.h"

/* The folder: made for a test group, removed after it. The current directory is not changed. */
int env_setup(void **state);
int env_teardown(void **state);

/* DIR/name; the text lives until the eighth call after this. */
const char *env_path(const char *name);
size_t env_page(void);

/* The byte that belongs at offset of a file made with this seed. */
unsigned char env_byte(unsigned seed, uint64_t offset);

void env_write(const char *name, unsigned seed, uint64_t len_bytes);
void env_append(const char *name, unsigned seed, uint64_t from, uint64_t len_bytes);

/* Sets the modification time a second back: a change must not go unseen for being quick. */
void env_age(const char *name);

/* Makes all files unreachable by name, or reachable again. */
void env_hide(bool hide);

/* Page-aligned memory with room for len_bytes rounded up; free() it. */
void *env_buffer(uint64_t len_bytes);
void env_check(const void *buf, unsigned seed, uint64_t offset, uint64_t len_bytes);

struct media_pool *env_pool(unsigned max_open, bool buffered);
struct media_file *env_open(struct media_pool *pool, const char *name, unsigned flags);

/* media_read_now, and a look at each byte if it succeeds. */
int env_read_now(struct media_file *file, unsigned seed, uint64_t offset, uint32_t len_bytes);

#endif
