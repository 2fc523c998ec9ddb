/* capped.c - runs a command in a memory cgroup of its own; for the benchmarks.
 *
 *   bench-capped BYTES COMMAND…
 *
 * The command comes before other programs, if that is allowed. Afterwards one more line on
 * stdout: {"capped": …, "peak_bytes": …, "cpu_seconds": …}. Where no cgroup can be made, the
 * command runs as it is and the line says so. Exit code: the command's.
 */
#include "cgroup.h"
#include "demo_quiet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void child_main(const struct cgroup *group, char **command)
{
	if (group != NULL) {
		int fd = open(group->procs, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1) {
			perror(group->procs);
			_exit(126);
		}
		close(fd);
	}
	quiet_server(&(struct quiet){ .split = false });
	execvp(command[0], command);
	perror(command[0]);
	_exit(127);
}

int main(int argc, char **argv)
{
	struct cgroup group;
	struct rusage usage;
	char name[64];
	int status;

	if (argc < 3) {
		fprintf(stderr, "usage: bench-capped BYTES COMMAND…\n");
		return 2;
	}
	snprintf(name, sizeof(name), "quire-bench-%d", (int)getpid());
	bool capped = cgroup_create(name, strtoull(argv[1], NULL, 10), &group) == 0;
	pid_t pid = fork();
	if (pid == 0)
		child_main(capped ? &group : NULL, argv + 2);
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid) {
		perror("bench-capped");
		return 1;
	}
	double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	uint64_t peak = capped ? cgroup_peak_bytes(&group) : (uint64_t)usage.ru_maxrss * 1024;
	printf("{\"capped\": %s, \"peak_bytes\": %llu, \"cpu_seconds\": %.6f, \"oom_kills\": %llu}\n",
	       capped ? "true" : "false", (unsigned long long)peak, cpu,
	       (unsigned long long)(capped ? cgroup_oom_kills(&group) : 0));
	if (capped)
		cgroup_destroy(&group);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
