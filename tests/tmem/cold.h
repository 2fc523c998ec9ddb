/* cold.h - pools whose pages go cold: pages that compress, put, got and looked at. */
#ifndef TESTS_TMEM_COLD_H
#define TESTS_TMEM_COLD_H

#include "../../src/tmem/tmem_internal.h"

#define MIB (UINT64_C(1) << 20)
#define BOTH (QUIRE_TMEM_RECOMPRESS | QUIRE_TMEM_COLD)

struct quire_tmem *cold_make(uint64_t budget_bytes);
struct quire_tmem_pool *cold_make_pool(struct quire_tmem *t, enum quire_tmem_kind kind, uint32_t flags);

/* 4 KiB of text of a kind: words of a vocabulary, much of which neighbours have in common, in another order on each page. */
void cold_fill(uint32_t number, uint8_t *page);
struct quire_tmem_key cold_key(uint32_t index);

int cold_put(struct quire_tmem_pool *pool, uint32_t index, uint32_t number);
/* 1: the page is that; or what get says. */
int cold_get(struct quire_tmem_pool *pool, uint32_t index, uint32_t number, enum quire_tmem_get how);
/* Pages [0, n), each of its own number. */
void cold_put_all(struct quire_tmem_pool *pool, uint32_t n);
void cold_get_all(struct quire_tmem_pool *pool, uint32_t n);

void cold_rounds(struct quire_tmem *t, unsigned n); /* of recompression */
/* Looks whether it adds up. */
struct quire_tmem_stat cold_stat(struct quire_tmem *t);
/* Of the slot where the page's content lies. */
struct slot_head *cold_head(struct quire_tmem_pool *pool, uint32_t index);

#endif
