/* library.h - shared libraries that are loaded when they are first needed, so that programs which don't need them
 * need not have them. */
#ifndef BASE_LIBRARY_H
#define BASE_LIBRARY_H

#include <pthread.h>
#include <quire/error.h>
#include <stddef.h>

struct library_function {
	const char *name;
	void *to; /* a pointer to a pointer to a function of that type; borrowed */
};

/* Static, by LIBRARY; one for each library. */
struct library {
	const char *what; /* that needs it: the beginning of what is said when it isn't there */
	const char *file;
	const struct library_function *functions;
	size_t n_functions;
	pthread_mutex_t lock;
	int result; /* 0; 1: not tried; -ENOTSUP, of the last try */
};

#define LIBRARY(what, file, functions)                                                                                 \
	{what, file, functions, sizeof(functions) / sizeof((functions)[0]), PTHREAD_MUTEX_INITIALIZER, 1}

/* All its functions are where they are to be from the first success on. Any thread; blocks until the first success. -ENOTSUP: it is not
 * installed, lacks one of them, or the program is linked statically. Never unloaded. */
int library_load(struct library *l, struct quire_error *err);

#endif
