/* shrink.c - see shrink.h. */
#include "shrink.h"

#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_SECONDS 120 /* of one try: "stuck" counts as a failure, too */

/* ---- a try ---- */

static void run(uint64_t seed, const struct plan_less *less, bool is_loud, int to)
{
	static struct plan plan;
	static struct world w;

	(void)dup2(to, STDERR_FILENO);
	(void)dup2(to, STDOUT_FILENO);
	(void)alarm(LIMIT_SECONDS);
	plan_make(&plan, seed, less);
	world_init(&w, is_loud);
	world_run(&w, &plan);
	world_fini(&w);
	_exit(0);
}

/* The first "FILE.c:LINE" of a text. */
static void find_place(const char *text, char ret[64])
{
	const char *end = strstr(text, ".c:"), *begin = end;

	if (end == NULL)
		return;
	while (begin > text && begin[-1] != '/' && begin[-1] != ' ' && begin[-1] != '\n')
		begin--;
	int n = (int)(end - begin) + 3;
	while (end[n - (int)(end - begin)] >= '0' && end[n - (int)(end - begin)] <= '9')
		n++;
	(void)snprintf(ret, 64, "%.*s", n, begin);
}

struct failure shrink_try(uint64_t seed, const struct plan_less *less, bool is_loud)
{
	struct failure f = {0};
	char text[4096];
	int ends[2];

	(void)fflush(stdout);
	pid_t pid = pipe(ends) < 0 ? -1 : fork();
	if (pid == 0)
		run(seed, less, is_loud, ends[1]);
	if (pid < 0) {
		perror("sim: fork");
		exit(1);
	}
	(void)close(ends[1]);
	for (ssize_t n; (n = read(ends[0], text, sizeof(text) - 1)) > 0;) {
		text[n] = 0;
		if (is_loud)
			(void)fputs(text, stdout);
		if (f.where[0] == 0)
			find_place(text, f.where);
	}
	(void)close(ends[0]);
	(void)waitpid(pid, &f.status, 0);
	return f;
}

static bool fails_so(uint64_t seed, const struct plan_less *less, const struct failure *failure)
{
	struct failure f = shrink_try(seed, less, false);

	return f.status == failure->status && strcmp(f.where, failure->where) == 0;
}

/* ---- delta debugging ---- */

static void shrink_bits(uint64_t seed, struct plan_less *less, unsigned *bits, unsigned n, const struct failure *failure)
{
	for (unsigned i = 0; i < n; i++) {
		if ((*bits & 1u << i) != 0)
			continue;
		*bits |= 1u << i;
		if (!fails_so(seed, less, failure))
			*bits &= ~(1u << i);
	}
}

static void shrink_ops(uint64_t seed, struct plan_less *less, const struct failure *failure)
{
	static struct plan plan;
	struct plan_less tried;

	plan_make(&plan, seed, less);
	for (unsigned step = (plan.n_ops + 1) / 2; step > 0; step = step == 1 ? 0 : (step + 1) / 2) {
		for (unsigned at = 0; at < plan.n_ops;) {
			tried = *less;
			for (unsigned i = at; i < at + step && i < plan.n_ops; i++)
				tried.ops[plan.ops[i].number] = true;
			if (fails_so(seed, &tried, failure)) {
				*less = tried;
				plan_make(&plan, seed, less);
			} else {
				at += step;
			}
		}
	}
}

void shrink(uint64_t seed, struct plan_less *less, const struct failure *failure)
{
	shrink_bits(seed, less, &less->faces, N_FACES, failure);
	shrink_bits(seed, less, &less->faults, N_FAULTS, failure);
	shrink_bits(seed, less, &less->lives, PLAN_LIVES, failure);
	shrink_ops(seed, less, failure);
	shrink_bits(seed, less, &less->faults, N_FAULTS, failure);
	shrink_bits(seed, less, &less->faces, N_FACES, failure);
}

/* ---- as text ---- */

static void print_bits(unsigned bits, const char *kind, const char *const *names, unsigned n, const char **comma)
{
	for (unsigned i = 0; i < n; i++) {
		if ((bits & 1u << i) == 0)
			continue;
		if (names != NULL)
			(void)printf("%s%s:%s", *comma, kind, names[i]);
		else
			(void)printf("%s%s:%u", *comma, kind, i);
		*comma = ",";
	}
}

void less_print(const struct plan_less *less)
{
	const char *comma = "";

	print_bits(less->faces, "face", face_names, N_FACES, &comma);
	print_bits(less->faults, "fault", fault_names, N_FAULTS, &comma);
	print_bits(less->lives, "life", NULL, PLAN_LIVES, &comma);
	for (unsigned i = 0, end; i < PLAN_OPS; i = end) {
		for (end = i; end < PLAN_OPS && less->ops[end];)
			end++;
		if (end == i) {
			end++;
			continue;
		}
		(void)printf(end > i + 1 ? "%sop:%u-%u" : "%sop:%u", comma, i, end - 1);
		comma = ",";
	}
}

static bool parse_name(const char *word, const char *kind, const char *const *names, unsigned n, unsigned *bits)
{
	size_t len = strlen(kind);

	if (strncmp(word, kind, len) != 0 || word[len] != ':')
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (names != NULL ? strcmp(word + len + 1, names[i]) != 0 : strtoul(word + len + 1, NULL, 10) != i)
			continue;
		*bits |= 1u << i;
		return true;
	}
	return false;
}

static bool parse_ops(const char *word, struct plan_less *ret)
{
	unsigned first, last;
	int n = sscanf(word, "op:%u-%u", &first, &last);

	if (n == 1)
		last = first;
	if (n < 1 || last >= PLAN_OPS)
		return false;
	for (unsigned i = first; i <= last; i++)
		ret->ops[i] = true;
	return true;
}

bool less_parse(const char *text, struct plan_less *ret)
{
	char *words = strdup(text), *rest = NULL;
	bool is_right = words != NULL;

	for (char *word = strtok_r(words, ",", &rest); word != NULL && is_right; word = strtok_r(NULL, ",", &rest))
		is_right = parse_name(word, "face", face_names, N_FACES, &ret->faces) ||
		           parse_name(word, "fault", fault_names, N_FAULTS, &ret->faults) ||
		           parse_name(word, "life", NULL, PLAN_LIVES, &ret->lives) || parse_ops(word, ret);
	free(words);
	return is_right;
}
