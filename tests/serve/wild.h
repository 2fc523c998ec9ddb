/* wild.h - a client that follows no rule: what it does is read from bytes, so that a fuzzer may choose them. */
#ifndef TESTS_SERVE_WILD_H
#define TESTS_SERVE_WILD_H

#include <stddef.h>
#include <stdint.h>

/* Connects to the service at that path, and does what the bytes say until they end. */
void wild_run(const char *path, const uint8_t *bytes, size_t n);

#endif
