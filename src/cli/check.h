/* check.h - `quire check`, and its --repair. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "json.h"
#include "store_verbs.h"

struct check_args {
	bool json, structure_only, repair, dry_run;
	uint64_t rate;
};

int check_repair(struct session *s, const struct check_args *args); /* an exit code */

#endif
