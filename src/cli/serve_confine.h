/* serve_confine.h - what a daemon gives up before it opens anything. */
#ifndef CLI_SERVE_CONFINE_H
#define CLI_SERVE_CONFINE_H

#include <stdbool.h>

/* For good, for this process and all that it starts: capabilities that a daemon has no use for, new privileges by
 * execve, and system calls that are for those who run a machine. Before there is a second thread. keeps_admin: the
 * driver of ublk asks for CAP_SYS_ADMIN. An exit code; a kernel without seccomp filters is no error. */
int serve_confine(bool keeps_admin);

#endif
