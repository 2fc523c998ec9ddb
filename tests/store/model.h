/* model.h - what a store should hold: objects, who writes what, and transactions whose end is open.
 *
 * Every object's content follows from its id (env_fill), so a model is ids, lengths and states. A transaction is noted
 * before it is asked for; when power fails meanwhile, the store decides: all of it, or nothing. */
#ifndef TESTS_STORE_MODEL_H
#define TESTS_STORE_MODEL_H

#include "store_env.h"

#define MODEL_MAX_OBJECTS 4096u
#define MODEL_MAX_OPEN 8u
#define MODEL_MAX_NAMED 24u

enum model_state { MODEL_WRITING, MODEL_COMMITTED, MODEL_GONE };

struct model_object {
	uint64_t id, len_bytes;
	unsigned cls;
	enum model_state state;
	int tx; /* of an open transaction that names it, or -1 */
};

struct model_transaction {
	bool open; /* asked for, and not answered */
	uint64_t commit[MODEL_MAX_NAMED], remove[MODEL_MAX_NAMED];
	unsigned n_commit, n_remove;
};

struct model {
	struct model_object objects[MODEL_MAX_OBJECTS];
	unsigned n;
	struct model_transaction transactions[MODEL_MAX_OPEN];
	uint64_t max_id; /* ever given out */
	uint64_t n_units[STORE_N_CLASSES]; /* of the classes, at least */
	bool is_shared; /* others have objects and space in the store, too */
};

void model_init(struct model *m);
struct model_object *model_find(struct model *m, uint64_t id);
bool model_knows(struct model *m, uint64_t id);
/* Notes an object that was begun; fails the test if its id was there before. */
struct model_object *model_begun(struct model *m, uint64_t id, unsigned cls);

/* A transaction is asked for; its number. */
int model_asked(struct model *m, const uint64_t *commit, unsigned n_commit, const uint64_t *remove, unsigned n_remove);
void model_answered(struct model *m, int tx, bool done);

/* In a coroutine, after an open that followed a cut: settles what was open by what is there, and fails the test if
 * that is anything but all of a transaction or nothing. What was being written is gone. */
void model_settle(struct model *m, struct env *e);

/* In a coroutine: everything is as the model says, to the last byte of content and unit of space. `some`: reads only
 * one object in so many, 1: all. */
void model_verify(struct model *m, struct env *e, unsigned some);
/* The same of the objects alone; or until the power is gone. */
void model_verify_objects(struct model *m, struct env *e, unsigned some);

#endif
