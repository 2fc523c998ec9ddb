/* image.h - a persistent pool as a string of bytes, and back; where the bytes are is the caller's. */
#ifndef TMEM_IMAGE_H
#define TMEM_IMAGE_H

#include "image_format.h"

#include <quire/tmem.h>

/* Takes the next n bytes: 0, or negative errno. May suspend or block. */
typedef int (*tmem_image_append_fn)(void *arg, const void *bytes, size_t n);

/* The pool, as it is at one moment of this call. Errors as of quire_tmem_pool_save, and what append says. */
int tmem_image_write(struct quire_tmem_pool *pool, const char *name, tmem_image_append_fn append, void *arg,
                     struct quire_error *err);

#define TMEM_IMAGE_READ_ALIGN 4096u

struct tmem_image_source {
	/* n bytes from an offset on, that are there; the offset and buf are multiples of TMEM_IMAGE_READ_ALIGN; buf has room for n rounded up to
	 * it. May suspend or block. */
	int (*read)(void *arg, uint64_t offset, void *buf, size_t n);
	void *arg;
	uint64_t n_bytes; /* of the image */
};

/* Errors as of quire_tmem_pool_restore, and what read says. */
int tmem_image_read(struct quire_tmem *tmem, const struct tmem_image_source *source,
                    const struct quire_tmem_pool_options *opts, struct quire_tmem_pool **ret_pool,
                    struct quire_error *err);

/* Of the first n bytes of an image, sizeof(struct image_head_le) if it is as long. 0; -EUCLEAN, -EBADMSG, -ENOTSUP. */
int tmem_image_name(const void *head, size_t n, char ret_name[IMAGE_NAME_BYTES], struct quire_error *err);

bool tmem_image_name_is_valid(const char *name);

#endif
