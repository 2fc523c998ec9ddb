/* store_values.h - the contest of random reads of 64 KiB values: what every contender does, and what it has from store_values.c.
 *
 * Value k is VALUES_BYTES of noise, with k in its first eight bytes and its complement in the last: every read is
 * checked at both ends. Contenders are programs of their own, since each links a library of its own:
 *
 *   bench-values-NAME --path P --values N fill
 *   bench-values-NAME --path P --values N --memory BYTES --seconds S --width W [--variant V] read
 *
 * A read run has two parts: the memory is filled, not counted; then reads are counted for a given time. One line of
 * JSON on stdout.
 */
#ifndef BENCH_STORE_VALUES_H
#define BENCH_STORE_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VALUES_BYTES 65536u

struct values {
	const char *path, *variant; /* borrowed; variant: a contender's own word, or "" */
	uint64_t n_values, memory_bytes;
	double seconds;
	unsigned width; /* threads, or coroutines */
	/* results */
	double measured_seconds, cpu_seconds;
	uint64_t n_reads, n_wrong;
};

/* The contender's. Return 0, or not, after one line on stderr. */
int values_fill(struct values *v);
int values_read(struct values *v);

/* ---- for contenders ---- */

int values_failed(const char *what, const char *why);

void values_content(uint64_t key, void *ret_value);

static inline bool values_right(uint64_t key, const void *value, size_t len_bytes)
{
	uint64_t first, last;

	if (len_bytes != VALUES_BYTES)
		return false;
	memcpy(&first, value, sizeof(first));
	memcpy(&last, (const char *)value + VALUES_BYTES - sizeof(last), sizeof(last));
	return first == key && last == ~key;
}

/* Counts reads; decides when counting begins and ends. Any thread. */
struct values_meter;
struct values_meter *values_meter_start(struct values *v); /* never NULL */
bool values_meter_count(struct values_meter *m, unsigned n_reads, unsigned n_wrong); /* false: enough */
void values_meter_end(struct values_meter *m); /* fills v's results */

uint64_t values_random(const struct values *v, uint64_t *state); /* a key; state: not 0 */

/* `width` threads that call read until it is enough. open gives each its own; read reads n random keys and adds what
 * is wrong. Both return 0 or not. */
struct values_reader {
	int (*open)(struct values *v, void **ret_own);
	int (*read)(void *own, const uint64_t *keys, unsigned n, unsigned *n_wrong);
	void (*close)(void *own);
	unsigned n_at_once; /* up to VALUES_MAX_AT_ONCE */
};
#define VALUES_MAX_AT_ONCE 64u
int values_by_threads(struct values *v, const struct values_reader *reader);

#endif
