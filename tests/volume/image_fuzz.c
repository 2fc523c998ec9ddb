/* image_fuzz.c - whatever a medium with volumes may be: changed where it says what there is, opened, and used.
 *
 * Two media are made first, of the same volumes, snapshots and clones: one that was closed, one whose process ended between two checkpoints. An
 * input's first byte says which (bit 0); then follow changes of 8 bytes each:
 *   0  2  a block: one that has a meaning (superblocks, catalogue, heads of records, pages of trees, checkpoints, footers, properties)
 *   2  2  an offset in it
 *   4  1  how: see change_block
 *   5  3  a number
 * In this program every checksum is the same number, so a change is always right by it, and gets as far as what looks at meanings.
 *
 * What is open is then read, compared, scrubbed, written, frozen, cloned, removed, checked, closed and opened again. Each call may fail, but none may
 * crash, hang, or trip an assertion; and who can't open it is told why.
 *
 * As a program of its own it is run as fuzz.h says; built with -DLIBFUZZER it is libFuzzer's target: see docs/testing.md. With `make` behind
 * the directory it writes the inputs to begin with there, one for each block.
 */
#include "volume_env.h"

#include "../../src/base/assert.h"
#include "../../src/base/crc32c.h"
#include "../support/fuzz.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNITS 1024u       /* 4 MiB */
#define MOST_CHANGES 64u
#define CHANGE_BYTES 8u
#define MOST_VOLUMES 16u  /* that are used: a medium may say that there are many */
#define ALIKE 0x600d600du /* every checksum */

uint32_t __wrap_crc32c(uint32_t crc, const void *data, size_t len_bytes);

uint32_t __wrap_crc32c(uint32_t crc, const void *data, size_t len_bytes)
{
	(void)crc;
	(void)data;
	(void)len_bytes;
	return ALIKE;
}

uint32_t __wrap_crc32c_page(uint32_t crc, const void *page, const void *ahead);

uint32_t __wrap_crc32c_page(uint32_t crc, const void *page, const void *ahead)
{
	(void)crc;
	(void)page;
	(void)ahead;
	return ALIKE;
}

uint32_t __wrap_crc32c_join_page(uint32_t crc, uint32_t page_crc);

uint32_t __wrap_crc32c_join_page(uint32_t crc, uint32_t page_crc)
{
	(void)crc;
	(void)page_crc;
	return ALIKE;
}

struct image {
	struct sim *sim;
	uint32_t blocks[UNITS]; /* that mean something */
	unsigned n_blocks;
};

struct world {
	struct env e;
	struct image images[2];
	const uint8_t *data;
	size_t n_bytes;
};

/* ---- media ---- */

static void write_some(struct env *e, const char *name, uint64_t from, unsigned n, uint64_t what)
{
	struct quire_volume *v = open_volume(e, name);

	for (unsigned i = 0; i < n; i++)
		quire_assert(put(v, (from + 3 * i) * BLOCK, BLOCK, what + i, 0) == 0);
	quire_assert(quire_volume_zero(v, 40 * BLOCK, BLOCK, QUIRE_VOLUME_NO_HOLE, NULL) == 0);
	quire_assert(quire_volume_discard(v, 3 * BLOCK, BLOCK, 0, NULL) == 0);
	quire_assert(quire_volume_flush(v, NULL) == 0);
	quire_volume_close(v);
}

static int64_t give_nothing(void *arg, void *bytes, size_t len_bytes)
{
	(void)arg;
	(void)bytes;
	(void)len_bytes;
	return 0;
}

