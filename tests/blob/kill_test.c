/* A process that puts and deletes blobs is killed at random moments. Each time the store opens, is clean, and has
 * what was acknowledged; what was not, is whole or not there. Seed: argument, or QUIRE_TEST_SEED. */
#include "blob_env.h"

#include <signal.h>
#include <sys/wait.h>

enum { PUT, WILL_DELETE, DELETED };
enum { N_ROUNDS = 5, N_BLOBS = 20000 }; /* rounds: twenty times as many with QUIRE_TEST_LONG */

struct message {
	uint64_t kind, id, len_bytes;
};

static struct message known[N_BLOBS]; /* kind: the last that was heard of it */
static unsigned n_known;
static uint64_t seed;

static void say(int fd, uint64_t kind, uint64_t id, uint64_t len_bytes)
{
	struct message m = {kind, id, len_bytes};

	if (write(fd, &m, sizeof(m)) != sizeof(m))
		_exit(0);
}

static void child(int fd, uint64_t random)
{
	uint64_t ids[8], lens[8];

	if (env_open(0) < 0)
		_exit(1);
	for (;;) {
		unsigned n = 1 + random_next(&random) % 8;
		for (unsigned i = 0; i < n; i++) {
			uint64_t r = random_next(&random);
			lens[i] = r % 16 == 0 ? r / 16 % 400000 : r / 16 % 9000;
			ids[i] = begin(0);
			if (append(ids[i], 0, lens[i]) < 0)
				_exit(2);
		}
		if (quire_blob_commit(store, ids, n, NULL) < 0)
			_exit(3);
		for (unsigned i = 0; i < n; i++)
			say(fd, PUT, ids[i], lens[i]);
		n = (unsigned)(random_next(&random) % (n + 1));
		for (unsigned i = 0; i < n; i++)
			say(fd, WILL_DELETE, ids[i], lens[i]);
		if (quire_blob_delete(store, ids, n, NULL) < 0)
			_exit(4);
		for (unsigned i = 0; i < n; i++)
			say(fd, DELETED, ids[i], lens[i]);
	}
}

static void note(const struct message *m)
{
	for (unsigned i = n_known; i-- > 0;) {
		if (known[i].id == m->id) {
			known[i] = *m;
			return;
		}
	}
	assert_in_range(n_known, 0, N_BLOBS - 1);
	known[n_known++] = *m;
}

static void one_round(uint64_t *random)
{
	unsigned n_before_kill = (unsigned)(random_next(random) % 300);
	struct message m;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		signal(SIGPIPE, SIG_IGN);
		child(fds[1], random_next(random));
	}
	close(fds[1]);
	for (unsigned n = 0; n < n_before_kill && read(fds[0], &m, sizeof(m)) == sizeof(m); n++)
		note(&m);
	kill(pid, SIGKILL);
	while (read(fds[0], &m, sizeof(m)) == sizeof(m))
		note(&m);
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void verify_known(void)
{
	for (unsigned i = 0; i < n_known; i++) {
		int rc = verify(known[i].id, known[i].len_bytes);
		if (known[i].kind == PUT)
			assert_int_equal(rc, 0);
		else if (known[i].kind == DELETED)
			assert_int_equal(rc, -ESTALE);
		else
			assert_true(rc == 0 || rc == -ESTALE);
	}
}

static void killed(void **state)
{
	uint64_t random = seed, highest = 0, ids[64];
	unsigned n_rounds = getenv("QUIRE_TEST_LONG") != NULL ? 20 * N_ROUNDS : N_ROUNDS;

	print_message("seed %llu\n", (unsigned long long)seed);
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	for (unsigned round = 0; round < n_rounds && n_known < N_BLOBS / 2; round++) {
		one_round(&random);
		assert_int_equal(env_open(0), 0);
		assert_int_equal(check(), 0);
		verify_known();
		for (int n; (n = quire_blob_list(store, highest, ids, 64)) > 0;)
			highest = ids[n - 1];
		/* What was there before is not given out again. */
		uint64_t id = begin(0);
		assert_true(id > highest);
		env_close();
		assert_int_equal(quire_cache_close(cache), 0);
		cache = NULL;
	}
	print_message("%u blobs acknowledged\n", n_known);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {WITH_NAME(killed)};

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : random_seed();
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
