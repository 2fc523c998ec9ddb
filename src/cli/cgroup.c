/* cgroup.c - a memory cgroup of our own, v1 or v2.
 * Sources: Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst.
 */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[CGROUP_PATH_BYTES + 64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static bool read_file(const char *dir, const char *name, char *text, size_t size)
{
	char path[CGROUP_PATH_BYTES + 64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return false;
	size_t n = fread(text, 1, size - 1, f);
	text[n] = '\0';
	fclose(f);
	return true;
}

static bool has_word(const char *list, const char *word)
{
	const size_t len = strlen(word);

	for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word))
		if ((at == list || strchr(" ,\n:", at[-1]) != NULL) && strchr(" ,\n:", at[len]) != NULL)
			return true;
	return false;
}

/* Where the memory hierarchy is mounted: v1 if it has the controller, else v2. */
static bool find_mount(char *mount, bool *ret_v2)
{
	char line[1024], at[CGROUP_PATH_BYTES], rest[512];
	bool found = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		const char *dash = strstr(line, " - ");
		if (dash == NULL || sscanf(line, "%*s %*s %*s %*s %511s", at) != 1)
			continue;
		snprintf(rest, sizeof(rest), "%s", dash + 3);
		bool v1 = strncmp(rest, "cgroup ", 7) == 0 && has_word(rest, "memory");
		bool v2 = strncmp(rest, "cgroup2 ", 8) == 0;
		if (!v1 && (!v2 || found))
			continue;
		snprintf(mount, CGROUP_PATH_BYTES, "%s", at);
		*ret_v2 = v2;
		found = true;
		if (v1)
			break;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

/* The path of this process in that hierarchy, "/" and more. */
static bool find_self(bool v2, char *self)
{
	char line[1024];
	bool found = false;
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
		char *list = strchr(line, ':');
		char *path = list != NULL ? strchr(list + 1, ':') : NULL;
		if (path == NULL)
			continue;
		path[strcspn(path, "\n")] = '\0';
		*path++ = '\0';
		found = v2 ? list[1] == '\0' : has_word(list + 1, "memory");
		if (found)
			snprintf(self, CGROUP_PATH_BYTES, "%s", path);
	}
	if (f != NULL)
		fclose(f);
	return found;
}

static int limit(const struct cgroup *g, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, bytes);
	if (g->v2) {
		int rc = write_file(g->path, "memory.max", text);
		write_file(g->path, "memory.swap.max", "0"); /* not there without swap */
		return rc;
	}
	int rc = write_file(g->path, "memory.limit_in_bytes", text);
	write_file(g->path, "memory.swappiness", "0");
	return rc;
}

static int try_at(const char *dir, const char *name, uint64_t limit_bytes, struct cgroup *g)
{
	int n = snprintf(g->path, sizeof(g->path), "%s/%s", dir, name);

	if (n >= (int)sizeof(g->path))
		return -ENAMETOOLONG;
	if (mkdir(g->path, 0755) != 0)
		return -errno;
	int rc = limit(g, limit_bytes);
	if (rc == 0 && (size_t)snprintf(g->procs, sizeof(g->procs), "%s/cgroup.procs", g->path) >=
	                       sizeof(g->procs))
		rc = -ENAMETOOLONG;
	if (rc == 0 && access(g->procs, W_OK) != 0)
		rc = -errno;
	if (rc != 0)
		rmdir(g->path);
	return rc;
}

int cgroup_create(const char *name, uint64_t limit_bytes, struct cgroup *ret)
{
	char mount[CGROUP_PATH_BYTES], self[CGROUP_PATH_BYTES], dir[2 * CGROUP_PATH_BYTES];
	struct cgroup g = { .v2 = false };
	int rc = -ENOTSUP;

	if (!find_mount(mount, &g.v2) || !find_self(g.v2, self))
		return -ENOTSUP;
	/* Upwards: under v2 a cgroup that holds processes gives its children no controllers. */
	for (;;) {
		char *slash = strrchr(self, '/');
		snprintf(dir, sizeof(dir), "%s%s", mount, strcmp(self, "/") == 0 ? "" : self);
		rc = try_at(dir, name, limit_bytes, &g);
		if (rc == 0 || slash == NULL || strcmp(self, "/") == 0 || self[0] == '\0')
			break;
		slash[slash == self ? 1 : 0] = '\0';
	}
	if (rc == 0)
		*ret = g;
	return rc;
}

uint64_t cgroup_peak_bytes(const struct cgroup *g)
{
	char text[64];

	if (!read_file(g->path, g->v2 ? "memory.peak" : "memory.max_usage_in_bytes", text, sizeof(text)))
		return 0;
	return strtoull(text, NULL, 10);
}

uint64_t cgroup_oom_kills(const struct cgroup *g)
{
	char text[512];

	if (!read_file(g->path, g->v2 ? "memory.events" : "memory.oom_control", text, sizeof(text)))
		return 0;
	const char *at = strstr(text, "oom_kill ");
	return at != NULL ? strtoull(at + strlen("oom_kill "), NULL, 10) : 0;
}

int cgroup_destroy(struct cgroup *g)
{
	if (!g->v2) /* pages still charged to a dead v1 cgroup would linger */
		write_file(g->path, "memory.force_empty", "0");
	return rmdir(g->path) == 0 ? 0 : -errno;
}
