/* canary.c - which known bug is switched on; only in builds that have them (canary.h). */
#include "canary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum canary chosen;

static void __attribute__((constructor)) choose(void)
{
#define NAME(name, what) [CANARY_##name] = #name,
	static const char *const names[CANARY_N] = {CANARIES(NAME)};
#undef NAME
	const char *wanted = getenv("QUIRE_CANARY");

	if (wanted == NULL || *wanted == '\0')
		return;
	for (unsigned i = CANARY_NONE + 1; i < CANARY_N; i++)
		if (strcmp(names[i], wanted) == 0)
			chosen = (enum canary)i;
	if (chosen != CANARY_NONE)
		return;
	(void)fprintf(stderr, "QUIRE_CANARY: %s: no such canary\n", wanted);
	exit(2);
}

bool canary_is_on(enum canary canary)
{
	return chosen == canary;
}
