/* model.h - what pools may hold, after any calls: the promises of quire/tmem.h as a table. */
#ifndef TESTS_TMEM_MODEL_H
#define TESTS_TMEM_MODEL_H

#include <quire/tmem.h>

#define MODEL_OBJECTS 24u
#define MODEL_INDEXES 40u /* of each object, spread over three spans */
#define MODEL_POOLS 4u
#define MODEL_LEAST_BUDGET (UINT64_C(1) << 20)

struct model_page {
	uint32_t content; /* 0: it must not be there; else: it may (ephemeral) or must (persistent) be, and be this */
};

struct model {
	struct quire_tmem *tmem;
	struct quire_tmem_pool *pools[MODEL_POOLS];
	struct quire_tmem_pool_options options[MODEL_POOLS];
	bool frozen[MODEL_POOLS];
	struct model_page pages[MODEL_POOLS][MODEL_OBJECTS][MODEL_INDEXES];
	uint64_t random, salt; /* salt: objects of another model differ */
	uint64_t n_steps;
	bool failing;          /* memory is refused now and then */
	uint64_t most_budget;  /* 0: the budget stays as it is */
	uint8_t *page;         /* room for the largest */
	bool keeps_pools;      /* none is made anew by a step */
	bool alone;            /* no other thread may help: no batches */
	bool remotes;          /* what some pools evict goes to a remote tier */
	bool spills, io_fails; /* some pools spill; a read of what they have spilled may fail */
	bool is_damaged;       /* what they have spilled may be */
};

uint64_t model_random(struct model *m, uint64_t below);

/* A model of that tmem, and its pools. */
struct model *model_create(struct quire_tmem *t, uint64_t seed);
void model_destroy(struct model *m); /* and its pools. */

/* The pools are made anew by random options. */
void model_make_pool(struct model *m, unsigned pool);

/* One random call, or a batch, and what it must have done. Fails the cmocka test otherwise. */
void model_step(struct model *m);

/* Every page is as it should be. */
void model_compare(struct model *m);

/* Four threads, each with n_steps of a model and pools of its own, which it is compared with when all are done. like: what they are like, and
 * the first one's seed. */
void model_run_threads(const struct model *like, unsigned n_steps);

/* A content's bytes: compressible more or less, or of one word; some are equal in many pools. */
void model_fill(uint32_t content, uint8_t *page, uint32_t n_bytes);

#endif
