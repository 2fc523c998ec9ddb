/* memcached_env.h - memcached servers of a test's own: started, killed, paused. */
#ifndef TESTS_SERVE_MEMCACHED_ENV_H
#define TESTS_SERVE_MEMCACHED_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define N_SERVERS 3u /* the first by TCP, the others on Unix sockets */

struct servers {
	char dir[64];
	unsigned port;
	pid_t pids[N_SERVERS]; /* 0: it isn't running */
	char words[400];       /* as quire_tmem_set_memcached takes them */
};

bool servers_can_run(void); /* else says why not */
void servers_start_all(struct servers *s);
void servers_stop_all(struct servers *s);

void server_start(struct servers *s, unsigned i); /* empty; and waits until it answers */
void server_kill(struct servers *s, unsigned i);
void server_pause(struct servers *s, unsigned i);
void server_resume(struct servers *s, unsigned i);
unsigned long server_n_values(const struct servers *s, unsigned i); /* that it has */

#endif
