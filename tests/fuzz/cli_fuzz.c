/* cli_fuzz.c - whatever may be typed behind `quire`: an input is the words, a line each.
 *
 * It is the command itself, on a library that refuses everything (refusing_library.py), with a C library that opens, makes, removes
 * and starts nothing: the linker's seam. So arguments are all that counts. Done without a word, or one line that begins with
 * "quire: " and an exit code that says failed, or usage.
 */
#include "../support/fuzz.h"
#include "../../src/base/assert.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_WORDS 48u
#define MOST_BYTES 4096u

int quire_main(int argc, char **argv); /* main of src/cli/main.c */

/* ---- what nothing comes of: the linker puts these in the place of the C library's ---- */

#define REFUSED(name) \
	int __wrap_##name(void); \
	int __wrap_##name(void) \
	{ \
		errno = EACCES; \
		return -1; \
	}

REFUSED(openat64)
REFUSED(mkdir)
REFUSED(mkdirat)
REFUSED(rename)
REFUSED(renameat)
REFUSED(remove)
REFUSED(rmdir)
REFUSED(unlinkat)
REFUSED(linkat)
REFUSED(symlinkat)
REFUSED(socket)
REFUSED(socketpair)
REFUSED(signalfd)
REFUSED(kill)
REFUSED(mlockall)
REFUSED(setpriority)
REFUSED(setrlimit64)
REFUSED(prctl)
REFUSED(setsid)
REFUSED(pthread_sigmask)
REFUSED(syscall)

#define REFUSED_POINTER(name) \
	void *__wrap_##name(void); \
	void *__wrap_##name(void) \
	{ \
		errno = EACCES; \
		return NULL; \
	}

REFUSED_POINTER(mkdtemp)
REFUSED_POINTER(fts64_open)

static bool refusing; /* and not reading the corpus */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags);
int __wrap_open64(const char *path, int flags)
{
	errno = EACCES;
	return refusing ? -1 : __real_open64(path, flags, 0600);
}

FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode)
{
	errno = EACCES;
	return refusing ? NULL : __real_fopen64(path, mode);
}

int __wrap_pthread_create(void);
int __wrap_pthread_create(void)
{
	return EAGAIN;
}

int __wrap_posix_spawnp(void);
int __wrap_posix_spawnp(void)
{
	return EACCES;
}

/* ---- one input ---- */

/* What is said on standard error; sanitizers go there past it. What is printed is thrown away. */
struct said {
	FILE *err, *out;
	char *text; /* owned */
	size_t n;
};

static void begin_listening(struct said *s, FILE *nowhere)
{
	s->err = stderr;
	s->out = stdout;
	s->text = NULL;
	stderr = open_memstream(&s->text, &s->n);
	stdout = nowhere;
	refusing = true;
}

static void end_listening(struct said *s)
{
	refusing = false;
	quire_assert(fflush(stdout) == 0 && fclose(stderr) == 0);
	stderr = s->err;
	stdout = s->out;
}

static void check_said(const struct said *s, int code)
{
	const char *end = strchr(s->text, '\n');
	bool one_line = strncmp(s->text, "quire: ", 7) == 0 && end != NULL && end[1] == '\0';

	if ((code != 0 || s->n != 0) && (code < 1 || code > 2 || !one_line)) {
		fprintf(stderr, "exit %d: '%s'\n", code, s->text);
		abort();
	}
}

/* How many words; argv ends with NULL. */
static int split(char *text, char **argv)
{
	int n = 0;

	argv[n++] = (char *)(uintptr_t)"quire";
	for (char *word = text; word != NULL && n < (int)MOST_WORDS;)
		argv[n++] = strsep(&word, "\n");
	argv[n] = NULL;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static FILE *nowhere;
	char text[MOST_BYTES + 1], *argv[MOST_WORDS + 2];
	struct said said;

	if (n_bytes > MOST_BYTES || memchr(data, '\0', n_bytes) != NULL)
		return 0;
	if (nowhere == NULL) {
		nowhere = fopen("/dev/null", "we");
		quire_assert(nowhere != NULL && freopen("/dev/null", "re", stdin) != NULL);
	}
	memcpy(text, data, n_bytes);
	text[n_bytes] = '\0';
	int argc = split(text, argv);
	optind = 0;
	begin_listening(&said, nowhere);
	int code = quire_main(argc, argv);
	end_listening(&said);
	check_said(&said, code);
	free(said.text);
	return 0;
}
