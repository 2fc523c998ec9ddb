/* log_place.h - a store with a class pmem somewhere, and one log in that class. */
#ifndef TESTS_VM_LOG_PLACE_H
#define TESTS_VM_LOG_PLACE_H

#include <quire/log.h>

#include <stdarg.h>
#include <stdnoreturn.h>

struct place {
	char dir[128];    /* of the store */
	char device[128]; /* that holds the class; "": a file of the store */
	enum quire_durable durable;
	struct quire_cache *cache;
	struct quire_store *store;
	struct quire_log *log;
	struct promises *promises; /* borrowed; NULL: they are printed, no more */
};

/* "DIR:DEVICE:DURABLE", of which DEVICE may be empty and DURABLE is power, process or default. Exits if it is not. */
void place_parse(const char *text, struct place *ret);

/* Opens it; make: and makes first what is not there yet. Exits on failure. */
void place_open(struct place *p, bool make);
void place_close(struct place *p);
void place_open_log(struct place *p);

/* "DIR: WHAT", and the program ends. */
noreturn void place_fail(const struct place *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Fails if rc is negative. */
void place_expect(const struct place *p, int64_t rc, const char *what);

#endif
