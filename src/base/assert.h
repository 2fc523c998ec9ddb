/* assert.h - for our own mistakes, in release too; never for what came from outside. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include <stdlib.h>

/* Aborts without a word, as the library never prints: the core tells where. */
#define quire_assert(condition) ((condition) ? (void)0 : abort())

#endif