static void make_images(struct env *e, void *arg)
{
	struct world *w = arg;
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 64 * BLOCK}, reserved = o;

	reserved.reserve = true;
	quire_assert(env_format(e) == 0 && env_open(e) == 0);
	quire_assert(quire_volume_create(e->volumes, "a", &o) == 0 && quire_volume_create(e->volumes, "r", &reserved) == 0);
	write_some(e, "a", 0, 12, 1);
	quire_assert(quire_volume_snapshot(e->volumes, "a", "a@1") == 0);
	write_some(e, "a", 1, 12, 100);
	quire_assert(quire_volume_clone(e->volumes, "a@1", "c") == 0);
	quire_assert(quire_volumes_checkpoint(e->volumes) == 0);
	write_some(e, "c", 2, 12, 200);
	quire_assert(quire_volume_snapshot(e->volumes, "a", "a@2") == 0);
	quire_assert(quire_volume_rollback(e->volumes, "a", "a@1") == 0);
	write_some(e, "r", 5, 3, 300);
	quire_assert(quire_volume_receive(e->volumes, "new", NULL, give_nothing, NULL, NULL) == -EPIPE);
	quire_assert(sim_clone(e->sim, 2, &w->images[1].sim) == 0);
	quire_assert(env_close(e) == 0);
	quire_assert(sim_clone(e->sim, 3, &w->images[0].sim) == 0);
}

