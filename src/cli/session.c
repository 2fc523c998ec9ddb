/* session.c - see session.h. What is sent to a daemon instead: control_client.c. */
#include "session.h"

#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUDGET_BYTES (256u << 20)

static void say(struct session *s, const char *what, const char *format, va_list args, const char *end)
{
	char why[1024], line[8192];

	vsnprintf(why, sizeof(why), format, args);
	snprintf(line, sizeof(line), "quire: %s: %s%s", what, why, end);
	for (char *c = line; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?'; /* one line, whatever the name of a file */
	fprintf(s->err, "%s\n", line);
	fflush(s->err);
}

int session_fail(struct session *s, const char *what, const char *why_format, ...)
{
	va_list args;

	va_start(args, why_format);
	say(s, what, why_format, args, "");
	va_end(args);
	return CLI_FAILED;
}

int session_fail_text(struct session *s, const char *text)
{
	fprintf(s->err, "quire: %s\n", text);
	fflush(s->err);
	return CLI_FAILED;
}

int session_usage(struct session *s, const char *what, const char *why_format, ...)
{
	va_list args;

	va_start(args, why_format);
	say(s, what, why_format, args, " (see --help)");
	va_end(args);
	return CLI_USAGE;
}

int session_bad_option(struct session *s, int argc, char **argv, int option)
{
	const char *word = optind >= 1 && optind <= argc ? argv[optind - 1] : argv[0];

	return session_usage(s, word, option == ':' ? "a value is missing" : "no such option");
}

int session_finish_output(struct session *s)
{
	if (fflush(s->out) != 0 || ferror(s->out))
		return session_fail(s, "standard output", "%s", strerror(errno));
	return CLI_DONE;
}

char *session_path(const struct session *s, const char *path)
{
	char link[64], dir[PATH_MAX], *joined;

	if (path[0] == '/' || s->cwd == AT_FDCWD)
		return strdup(path);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", s->cwd);
	ssize_t n = readlink(link, dir, sizeof(dir) - 1);
	if (n < 0)
		return NULL;
	dir[n] = '\0';
	return asprintf(&joined, "%s/%s", dir, path) < 0 ? NULL : joined;
}

/* ---- running ---- */

static int parse(struct session *s, const struct store_verb *verb, int argc, char **argv, void *args, bool *ret_writes)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* getopt's state is the process's */

	pthread_mutex_lock(&lock);
	optind = 0;
	opterr = 0;
	int rc = verb->parse(s, argc, argv, args, &s->path, ret_writes);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int run_opened(struct session *s, const struct store_verb *verb, const void *args, bool writes)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = BUDGET_BYTES};
	struct quire_error err;

	if (quire_cache_open(&opts, &s->cache, &err) < 0)
		return session_fail_text(s, err.text);
	int rc = CLI_FAILED;
	if (quire_store_open(s->cache, s->path, writes ? 0 : QUIRE_STORE_READ_ONLY, &s->store, &err) < 0) {
		session_fail_text(s, err.text);
	} else {
		rc = verb->run(s, args);
		int closed = quire_store_close(s->store);
		if (closed < 0)
			rc = session_fail(s, s->path, "closing: %s", strerror(-closed));
	}
	(void)quire_cache_close(s->cache);
	return rc;
}

static struct session *interruptible; /* the one of this process, while it runs here */

static void on_signal(int number)
{
	(void)number;
	atomic_store(&interruptible->canceled, true);
}

static int run_here(struct session *s, const struct store_verb *verb, const void *args, bool writes)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	interruptible = s;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	return run_opened(s, verb, args, writes);
}

int session_run(struct session *s, const struct store_verb *verb, int argc, char **argv)
{
	void *args = calloc(1, verb->args_bytes + 1);
	bool writes = false;

	if (args == NULL)
		return session_fail(s, verb->name, "%s", strerror(ENOMEM));
	int rc = parse(s, verb, argc, argv, args, &writes);
	if (rc == CLI_DONE && s->path != NULL) {
		if (s->store != NULL)
			rc = verb->run(s, args);
		else if (!control_ask(s->path, argc, argv, &rc))
			rc = run_here(s, verb, args, writes);
	}
	int finished = session_finish_output(s);
	free(args);
	return rc != CLI_DONE ? rc : finished;
}

int session_verb(const struct store_verb *verb, int argc, char **argv)
{
	struct session s = {.out = stdout, .err = stderr, .in = STDIN_FILENO, .cwd = AT_FDCWD};

	return session_run(&s, verb, argc, argv);
}
