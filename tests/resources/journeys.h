/* journeys.h - what is done while something is short, and what must be so afterwards.
 *
 * A journey is one face's part of a store's life. Each time a new store is prepared with all there is; then it is opened, used and closed
 * while a shortage refuses something; then it is opened again with all there is, judged and checked. So: the call that failed says one of
 * the errors that the shortage may give; what was answered before is there; what was not is as before or as it would have been; nothing
 * is left open or under way (the close is not -EBUSY), charged or allocated (the sanitizer's leak check); and all goes on.
 */
#ifndef TESTS_RESOURCES_JOURNEYS_H
#define TESTS_RESOURCES_JOURNEYS_H

#include <stdbool.h>
#include <stdint.h>

struct journey {
	const char *name;
	void (*prepare)(void); /* with the store open */
	int (*go)(void);       /* likewise; the first error */
	void (*judge)(void);   /* likewise */
};

extern const struct journey journey_blobs, journey_new_log, journey_log, journey_volumes;
extern const struct journey journey_maps, journey_pools;
extern const struct journey journey_containers, journey_checks;

struct shortage {
	const char *name;
	void (*begin)(uint64_t n);
	bool (*end)(void);   /* false: nothing was refused, and so nothing would be with a larger n */
	unsigned step_quick; /* from an n to the next; with QUIRE_TEST_LONG 1 */
	const int *errors;   /* that it may give; 0 behind them */
	bool anew;           /* the cache, too, is opened meanwhile; and who failed goes on afterwards */
};

/* Each n that makes a difference. Quick, some of them, from QUIRE_TEST_SEED on. */
void journey_run(const struct journey *j, const struct shortage *s);

/* Once, with nothing refused: all succeeds. */
void journey_once(const struct journey *j);

/* Of a call that was given blob_env's err: if it failed, err says so in a line. Returns rc. */
int told(int rc);

/* Of a test group. */
int journeys_setup(void **state);
int journeys_teardown(void **state);

#endif