/* Does it say what there is? What of it is data does not matter. */
static bool means_something(const uint8_t *block)
{
	static const struct {
		unsigned at;
		const char *text;
	} marks[] = {{0, "Quire"}, {4, "QvmN"}};
	uint32_t crc;
	bool any = false;

	for (unsigned i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		any |= memcmp(block + marks[i].at, marks[i].text, strlen(marks[i].text)) == 0;
	/* A header of a record, of a segment: somewhere in it is a checksum; data are none, by what is written here. */
	for (unsigned at = 0; !any && at + sizeof(crc) <= 64; at += sizeof(crc)) {
		memcpy(&crc, block + at, sizeof(crc));
		any = crc == htole32(ALIKE);
	}
	return any;
}

static void find_blocks(struct image *image)
{
	uint8_t block[BLOCK];

	for (uint32_t unit = 0; unit < UNITS; unit++) {
		sim_peek(image->sim, (uint64_t)unit * BLOCK, block, BLOCK);
		if (means_something(block))
			image->blocks[image->n_blocks++] = unit;
	}
	quire_assert(image->n_blocks > 20);
}

static void begin_world(struct world *w)
{
	static const struct sim_faults faults = {.cut_ends_io = true};

	env_init(&w->e, 1, UNITS, &faults);
	env_run(&w->e, make_images, w);
	for (unsigned i = 0; i < 2; i++)
		find_blocks(&w->images[i]);
	sim_destroy(w->e.sim);
	w->e.sim = NULL;
}

/* ---- changes ---- */

static const uint64_t odd[] = {0, 1, 2, 3, 4, 7, 16, 17, 18, 31, 63, 64, 65, 255, 4095, 4096, 65535, 65536, 1u << 20, INT32_MAX, UINT32_MAX,
                               UINT64_C(1) << 34, (UINT64_C(1) << 34) + 1, UINT64_C(1) << 46, INT64_MAX, UINT64_MAX, UINT64_MAX - 4095};

static void change_block(struct world *w, struct image *image, struct sim *sim, const uint8_t change[CHANGE_BYTES])
{
	uint8_t block[BLOCK], other[BLOCK];
	unsigned k = (change[0] | (unsigned)change[1] << 8) % image->n_blocks, at = (change[2] | (unsigned)change[3] << 8) % BLOCK;
	unsigned number = change[5] | (unsigned)change[6] << 8;
	uint64_t place = (uint64_t)image->blocks[k] * BLOCK, word;

	(void)w;
	sim_peek(sim, place, block, BLOCK);
	sim_peek(sim, (uint64_t)image->blocks[number % image->n_blocks] * BLOCK, other, BLOCK);
	memcpy(&word, block + (at & ~7u), sizeof(word));
	switch (change[4] % 8) {
	case 0:
		block[at] ^= change[7] != 0 ? change[7] : 1;
		break;
	case 1:
		block[at] = change[7];
		break;
	case 2: /* 8 bytes, 4, 2: an odd number */
	case 3:
	case 4:
		word = htole64(odd[number % (sizeof(odd) / sizeof(odd[0]))]);
		memcpy(block + (at & ~7u), &word, 16u >> (change[4] % 8 - 1));
		break;
	case 5: /* a little more, or less */
		word = htole64(le64toh(word) + (uint64_t)(int64_t)(int8_t)change[7]);
		memcpy(block + (at & ~7u), &word, sizeof(word));
		break;
	case 6: /* another block, from there on */
		memcpy(block + at, other + at, BLOCK - at);
		break;
	default: /* nothing, from there on */
		memset(block + at, 0, BLOCK - at);
	}
	sim_poke(sim, place, block, BLOCK);
}

/* ---- use ---- */

static void look_at(struct env *e, struct quire_volume *v, uint64_t bytes)
{
	struct quire_volume_extent x[8];
	struct quire_volume_scrub scrub = {.size = sizeof(scrub), .len_bytes = bytes < (1u << 20) ? bytes : 1u << 20};
	static uint8_t block[BLOCK];
	struct iovec iov = {block, BLOCK};

	(void)e;
	int64_t n = quire_volume_status(v, 0, bytes, 0, x, 8, NULL);
	for (int64_t i = 0; i < n; i++)
		(void)quire_volume_read(v, x[i].offset, &iov, 1, NULL);
	(void)quire_volume_scrub(v, &scrub);
	(void)quire_volume_write(v, 0, &iov, 1, 0, NULL);
	(void)quire_volume_write(v, bytes - BLOCK, &iov, 1, QUIRE_VOLUME_FUA, NULL);
	iov.iov_len = 512; /* a part of a block, of which the rest is read */
	for (int64_t i = 0; i < n; i++)
		(void)quire_volume_write(v, x[i].offset + 512, &iov, 1, 0, NULL);
	(void)quire_volume_zero(v, bytes / 2 & ~(uint64_t)(BLOCK - 1), BLOCK, 0, NULL);
	(void)quire_volume_flush(v, NULL);
}

static void compare(struct quire_volume *from, struct quire_volume *to)
{
	struct quire_volume_extent x[8];
	struct quire_volume_diff *diff;

	if (quire_volume_diff_begin(from, to, 0, &diff) < 0)
		return;
	for (unsigned i = 0; i < 8 && quire_volume_diff_next(diff, x, 8) > 0; i++)
		;
	quire_volume_diff_end(diff);
}

static void use_one(struct env *e, const struct quire_volume_info *info, struct quire_volume *before)
{
	struct quire_volume_base base;
	struct quire_volume_stat stat;
	struct quire_volume *v;
	struct quire_error err;
	char token[QUIRE_VOLUME_TOKEN_BYTES];

	(void)quire_volume_stat(e->volumes, info->name, &stat);
	(void)quire_volume_base(e->volumes, info->name, &base, &err);
	(void)quire_volume_receive_token(e->volumes, info->name + (info->name[0] == '.'), token);
	if (quire_volume_open(e->volumes, info->name, &v) < 0)
		return;
	if (info->size_bytes > 0)
		look_at(e, v, info->size_bytes);
	compare(before, v);
	compare(v, before);
	quire_volume_close(v);
}

static void change_one(struct env *e, const struct quire_volume_info *info, unsigned k)
{
	char name[QUIRE_VOLUME_NAME_MAX + 1], snapshot[2 * QUIRE_VOLUME_NAME_MAX + 8];

	(void)snprintf(name, sizeof(name), "new-%u", k);
	(void)snprintf(snapshot, sizeof(snapshot), "%.*s@n%u", QUIRE_VOLUME_NAME_MAX, info->name, k);
	(void)quire_volume_clone(e->volumes, info->name, name);
	(void)quire_volume_snapshot(e->volumes, info->name, snapshot);
	(void)quire_volume_promote(e->volumes, info->name);
	(void)quire_volume_rollback(e->volumes, info->name, snapshot);
	(void)quire_volume_resize(e->volumes, info->name, 32 * BLOCK);
	(void)quire_volume_reserve(e->volumes, info->name, k % 2 == 0);
	if (k % 2 == 0)
		(void)quire_volume_rm(e->volumes, snapshot);
	if (k % 3 == 0)
		(void)quire_volume_rm(e->volumes, info->name);
}

static void use_all(struct env *e)
{
	struct quire_volume_info info = {.id = 0};
	struct quire_volumes_stat stat;
	struct quire_volume *first = NULL;
	uint32_t last = 0;
	unsigned n = 0;

	while (n < MOST_VOLUMES && quire_volume_ls(e->volumes, info.id, &info) == 1) {
		if (first == NULL && quire_volume_open(e->volumes, info.name, &first) < 0)
			first = NULL;
		if (first != NULL)
			use_one(e, &info, first);
		last = info.id;
		n++;
	}
	quire_volume_close(first);
	info.id = 0;
	for (unsigned k = 0; k < n && quire_volume_ls(e->volumes, info.id, &info) == 1 && info.id <= last; k++)
		change_one(e, &info, k);
	(void)quire_volumes_stat(e->volumes, &stat);
	(void)quire_volumes_checkpoint(e->volumes);
	(void)env_check(e, false);
}

static void try(struct env *e, void *arg)
{
	struct world *w = arg;

	(void)w;
	for (unsigned i = 0; i < 2; i++) {
		if (env_open(e) < 0) {
			quire_assert(e->err.text[0] != '\0');
			return;
		}
		use_all(e);
		(void)env_close(e);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct world w;

	if (n_bytes < 1 + CHANGE_BYTES || n_bytes > 1 + CHANGE_BYTES * MOST_CHANGES)
		return 0;
	if (w.images[0].sim == NULL)
		begin_world(&w);
	struct image *image = &w.images[data[0] & 1];
	quire_assert(sim_clone(image->sim, 1, &w.e.sim) == 0);
	for (size_t at = 1; at + CHANGE_BYTES <= n_bytes; at += CHANGE_BYTES)
		change_block(&w, image, w.e.sim, data + at);
	w.e.seed = 1;
	env_run(&w.e, try, &w);
	sim_destroy(w.e.sim);
	w.e.sim = NULL;
	return 0;
}

/* ---- as a program of its own ---- */

#ifndef LIBFUZZER

static void change_once(struct fuzz_input *in, const struct fuzz_input *other, uint64_t *seed)
{
	size_t n = (in->n_bytes - 1) / CHANGE_BYTES, at = 1 + random_next(seed) % (n > 0 ? n : 1) * CHANGE_BYTES;
	size_t from = 1 + random_next(seed) % ((other->n_bytes - 1) / CHANGE_BYTES + 1) * CHANGE_BYTES;

	switch (random_next(seed) % 4) {
	case 0: /* one more: another's, or any */
		if (n < MOST_CHANGES && from + CHANGE_BYTES <= other->n_bytes) {
			memmove(in->bytes + 1 + n * CHANGE_BYTES, other->bytes + from, CHANGE_BYTES);
			in->n_bytes = 1 + (n + 1) * CHANGE_BYTES;
		}
		break;
	case 1:
		in->bytes[0] = (uint8_t)random_next(seed);
		break;
	default:
		if (at + CHANGE_BYTES <= in->n_bytes)
			in->bytes[at + random_next(seed) % CHANGE_BYTES] = (uint8_t)random_next(seed);
	}
}

/* The inputs to begin with: a byte, an odd number, and nothing at each of some places, eight changes an input. */
static void make_inputs(const char *directory)
{
	uint64_t seed = 1;

	for (unsigned i = 0; i < 32; i++) {
		char path[4096];
		(void)snprintf(path, sizeof(path), "%s/begin-%02u", directory, i);
		FILE *f = fopen(path, "we");
		quire_assert(f != NULL && fputc((int)(i % 2), f) >= 0);
		for (unsigned k = 0; k < (i / 8 + 1) * CHANGE_BYTES; k++)
			quire_assert(fputc(k % CHANGE_BYTES == 3 ? 0 : (int)(random_next(&seed) & 255), f) >= 0);
		quire_assert(fclose(f) == 0);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		(void)fprintf(stderr, "usage: %s DIRECTORY [make]\n", argv[0]);
	if (argc < 3)
		return argc > 1 ? fuzz_play(argv[1], change_once) : 2;
	make_inputs(argv[1]);
	return 0;
}

#endif
