/* ublk_command.h - the command in a guest: servers, and verbs of one line. */
#ifndef TESTS_VM_UBLK_COMMAND_H
#define TESTS_VM_UBLK_COMMAND_H

#include "../base/cmocka_env.h"
#include <sys/types.h>

#define SAID_BYTES 256u
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

extern const char *quire; /* where the command is */

/* A server that says that it serves; its first line in ret, of SAID_BYTES. -1: it ended instead. */
pid_t serve(const char *const *more, char *ret);
/* A signal to it, and how it ended, as of waitpid(2). */
int end(pid_t pid, int number);
/* A verb's exit status; what it said in ret, of SAID_BYTES. */
int say(const char *verb, const char *const *more, uid_t uid, char *ret);

/* Of ublk_swap_test.c. */
void test_swap(void **state);

#endif
