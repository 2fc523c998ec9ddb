/* ghost.c - fingerprints of pages that left. */
#include "ghost.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUCKET_WORDS 16u
#define EPOCHS_OF_ALL 32u
#define EPOCHS_MAX 128u /* known at once; as many have passed when a number comes again */
#define EPOCH_BITS 8
#define EPOCH_MASK (GHOST_EPOCHS - 1)

/* splitmix64's finaliser: page numbers are anything but random. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Never 0, so that a word of 0 is an empty one. */
static uint32_t fingerprint_of(uint64_t hash)
{
	uint32_t low = (uint32_t)hash >> EPOCH_BITS;
	return low == 0 ? 1 : low;
}

static uint32_t *bucket_of(const struct ghost *ghost, uint64_t hash)
{
	size_t index = (size_t)((hash >> 32) * (uint64_t)ghost->n_buckets >> 32);
	return ghost->words + index * BUCKET_WORDS;
}

/* In epochs. */
static unsigned age_of(const struct ghost *ghost, uint32_t word)
{
	return (uint8_t)(ghost->newest - word);
}

static unsigned oldest_age(const struct ghost *ghost)
{
	return (uint8_t)(ghost->newest - ghost->oldest);
}

/* That a word outlives 256 epochs is next to impossible, but then it must not be counted off. */
static bool is_live(const struct ghost *ghost, uint32_t word)
{
	return word != 0 && age_of(ghost, word) <= oldest_age(ghost) && ghost->n_live_of[(uint8_t)word] > 0;
}

/* Loops without a branch, which compilers turn into a few vector instructions: a branch for
 * each word cost five times as much. */
static uint32_t *find(const struct ghost *ghost, uint32_t *bucket, uint32_t fingerprint)
{
	unsigned found = 0;
	for (unsigned i = 0; i < BUCKET_WORDS; i++)
		found |= (unsigned)(bucket[i] >> EPOCH_BITS == fingerprint) << i;
	for (; found != 0; found &= found - 1)
		if (is_live(ghost, bucket[__builtin_ctz(found)]))
			return &bucket[__builtin_ctz(found)];
	return NULL;
}

/* What was forgotten is replaced before what is empty: else it would stay where much is taken, until
 * its epoch's number comes again. What is known goes last, the oldest of it first. */
static uint32_t *least_worthy(const struct ghost *ghost, uint32_t *bucket)
{
	uint32_t width = oldest_age(ghost), newest = ghost->newest, best = 0;
	for (uint32_t i = 0; i < BUCKET_WORDS; i++) {
		uint32_t rank = bucket[i] == 0 ? 2 * width + 1 : 2 * ((newest - bucket[i]) & EPOCH_MASK);
		uint32_t key = rank * BUCKET_WORDS + i;
		best = key > best ? key : best;
	}
	return &bucket[best % BUCKET_WORDS];
}

static void empty(struct ghost *ghost, uint32_t *word)
{
	if (is_live(ghost, *word)) {
		ghost->n_live_of[(uint8_t)*word]--;
		ghost->n_live--;
	}
	*word = 0;
}

static void end_oldest_epoch(struct ghost *ghost)
{
	ghost->n_live -= ghost->n_live_of[ghost->oldest];
	ghost->n_live_of[ghost->oldest++] = 0;
}

static void begin_epoch(struct ghost *ghost)
{
	ghost->newest++;
	ghost->n_added = 0;
	if (oldest_age(ghost) == EPOCHS_MAX)
		end_oldest_epoch(ghost);
}

static void forget_surplus(struct ghost *ghost)
{
	while (ghost->oldest != ghost->newest && ghost->n_live - ghost->n_live_of[ghost->oldest] >= ghost->n_pages)
		end_oldest_epoch(ghost);
}

size_t ghost_bytes(const struct ghost *ghost)
{
	return ghost->bytes;
}

void ghost_fini(struct ghost *ghost)
{
	if (ghost->words != NULL)
		munmap(ghost->words, ghost->bytes);
	*ghost = (struct ghost){0};
}

void ghost_resize(struct ghost *ghost, size_t n_pages)
{
	size_t n = (n_pages + n_pages / 2 + BUCKET_WORDS - 1) / BUCKET_WORDS;
	if (n > UINT32_MAX)
		n = UINT32_MAX;
	if (n > ghost->n_buckets + ghost->n_buckets / 4 || n < ghost->n_buckets / 2) {
		ghost_fini(ghost);
		if (n == 0)
			return;
		size_t page = (size_t)sysconf(_SC_PAGESIZE);
		size_t bytes = (n * BUCKET_WORDS * sizeof(uint32_t) + page - 1) / page * page;
		void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (map == MAP_FAILED)
			return;
		ghost->words = map;
		ghost->bytes = bytes;
		ghost->n_buckets = n;
	}
	ghost->n_pages = n_pages;
	forget_surplus(ghost);
}

void ghost_add(struct ghost *ghost, uint64_t page)
{
	if (ghost->n_pages == 0)
		return;
	uint64_t hash = mix(page);
	uint32_t *bucket = bucket_of(ghost, hash);
	uint32_t *word = find(ghost, bucket, fingerprint_of(hash));
	if (word == NULL)
		word = least_worthy(ghost, bucket);
	empty(ghost, word);

	if (ghost->n_added > ghost->n_pages / EPOCHS_OF_ALL)
		begin_epoch(ghost);
	*word = fingerprint_of(hash) << EPOCH_BITS | ghost->newest;
	ghost->n_live_of[ghost->newest]++;
	ghost->n_added++;
	ghost->n_live++;
	forget_surplus(ghost);
}

/* NULL: the page is not remembered. */
static uint32_t *word_of(struct ghost *ghost, uint64_t page)
{
	uint64_t hash = mix(page);

	return ghost->n_pages == 0 ? NULL : find(ghost, bucket_of(ghost, hash), fingerprint_of(hash));
}

bool ghost_take(struct ghost *ghost, uint64_t page)
{
	uint32_t *word = word_of(ghost, page);

	if (word == NULL)
		return false;
	empty(ghost, word);
	return true;
}

bool ghost_take_ranked(struct ghost *ghost, uint64_t page, size_t *ret_rank)
{
	uint32_t *word = word_of(ghost, page);

	if (word == NULL)
		return false;
	uint8_t epoch = (uint8_t)*word;
	size_t rank = ghost->n_live_of[epoch] / 2;
	while (epoch++ != ghost->newest)
		rank += ghost->n_live_of[epoch];
	empty(ghost, word);
	*ret_rank = rank;
	return true;
}

bool ghost_check(const struct ghost *ghost)
{
	size_t n = 0;
	for (unsigned age = 0; age < GHOST_EPOCHS; age++) {
		unsigned n_live = ghost->n_live_of[(uint8_t)(ghost->newest - age)];
		if (n_live > 0 && age > (uint8_t)(ghost->newest - ghost->oldest))
			return false;
		n += n_live;
	}
	return n == ghost->n_live && (ghost->n_buckets == 0) == (ghost->words == NULL) &&
	       (ghost->oldest == ghost->newest || n - ghost->n_live_of[ghost->oldest] < ghost->n_pages);
}
