/* image.h - an image that was good, with edits that an input describes.
 *
 * An input is 1 byte that the harness reads, then edits of FUZZ_EDIT_BYTES each. So an input is short, whatever the image, most of
 * the image stays good, and a corpus outlives a change of what the image holds.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_BLOCK_BYTES 4096u
#define FUZZ_EDIT_BYTES 14u
#define FUZZ_MOST_EDITS 24u

struct fuzz_image {
	uint8_t *good, *bytes; /* owned: as it was, and as it is being changed; n_blocks of FUZZ_BLOCK_BYTES, zeros at the end */
	uint32_t n_blocks;
	uint32_t *used;        /* owned: the blocks that are not zeros; edits are to these */
	uint32_t n_used;
};

/* Copies the n_bytes, and not the zeros at their end. */
void fuzz_image_init(struct fuzz_image *image, const void *good, size_t n_bytes);
void fuzz_image_fini(struct fuzz_image *image);

/* Makes it good, then edits it as the input says. */
void fuzz_image_edit(struct fuzz_image *image, const uint8_t *data, size_t n_bytes);

#endif
