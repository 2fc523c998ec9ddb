/* memory_limit.c - how much memory the kernel grants this process.
 *
 * A process stands in a chain of cgroups, each of which may have a limit of its own, and
 * on a machine, which has one too. All bind at once: limit_bytes is the smallest of them,
 * and used_bytes is such that limit_bytes - used_bytes is the least room that any leaves.
 *
 * Nothing here trusts what it reads: a file that is missing, empty or damaged counts as
 * not there. One for which there is no descriptor, or memory, does not: a limit that can't be looked at is not none.
 * No state, any thread.
 */
#include "memory_limit.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Pressure, per cent of the last ten seconds in which some task waited for memory. */
#define PRESSURE_NO_GROWTH_PCT 1.0
#define PRESSURE_SHRINK_PCT 5.0
#define PRESSURE_WORST_PCT 40.0

/* ---- small files ---- */

struct reading {
	const char *root;
	int lack; /* -EMFILE, -ENFILE, -ENOMEM: a file could not be opened that may be there */
};

static FILE *open_under(struct reading *r, const char *dir, const char *name)
{
	char path[PATH_MAX];
	int len = snprintf(path, sizeof(path), "%s%s/%s", r->root, dir, name);
	if (len < 0 || (size_t)len >= sizeof(path))
		return NULL;
	FILE *file = fopen(path, "re");
	if (file == NULL && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		r->lack = -errno;
	return file;
}

/* A decimal number at *text, which is moved behind it; too large ones saturate. */
static bool parse_u64(const char **text, uint64_t *ret_value)
{
	const char *c = *text;
	uint64_t value = 0;
	if (*c < '0' || *c > '9')
		return false;
	for (; *c >= '0' && *c <= '9'; c++) {
		uint64_t digit = (uint64_t)(*c - '0');
		value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
	}
	*text = c;
	*ret_value = value;
	return true;
}

/* A file of one number, or "max". */
static bool read_value(struct reading *r, const char *dir, const char *name, uint64_t *ret_value)
{
	char line[64];
	FILE *file = open_under(r, dir, name);
	if (file == NULL)
		return false;
	bool read = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	if (!read)
		return false;

	if (strcmp(line, "max\n") == 0 || strcmp(line, "max") == 0) {
		*ret_value = UINT64_MAX;
		return true;
	}
	const char *text = line;
	uint64_t value;
	if (!parse_u64(&text, &value) || (*text != '\n' && *text != '\0'))
		return false;
	*ret_value = value;
	return true;
}

/* Sums the values of lines "KEY VALUE" over the keys, a NULL-terminated list; false if
 * there was none of them. */
static bool read_keys(struct reading *r, const char *dir, const char *name,
                      const char *const *keys, uint64_t *ret_sum)
{
	char line[256];
	uint64_t sum = 0;
	bool found = false;
	FILE *file = open_under(r, dir, name);
	if (file == NULL)
		return false;

	while (fgets(line, sizeof(line), file) != NULL) {
		for (unsigned k = 0; keys[k] != NULL; k++) {
			size_t len = strlen(keys[k]);
			if (strncmp(line, keys[k], len) != 0 || line[len] != ' ')
				continue;
			const char *text = line + len + strspn(line + len, " ");
			uint64_t value;
			if (!parse_u64(&text, &value))
				continue;
			sum = value > UINT64_MAX - sum ? UINT64_MAX : sum + value;
			found = true;
		}
	}
	fclose(file);
	if (found)
		*ret_sum = sum;
	return found;
}

/* The number behind "some avg10=". */
static bool read_pressure(struct reading *r, const char *dir, const char *name, double *ret_pct)
{
	char line[256];
	FILE *file = open_under(r, dir, name);
	if (file == NULL)
		return false;
	bool read = fgets(line, sizeof(line), file) != NULL;
	fclose(file);

	/* Not scanf's %lf: the decimal point is the locale's there. */
	static const char key[] = "some avg10=";
	if (!read || strncmp(line, key, sizeof(key) - 1) != 0)
		return false;
	const char *text = line + sizeof(key) - 1;
	uint64_t whole, hundredths = 0;
	if (!parse_u64(&text, &whole) || whole > 100)
		return false;
	if (text[0] == '.' && text[1] >= '0' && text[1] <= '9') {
		hundredths = (uint64_t)(text[1] - '0') * 10;
		if (text[2] >= '0' && text[2] <= '9')
			hundredths += (uint64_t)(text[2] - '0');
	}
	*ret_pct = (double)whole + (double)hundredths / 100;
	return true;
}

/* ---- where the cgroup's files are ---- */

struct cgroup {
	char mount[PATH_MAX]; /* the mount point; "" if there is none */
	char path[PATH_MAX];  /* below it; "" for the top */
};

/* mountinfo writes blanks and the like as \ooo. */
static void unescape(char *text)
{
	char *to = text;
	for (const char *from = text; *from != '\0';) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0');
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

static bool list_has(const char *list, const char *word)
{
	size_t word_len = strlen(word);
	while (*list != '\0') {
		size_t len = strcspn(list, ",\n");
		if (len == word_len && memcmp(list, word, len) == 0)
			return true;
		list += len;
		list += *list != '\0';
	}
	return false;
}

/* If line of mountinfo tells of the hierarchy that is looked for: its root and place. */
static bool parse_mount(char *line, bool v2, char **ret_root, char **ret_place)
{
	char *rest = line;
	char *field[5];
	for (unsigned i = 0; i < 5; i++) {
		field[i] = strsep(&rest, " ");
		if (rest == NULL)
			return false;
	}
	char *tail = strstr(rest, " - ");
	if (tail == NULL)
		return false;
	tail += strlen(" - ");
	char *type = strsep(&tail, " ");
	strsep(&tail, " "); /* the source: any word */
	if (tail == NULL)
		return false;
	if (v2 ? strcmp(type, "cgroup2") != 0
	       : strcmp(type, "cgroup") != 0 || !list_has(tail, "memory"))
		return false;

	unescape(field[3]);
	unescape(field[4]);
	*ret_root = field[3];
	*ret_place = field[4];
	return true;
}

/* The process's path in the hierarchy: "0::PATH", or "N:…,memory,…:PATH". */
static bool find_path(struct reading *r, bool v2, char ret_path[PATH_MAX])
{
	char line[PATH_MAX + 256];
	bool found = false;
	FILE *file = open_under(r, "/proc/self", "cgroup");
	if (file == NULL)
		return false;

	while (!found && fgets(line, sizeof(line), file) != NULL) {
		char *rest = line;
		const char *number = strsep(&rest, ":");
		const char *controllers = strsep(&rest, ":");
		if (rest == NULL || rest[0] != '/')
			continue;
		found = v2 ? strcmp(number, "0") == 0 && controllers[0] == '\0'
		           : list_has(controllers, "memory");
		if (found) {
			rest[strcspn(rest, "\n")] = '\0';
			found = strlen(rest) < PATH_MAX;
		}
		if (found)
			strcpy(ret_path, rest);
	}
	fclose(file);
	return found;
}

/* The part of path below mount_root; "" if it is not below it (a container that sees the
 * host's path, but only its own cgroup mounted; or another namespace's). */
static const char *path_below(const char *path, const char *mount_root)
{
	size_t len = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
	if (strncmp(path, mount_root, len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return "";
	if (strstr(path, "/..") != NULL || strcmp(path + len, "/") == 0)
		return "";
	return path + len;
}

static bool find_cgroup(struct reading *r, bool v2, struct cgroup *ret)
{
	char line[2 * PATH_MAX];
	char path[PATH_MAX];
	bool found = false;
	if (!find_path(r, v2, path))
		return false;

	FILE *file = open_under(r, "/proc/self", "mountinfo");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL) {
		char *mount_root, *place;
		if (!parse_mount(line, v2, &mount_root, &place) || strlen(place) >= PATH_MAX)
			continue;
		strcpy(ret->mount, place);
		strcpy(ret->path, path_below(path, mount_root));
		found = true;
	}
	fclose(file);
	return found;
}

/* ---- limits ---- */

/* Takes one more bound into account. */
static void tighten(struct memory_limit *m, uint64_t limit_bytes, uint64_t used_bytes)
{
	uint64_t room = limit_bytes > used_bytes ? limit_bytes - used_bytes : 0;
	uint64_t room_before = m->limit_bytes - m->used_bytes;
	if (limit_bytes < m->limit_bytes)
		m->limit_bytes = limit_bytes;
	if (room > room_before)
		room = room_before;
	m->used_bytes = m->limit_bytes > room ? m->limit_bytes - room : 0;
}

static uint64_t used_without_files(struct reading *r, const char *dir, bool v2)
{
	static const char *const v2_keys[] = {"inactive_file", "active_file", NULL};
	static const char *const v1_keys[] = {"total_inactive_file", "total_active_file", NULL};
	uint64_t used, files;

	if (!read_value(r, dir, v2 ? "memory.current" : "memory.usage_in_bytes", &used))
		return 0;
	if (!read_keys(r, dir, "memory.stat", v2 ? v2_keys : v1_keys, &files))
		files = 0;
	return used > files ? used - files : 0;
}

static void bind_level(struct memory_limit *m, struct reading *r, const char *dir, bool v2)
{
	uint64_t limit = UINT64_MAX;
	uint64_t value;
	if (read_value(r, dir, v2 ? "memory.max" : "memory.limit_in_bytes", &value))
		limit = value;
	/* Above memory.high a process is held up so much that it is as good as a limit. */
	if (v2 && read_value(r, dir, "memory.high", &value) && value < limit)
		limit = value;
	/* v1 says "none" by a number near 2^63. */
	if (limit >= (uint64_t)INT64_MAX / 2)
		return;
	tighten(m, limit, used_without_files(r, dir, v2));
}

/* The cgroup and all above it. */
static void bind_chain(struct memory_limit *m, struct reading *r, bool v2)
{
	struct cgroup group;
	char dir[2 * PATH_MAX];
	double pct;
	if (!find_cgroup(r, v2, &group))
		return;

	snprintf(dir, sizeof(dir), "%s%s", group.mount, group.path);
	if (v2 && read_pressure(r, dir, "memory.pressure", &pct))
		m->pressure_some_pct = pct;
	for (;;) {
		bind_level(m, r, dir, v2);
		char *last = strrchr(dir, '/');
		if (last == NULL || last < dir + strlen(group.mount))
			break;
		*last = '\0';
	}
}

int memory_limit_read(const char *root, struct memory_limit *ret)
{
	struct reading r = {.root = root};
	struct memory_limit m = {0};
	static const char *const total_key[] = {"MemTotal:", NULL};
	static const char *const available_key[] = {"MemAvailable:", NULL};
	uint64_t total_kib, available_kib;

	/* What the kernel tells without files, for the case that /proc is not there. */
	uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t used = 0;
	if (read_keys(&r, "/proc", "meminfo", total_key, &total_kib) &&
	    total_kib > 0 && total_kib < UINT64_MAX / 1024) {
		total = total_kib * 1024;
		if (read_keys(&r, "/proc", "meminfo", available_key, &available_kib) &&
		    available_kib < total_kib)
			used = total - available_kib * 1024;
	}

	m.limit_bytes = total;
	m.used_bytes = used;
	(void)read_pressure(&r, "/proc/pressure", "memory", &m.pressure_some_pct);
	bind_chain(&m, &r, false);
	bind_chain(&m, &r, true);
	if (r.lack == 0)
		*ret = m;
	return r.lack;
}

/* ---- the budget that follows ---- */

uint64_t memory_limit_auto_budget(const struct memory_limit *m, uint64_t budget_bytes,
                                  uint64_t held_bytes, uint64_t min_bytes)
{
	uint64_t room = m->limit_bytes > m->used_bytes ? m->limit_bytes - m->used_bytes : 0;
	uint64_t reach = held_bytes > m->limit_bytes - room ? m->limit_bytes : room + held_bytes;
	/* A quarter of what could be had is left to the rest of the program. */
	uint64_t target = reach - reach / 4;

	if (budget_bytes == 0 || budget_bytes == UINT64_MAX) {
		/* The first one: there is nothing to grow from. */
	} else if (m->pressure_some_pct >= PRESSURE_SHRINK_PCT) {
		/* From what is held, not from the budget: only that gives memory back. Up to a
		 * fifth each time; the next reading tells whether it was enough. */
		uint64_t from = held_bytes < budget_bytes ? held_bytes : budget_bytes;
		double pct = m->pressure_some_pct < PRESSURE_WORST_PCT ? m->pressure_some_pct
		                                                       : PRESSURE_WORST_PCT;
		uint64_t less = from - (uint64_t)((double)from * pct / (5 * PRESSURE_WORST_PCT));
		target = target < less ? target : less;
	} else if (target > budget_bytes) {
		uint64_t step = m->pressure_some_pct >= PRESSURE_NO_GROWTH_PCT ? 0 : budget_bytes / 16;
		target = target - budget_bytes < step ? target : budget_bytes + step;
	}
	return target > min_bytes ? target : min_bytes;
}
