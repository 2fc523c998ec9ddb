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
#include <sys/file.h>
#include <sys/time.h>
#include <unistd.h>

#define BUDGET_BYTES (256u << 20)
#define NUDGE_US 20000

__attribute__((format(printf, 3, 0)))
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

/* The same as cli_bad_option. */
static int bad_option(struct session *s, int argc, char **argv, int option)
{
	const char *word = optind >= 1 && optind <= argc ? argv[optind - 1] : argv[0];

	return session_usage(s, word, option == ':' ? "a value is missing" : "no such option");
}

static const char *name_of(const struct option *longs, int option)
{
	while (longs->val != option)
		longs++;
	return longs->name;
}

/* word: what these options are of, if not of all; NULL. */
static int take_options(struct session *s, int argc, char **argv, const struct session_syntax *syntax, const struct session_word *word,
                        int (*take)(struct session *s, void *args, int option), void *args)
{
	int option, rc;

	while ((option = getopt_long(argc, argv, syntax->shorts, syntax->longs, NULL)) != -1) {
		if (option == 'h') {
			fputs(word != NULL ? word->help : syntax->help, s->out);
			return CLI_DONE;
		}
		if (option == '?' || option == ':')
			return bad_option(s, argc, argv, option);
		if (word != NULL && strchr(word->options, option) == NULL)
			return session_usage(s, name_of(syntax->longs, option), "no option of %s", word->word);
		rc = take(s, args, option);
		if (rc != CLI_DONE)
			return rc;
	}
	return CLI_GO_ON;
}

int session_options(struct session *s, int argc, char **argv, const struct session_syntax *syntax,
                    int (*take)(struct session *s, void *args, int option), void *args)
{
	return take_options(s, argc, argv, syntax, NULL, take, args);
}

/* NULL: there is none. */
static const char *first_word(int argc, char **argv, const struct session_words *words)
{
	while (getopt_long(argc, argv, words->shorts, words->longs, NULL) != -1)
		;
	const char *word = optind < argc ? argv[optind] : NULL;
	optind = 0;
	return word;
}

static const struct session_word *word_of_row(const struct session_words *words, unsigned row)
{
	return (const struct session_word *)((const char *)words->first + row * words->row_bytes);
}

int session_word_options(struct session *s, int argc, char **argv, const struct session_words *words,
                         int (*take)(struct session *s, void *args, int option), void *args, unsigned *ret_row)
{
	const struct session_syntax syntax = {.shorts = words->shorts, .longs = words->longs, .help = words->help};
	const char *word = first_word(argc, argv, words);
	unsigned row = 0;

	while (word != NULL && row < words->n && strcmp(word, word_of_row(words, row)->word) != 0)
		row++;
	if (row == words->n)
		return session_usage(s, word, "%s", words->which);
	int rc = take_options(s, argc, argv, &syntax, word != NULL ? word_of_row(words, row) : NULL, take, args);
	if (rc == CLI_GO_ON && word == NULL)
		return session_usage(s, words->name, "%s", words->which);
	*ret_row = row;
	return rc;
}

int session_finish_output(struct session *s)
{
	if (fflush(s->out) != 0 || ferror(s->out))
		return session_fail(s, "standard output", "%s", session_why(s, -errno));
	return CLI_DONE;
}

const char *session_why(const struct session *s, int error)
{
	bool interrupted = (error == -EINTR || error == -ECANCELED) && atomic_load(&s->canceled);

	return interrupted ? "interrupted" : strerror(-error);
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

/* The store's lock, shared: nobody opens it for writing then. -EBUSY: somebody has; -1: it can't be had, as where
 * nothing can be written. */
static int keep_writers_out(const char *dir)
{
	char *path;

	if (asprintf(&path, "%s/lock", dir) < 0)
		return -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	free(path);
	if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0) {
		int error = errno;
		close(fd);
		return error == EWOULDBLOCK ? -EBUSY : -1;
	}
	return fd;
}

static int run_opened(struct session *s, const struct store_verb *verb, const void *args, bool writes)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = BUDGET_BYTES};
	struct quire_error err;

	if (quire_cache_open(&opts, &s->cache, &err) < 0)
		return session_fail_text(s, err.text);
	int rc = CLI_FAILED, lock = s->undisturbed && !writes ? keep_writers_out(s->path) : -1;
	/* For writing also beside a writer: that says who he is. */
	unsigned flags = writes || lock == -EBUSY ? 0 : QUIRE_STORE_READ_ONLY;
	if (quire_store_open(s->cache, s->path, flags, &s->store, &err) < 0) {
		session_fail_text(s, err.text);
	} else {
		rc = verb->run(s, args);
		int closed = quire_store_close(s->store);
		if (closed < 0)
			rc = session_fail(s, s->path, "closing: %s", strerror(-closed));
	}
	(void)quire_cache_close(s->cache);
	if (lock >= 0)
		close(lock);
	return rc;
}

int session_look_again(struct session *s, struct quire_error *err)
{
	(void)quire_store_close(s->store);
	s->store = NULL;
	return quire_store_open(s->cache, s->path, QUIRE_STORE_READ_ONLY, &s->store, err);
}

/* ---- interrupted ---- */

static struct session *interruptible; /* the one of this process, while it runs here */

static void nudge(bool on)
{
	const struct timeval step = {.tv_usec = on ? NUDGE_US : 0};
	const struct itimerval timer = {.it_interval = step, .it_value = step};

	(void)setitimer(ITIMER_REAL, &timer, NULL);
}

/* It may come between a look at `canceled` and a call that blocks: so there are more to come. */
static void on_signal(int number)
{
	(void)number;
	atomic_store(&interruptible->canceled, true);
	nudge(true);
}

static void on_nudge(int number)
{
	(void)number;
}

static int run_here(struct session *s, const struct store_verb *verb, const void *args, bool writes)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	const struct sigaction nudged = {.sa_handler = on_nudge};
	/* The second one ends the process. */
	const struct sigaction act = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
	struct sigaction before;

	interruptible = s;
	sigaction(SIGALRM, &nudged, NULL);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(numbers[i], &act, NULL);
	int rc = run_opened(s, verb, args, writes);
	nudge(false);
	return rc;
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
		else if (!control_ask(s->path, argc, argv, s->until_interrupted, &rc))
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
