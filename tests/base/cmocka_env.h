/* cmocka_env.h - cmocka.h wants these before it. */
#ifndef TESTS_BASE_CMOCKA_ENV_H
#define TESTS_BASE_CMOCKA_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#endif
