/* shrink.c - see shrink.h. */
#include "shrink.h"

#include "world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_SECONDS 120 /* of one try: "stuck" counts as a failure, too */

/* ---- a try ---- */

static void run_quietly(uint64_t seed, const struct plan_less *less, bool is_loud)
{
	static struct plan plan;
	static struct world w;
	int null = is_loud ? -1 : open("/dev/null", O_WRONLY);

	if (null >= 0) {
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
	}
	(void)alarm(LIMIT_SECONDS);
	plan_make(&plan, seed, less);
	world_init(&w, is_loud);
	world_run(&w, &plan);
	world_fini(&w);
	_exit(0);
}

bool shrink_fails(uint64_t seed, const struct plan_less *less, bool is_loud)
{
	int status = 0;

	(void)fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		run_quietly(seed, less, is_loud);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("sim: fork");
		exit(1);
	}
	return status != 0;
}

/* ---- delta debugging ---- */

static void shrink_bits(uint64_t seed, struct plan_less *less, unsigned *bits, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if ((*bits & 1u << i) != 0)
			continue;
		*bits |= 1u << i;
		if (!shrink_fails(seed, less, false))
			*bits &= ~(1u << i);
	}
}

static void shrink_ops(uint64_t seed, struct plan_less *less)
{
	static struct plan plan;
	struct plan_less tried;

	plan_make(&plan, seed, less);
	for (unsigned step = (plan.n_ops + 1) / 2; step > 0; step = step == 1 ? 0 : (step + 1) / 2) {
		for (unsigned at = 0; at < plan.n_ops;) {
			tried = *less;
			for (unsigned i = at; i < at + step && i < plan.n_ops; i++)
				tried.ops[plan.ops[i].number] = true;
			if (shrink_fails(seed, &tried, false)) {
				*less = tried;
				plan_make(&plan, seed, less);
			} else {
				at += step;
			}
		}
		(void)printf("  %u operations left\n", plan.n_ops);
	}
}

void shrink(uint64_t seed, struct plan_less *less)
{
	shrink_bits(seed, less, &less->faces, N_FACES);
	shrink_bits(seed, less, &less->faults, N_FAULTS);
	shrink_bits(seed, less, &less->lives, PLAN_LIVES);
	shrink_ops(seed, less);
	shrink_bits(seed, less, &less->faults, N_FAULTS);
	shrink_bits(seed, less, &less->faces, N_FACES);
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
