/* control.h - the socket beside a store through which the daemon that holds it runs verbs for others.
 *
 * A stream socket `control`, mode 0600, in the store's directory. A request is a header and the words of the
 * command line, each ended by a zero byte, with four descriptors (SCM_RIGHTS: input, output, errors, working directory);
 * the answer is the exit code. A caller that hangs up cancels its verb. Only the holder's own user, and root, are heard.
 * Both ends are of one machine, so integers are the machine's own.
 */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_NAME "control"
#define CONTROL_MAGIC 0x31437551u /* "QuC1": another version is another magic */
#define CONTROL_MAX_BYTES (1u << 20) /* of words */
#define CONTROL_MAX_WORDS 65536u

struct control_request {
	uint32_t magic, n_words, n_bytes, zero;
};

struct control_answer {
	uint32_t magic;
	int32_t exit_code;
};

enum { CONTROL_IN, CONTROL_OUT, CONTROL_ERR, CONTROL_CWD, CONTROL_N_FDS };

/* The address of the socket in `dir`, however long that is: by way of a descriptor of the directory, which the caller
 * closes when he has used it. -1: there is no such directory. */
struct sockaddr_un;
int control_address(const char *dir, struct sockaddr_un *ret);

/* Reads or writes all; false: the other end has gone. */
bool control_transfer(int fd, void *buf, size_t n, bool write);

/* Asks the daemon that serves the store in dir to run the words. False: nobody serves it. until_interrupted: a signal
 * that would end this process hangs up, and the verb's answer to that is waited for; the second one ends it. */
bool control_ask(const char *dir, int argc, char **argv, bool until_interrupted, int *ret_exit_code);

#endif
