/* ycsb_records.c - keys, values, and which record is asked for next, as YCSB has them.
 *
 * Zipfian: ranks of 10^10 items with exponent 0.99 (Gray et al., "Quickly generating billion-record synthetic databases"),
 * hashed onto the records, so that hot ones lie anywhere. Latest: ranks of the records there are, the
 * last inserted first; nothing is inserted here, so "last" stays what it is. Keys are hashed besides, so
 * neighbours in a table have nothing to do with each other.
 */
#include "ycsb.h"
#include "random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define THETA 0.99
#define SCRAMBLED_ITEMS 1e10
#define SCRAMBLED_ZETA 26.46902820178302 /* sum of i^-0.99 for i from 1 to 10^10 */
#define VALUE_WORDS (YCSB_VALUE_BYTES / sizeof(uint64_t))

static struct {
	double items, zeta, eta;
} zipf;

/* FNV-1a over the number's bytes, without the sign: as Java's YCSB computes it. */
static uint64_t fnv_hash(uint64_t number)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (unsigned i = 0; i < 8; i++, number >>= 8) {
		hash ^= number & 0xff;
		hash *= 1099511628211u;
	}
	return hash >> 63 ? -hash : hash;
}

/* ---- records ---- */

static int by_hash(const void *a, const void *b)
{
	const struct ycsb_record *one = a, *other = b;

	return (one->hash > other->hash) - (one->hash < other->hash);
}

struct ycsb_record *ycsb_sorted(uint64_t n_records)
{
	struct ycsb_record *records = calloc(n_records, sizeof(*records));

	for (uint64_t i = 0; records != NULL && i < n_records; i++)
		records[i] = (struct ycsb_record){ .hash = fnv_hash(i), .number = i };
	if (records != NULL)
		qsort(records, n_records, sizeof(*records), by_hash);
	return records;
}

void ycsb_key(uint64_t hash, char *ret_key)
{
	memcpy(ret_key, "user", 4);
	for (unsigned i = YCSB_KEY_BYTES; i-- > 4; hash /= 10)
		ret_key[i] = (char)('0' + hash % 10);
}

static uint64_t sum_words(const void *value)
{
	uint64_t sum = 0, word;

	for (size_t i = 0; i < VALUE_WORDS - 1; i++) {
		memcpy(&word, (const char *)value + i * sizeof(word), sizeof(word));
		sum += word;
	}
	return sum;
}

void ycsb_value(uint64_t number, void *ret_value)
{
	uint64_t words[VALUE_WORDS], state = (number + 1) * 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < VALUE_WORDS; i++)
		words[i] = random_next(&state);
	words[0] = number;
	words[VALUE_WORDS - 1] = sum_words(words);
	memcpy(ret_value, words, sizeof(words));
}

bool ycsb_right(uint64_t number, const void *value, size_t len_bytes)
{
	uint64_t first, last;

	if (len_bytes != YCSB_VALUE_BYTES)
		return false;
	memcpy(&first, value, sizeof(first));
	memcpy(&last, (const char *)value + YCSB_VALUE_BYTES - sizeof(last), sizeof(last));
	return first == number && last == sum_words(value);
}

/* ---- requests ---- */

void ycsb_requests_prepare(const struct ycsb *y)
{
	const double zeta_2 = 1 + pow(0.5, THETA);

	zipf.items = SCRAMBLED_ITEMS;
	zipf.zeta = SCRAMBLED_ZETA;
	if (y->requests == YCSB_LATEST) {
		zipf.items = (double)y->n_records;
		zipf.zeta = 0;
		for (uint64_t i = 1; i <= y->n_records; i++)
			zipf.zeta += pow((double)i, -THETA);
	}
	zipf.eta = (1 - pow(2 / zipf.items, 1 - THETA)) / (1 - zeta_2 / zipf.zeta);
}

static uint64_t zipf_rank(uint64_t *state)
{
	double u = (double)(random_next(state) >> 11) * 0x1p-53;
	double uz = u * zipf.zeta;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, THETA))
		return 1;
	return (uint64_t)(zipf.items * pow(zipf.eta * u - zipf.eta + 1, 1 / (1 - THETA)));
}

struct ycsb_record ycsb_request(const struct ycsb *y, uint64_t *state)
{
	uint64_t number = 0;

	if (y->requests == YCSB_UNIFORM)
		number = random_below(state, y->n_records);
	else if (y->requests == YCSB_ZIPFIAN)
		number = fnv_hash(zipf_rank(state)) % y->n_records;
	else
		number = y->n_records - 1 - zipf_rank(state) % y->n_records;
	return (struct ycsb_record){ .hash = fnv_hash(number), .number = number };
}
