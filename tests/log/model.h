/* model.h - what a log should hold, for tests that cut the power: which records were taken in, which were promised.
 *
 * A record's bytes follow from its number and the salt of who appended it: each opening of the log has a salt of its own. So
 * one that an earlier opening lost, and that comes back in the place of a later one's, is found out. */
#ifndef TESTS_LOG_MODEL_H
#define TESTS_LOG_MODEL_H

#include "log_env.h"

#define MODEL_MAX 20000u

struct model {
	uint64_t salts[MODEL_MAX];
	uint64_t n;         /* taken in, or perhaps: an append is under way */
	uint64_t n_durable; /* promised */
	uint64_t first, first_asked; /* trimmed for sure; perhaps */
	uint64_t salt;      /* of this opening */
	uint64_t n_lost, n_reopened, n_cuts;
};

void model_init(struct model *m, uint64_t salt);

/* One record, noted before it is asked for; durable: with its promise. 0 or the error. */
int model_append(struct model *m, struct env *e, bool durable);
int model_batch(struct model *m, struct env *e, unsigned n); /* not durable */
int model_sync(struct model *m, struct env *e);              /* all */
int model_trim(struct model *m, struct env *e, uint64_t lsn);

/* After an open: what is there is what was promised, and of the rest a beginning; it becomes the model. */
void model_settle(struct model *m, struct env *e);
/* Every record, forward and backward; and some at random. */
void model_verify(struct model *m, struct env *e);

#endif
