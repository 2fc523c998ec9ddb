/* base.h - what volumes lie over: a file or a blob, mapped once for all volumes of the group that do. For src/volume alone. */
#ifndef VOLUME_BASE_H
#define VOLUME_BASE_H

#include "property.h"

#include <quire/error.h>

struct volume_base;

/* Describes a file or a blob (path NULL) as it is now; shown_bytes is for the caller. May block. -ENAMETOOLONG; -ESTALE: no such blob; of the
 * file, what opening it gives. */
int volume_base_describe(struct quire_volumes *g, const char *path, uint64_t blob, struct base_le *ret);

/* That of a tree; used until put. *ret_shown_bytes: of it that show. -ESTALE: it has changed; -EUCLEAN. May wait; without the lock. */
int volume_base_get(struct quire_volumes *g, uint32_t tree, struct volume_base **ret, uint64_t *ret_shown_bytes,
                    struct quire_error *err);
void volume_base_put(struct quire_volumes *g, struct volume_base *b); /* never waits; NULL allowed */
void volume_bases_free(struct quire_volumes *g); /* none is used */

/* Bytes of it, where they lie until they are released: not more than asked for; behind the base's end there are zeros. May wait. -ESTALE: it has
 * changed; -ENOMEM; the cache's errors. */
struct base_part {
	const uint8_t *bytes;
	uint64_t len_bytes;
};
int volume_base_hold(struct volume_base *b, uint64_t offset, uint64_t len_bytes, struct base_part *ret);
void volume_base_release(struct volume_base *b, const struct base_part *part);

#endif
