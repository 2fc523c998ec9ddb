/* fork_test.c - a process forks amidst its work: what the child may do, and what is left of it to the parent; and what a program has that is started
 * by it.
 *
 * The child has all of the parent's objects, and none of its threads. While the parent's other thread writes, appends and puts, children are
 * forked, perhaps with its locks held, and call everything: each call is -ECHILD at once, and nothing of the parent's changes. What the child
 * opens itself works. */
#include "../blob/blob_env.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <quire/log.h>
#include <quire/nbd.h>
#include <quire/tmem_service.h>
#include <quire/volume.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define BLOCK QUIRE_VOLUME_BLOCK_BYTES
#define N_BLOCKS 16u
#define N_FORKS (getenv("QUIRE_TEST_LONG") != NULL ? 500u : 20u)
#define PATIENCE_S 600u

static const char *program;

static struct quire_log *events;
static struct quire_volumes *volumes;
static struct quire_volume *disk;
static struct quire_tmem *tmem;
static struct quire_tmem_pool *pool;
static struct quire_map *map;
static struct quire_loop *loop;
static struct quire_nbd *nbd;
static struct quire_tmem_service *service;
static char nbd_path[108], service_path[108];
static uint64_t blob;
static _Atomic bool ending;

/* ---- the parent ---- */

static void open_pool(void)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = 2 * MIB, .n_threads = 1};
	struct quire_tmem_backing_options backing = {.size = sizeof(backing), .segment_bytes = 256 * KIB};
	struct quire_tmem_pool_options p = {.size = sizeof(p), .kind = QUIRE_TMEM_PERSISTENT, .flags = QUIRE_TMEM_SPILL};

	assert_int_equal(quire_tmem_create(&o, &tmem, NULL), 0);
	assert_int_equal(quire_tmem_set_backing(tmem, store, QUIRE_CLASS_CAPACITY, &backing, NULL), 0);
	assert_int_equal(quire_tmem_pool_create(tmem, &p, &pool, NULL), 0);
}

static void open_services(void)
{
	struct quire_tmem_service_options o = {.size = sizeof(o), .n_threads = 1};

	snprintf(nbd_path, sizeof(nbd_path), "%s", file_path("nbd.sock"));
	snprintf(service_path, sizeof(service_path), "%s", file_path("tmem.sock"));
	assert_int_equal(quire_nbd_create(NULL, &nbd, NULL), 0);
	assert_int_equal(quire_nbd_add_memory(nbd, "m", MIB, NULL), 0);
	assert_int_equal(quire_nbd_listen_unix(nbd, nbd_path, NULL), 0);
	assert_int_equal(quire_tmem_serve(tmem, service_path, &o, &service, NULL), 0);
}

static void close_services(void)
{
	quire_tmem_service_destroy(service);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
}

/* The sockets are there. Behind the one a server listens that does not run, so it is only connected to, until its queue is full; behind the other
 * the service answers. */
static void verify_services(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct quire_tmem_client *client;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(at.sun_path, nbd_path, sizeof(at.sun_path));
	assert_true(connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 || errno == EAGAIN);
	close(fd);
	assert_int_equal(quire_tmem_connect(service_path, NULL, &client, NULL), 0);
	quire_tmem_disconnect(client);
}

static void open_all(void)
{
	/* However long it takes to fork: the store is never full of records. */
	struct quire_log_options l = {.size = sizeof(l), .segment_bytes = 65536, .retain_bytes = 8 * MIB};
	struct quire_volumes_options v = {.size = sizeof(v), .segment_bytes = 65536, .map_bytes = MIB, .checkpoint_bytes = MIB};
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = N_BLOCKS * BLOCK};
	const struct quire_item item = {.path = file_path("mapped")};

	assert_int_equal(quire_log_create(store, "events", &l, NULL), 0);
	assert_int_equal(quire_log_open(store, "events", NULL, &events, NULL), 0);
	assert_int_equal(quire_volumes_open(store, &v, &volumes, NULL), 0);
	assert_int_equal(quire_volume_create(volumes, "v", &o), 0);
	assert_int_equal(quire_volume_open(volumes, "v", &disk), 0);
	open_pool();
	blob = put(100000);
	file_write("mapped", 3, 100000);
	assert_int_equal(quire_map_create(cache, &item, 1, NULL, &map, NULL), 0);
	assert_int_equal(quire_loop_create(NULL, &loop, NULL), 0);
	open_services();
}

static void close_all(void)
{
	close_services();
	assert_int_equal(quire_loop_destroy(loop), 0);
	assert_int_equal(quire_map_destroy(map, NULL), 0);
	quire_tmem_pool_destroy(pool);
	assert_int_equal(quire_tmem_clear_backing(tmem), 0);
	quire_tmem_destroy(tmem);
	quire_volume_close(disk);
	assert_int_equal(quire_volumes_close(volumes), 0);
	assert_int_equal(quire_log_close(events), 0);
}

/* What round i leaves: a record, a block, a page. False: one of them failed. */
static bool do_round(uint64_t i)
{
	unsigned char page[BLOCK];
	struct iovec iov = {page, sizeof(page)};
	struct quire_tmem_key key = {.object = {1, 2, 3}, .index = (uint32_t)(i % 1024)};
	uint64_t lsn;

	fill(i, 0, page, sizeof(page));
	return quire_volume_write(disk, i % N_BLOCKS * BLOCK, &iov, 1, QUIRE_VOLUME_FUA, NULL) == 0 &&
	       quire_log_append(events, &iov, 1, &lsn, NULL) == 0 && lsn == i && quire_tmem_put(pool, &key, page) == 0;
}

/* Counts the rounds that were done whole; ends before its time if one failed. */
static void *work(void *arg)
{
	uint64_t *n = arg;

	while (!atomic_load(&ending) && do_round(*n))
		++*n;
	return NULL;
}

static void verify_rounds(uint64_t n)
{
	unsigned char page[BLOCK], right[BLOCK];

	assert_int_equal(quire_log_visible(events), n);
	for (uint64_t i = n > N_BLOCKS ? n - N_BLOCKS : 0; i < n; i++) {
		struct iovec iov = {page, sizeof(page)};
		struct quire_tmem_key key = {.object = {1, 2, 3}, .index = (uint32_t)(i % 1024)};
		fill(i, 0, right, sizeof(right));
		assert_int_equal(quire_volume_read(disk, i % N_BLOCKS * BLOCK, &iov, 1, NULL), 0);
		assert_memory_equal(page, right, sizeof(page));
		assert_int_equal(quire_tmem_get(pool, &key, page, QUIRE_TMEM_GET_USUAL), 0);
		assert_memory_equal(page, right, sizeof(page));
	}
	assert_int_equal(verify(blob, 100000), 0);
}

/* ---- the child ---- */

static unsigned n_wrong;

static void expect(const char *call, int64_t rc, int64_t right)
{
	if (rc == right)
		return;
	n_wrong++;
	printf("in a child, %s: %lld\n", call, (long long)rc);
}

#define REFUSED(call) expect(#call, call, -ECHILD)

static unsigned char memory[BLOCK];

static void call_store_and_cache(void)
{
	struct iovec iov = {memory, sizeof(memory)};
	uint64_t id = blob;
	struct quire_cache *c = NULL;
	struct quire_store *s = NULL;

	REFUSED(quire_blob_alloc(store, NULL, &id));
	REFUSED(quire_blob_write(store, blob, &iov, 1, NULL));
	REFUSED(quire_blob_commit(store, &blob, 1, NULL));
	REFUSED(quire_blob_delete(store, &blob, 1, NULL));
	REFUSED(quire_blob_read(store, blob, 0, &iov, 1, NULL));
	REFUSED(quire_store_check(store, NULL));
	REFUSED(quire_store_class_add(store, QUIRE_CLASS_STAGING, NULL, 16 * MIB, NULL));
	REFUSED(quire_store_open(cache, dir, 0, &s, NULL));
	REFUSED(quire_store_close(store));
	REFUSED(quire_cache_set_budget(cache, 32 * MIB));
	REFUSED(quire_cache_close(cache));
	REFUSED(quire_loop_run(loop));
	REFUSED(quire_loop_poll(loop));
	REFUSED(quire_loop_destroy(loop));
	expect("opening a cache", quire_cache_open(NULL, &c, NULL), 0);
	expect("opening a store that the parent holds", quire_store_open(c, dir, 0, &s, NULL), -EBUSY);
	expect("closing a cache", quire_cache_close(c), 0);
}

static void call_map(void)
{
	const void *p;
	size_t len;
	const struct quire_item item = {.path = file_path("mapped")};
	struct quire_map *m = NULL;

	expect("asking for an item", quire_map_item(map, 0, &p, &len), 0);
	struct iovec iov = {(void *)(uintptr_t)p, len};
	REFUSED(quire_map_create(cache, &item, 1, NULL, &m, NULL));
	REFUSED(quire_map_want(map, &iov, 1, QUIRE_WANT_PIN, NULL));
	REFUSED(quire_map_unwant(map, &iov, 1));
	REFUSED(quire_map_purge(map, p, len));
	REFUSED(quire_map_advise(map, 0, QUIRE_ADVISE_HOT));
	expect("residency", quire_map_resident(map, p, len), false);
	REFUSED(quire_map_destroy(map, NULL));
}

static void call_log_and_pool(void)
{
	struct iovec iov = {memory, sizeof(memory)};
	struct quire_log_cursor *c = NULL;
	struct quire_tmem_key key = {.object = {1, 2, 3}};
	struct quire_tmem_pool_options o = {.size = sizeof(o)};
	struct quire_tmem_pool *another = NULL;
	uint64_t lsn;

	REFUSED(quire_log_append(events, &iov, 1, &lsn, NULL));
	REFUSED(quire_log_cursor_open(events, QUIRE_LOG_VISIBLE, &c));
	REFUSED(quire_log_trim(events, 1));
	REFUSED(quire_log_close(events));
	REFUSED(quire_tmem_put(pool, &key, memory));
	REFUSED(quire_tmem_get(pool, &key, memory, QUIRE_TMEM_GET_USUAL));
	REFUSED(quire_tmem_flush(pool, &key));
	REFUSED(quire_tmem_flush_object(pool, key.object));
	REFUSED(quire_tmem_pool_create(tmem, &o, &another, NULL));
	REFUSED(quire_tmem_set_budget(tmem, 4 * MIB, NULL));
	REFUSED(quire_tmem_pool_save(pool, store, QUIRE_CLASS_CAPACITY, "saved", NULL));
	REFUSED(quire_tmem_clear_backing(tmem));
	quire_tmem_pool_destroy(pool);
	quire_tmem_destroy(tmem);
}

static void call_volumes(void)
{
	struct iovec iov = {memory, sizeof(memory)};
	struct quire_volume_info info;
	struct quire_volumes *group = NULL;
	struct quire_volumes_stat stat;
	struct quire_volume *v = NULL;

	REFUSED(quire_volume_write(disk, 0, &iov, 1, QUIRE_VOLUME_FUA, NULL));
	REFUSED(quire_volume_read(disk, 0, &iov, 1, NULL));
	REFUSED(quire_volume_discard(disk, 0, BLOCK, 0, NULL));
	REFUSED(quire_volume_flush(disk, NULL));
	REFUSED(quire_volume_find(volumes, "v", &info));
	REFUSED(quire_volume_ls(volumes, 0, &info));
	REFUSED(quire_volume_open(volumes, "v", &v));
	REFUSED(quire_volume_snapshot(volumes, "v", "v@s"));
	REFUSED(quire_volumes_checkpoint(volumes));
	REFUSED(quire_volumes_stat(volumes, &stat));
	REFUSED(quire_volumes_open(store, NULL, &group, NULL));
	quire_volume_close(disk);
	REFUSED(quire_volumes_close(volumes));
}

static void call_services(void)
{
	REFUSED(quire_nbd_add_memory(nbd, "another", MIB, NULL));
	REFUSED(quire_nbd_remove(nbd, "m"));
	REFUSED(quire_nbd_listen_unix(nbd, file_path("another.sock"), NULL));
	REFUSED(quire_nbd_listen_tcp(nbd, "127.0.0.1", "0", NULL));
	REFUSED(quire_nbd_listen_fd(nbd, 0, NULL));
	REFUSED(quire_nbd_listen_inherited(nbd, NULL));
	REFUSED(quire_nbd_connect_fd(nbd, 0, NULL));
	quire_nbd_stop(nbd);
	REFUSED(quire_nbd_run(nbd));
	REFUSED(quire_nbd_destroy(nbd));
	REFUSED(quire_tmem_clear_memcached(tmem));
	quire_tmem_service_stop(service);
	quire_tmem_service_destroy(service);
}

/* The exit code; where one call waits for ever, SIGALRM tells. */
static int be_a_child(void)
{
	alarm(PATIENCE_S);
	call_services();
	call_map();
	call_log_and_pool();
	call_volumes();
	call_store_and_cache();
	fflush(stdout);
	return n_wrong > 100 ? 100 : (int)n_wrong;
}

static void test_children_are_told_and_parents_unharmed(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
	/* The locks of its allocator are in a child as another thread held them just then. */
	print_message("skipped: AddressSanitizer's children may not ask for memory\n");
	skip();
#endif
	pthread_t worker;
	uint64_t n = 0;
	int status;

	open_all();
	atomic_store(&ending, false);
	assert_int_equal(pthread_create(&worker, NULL, work, &n), 0);
	for (unsigned i = 0; i < N_FORKS; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(be_a_child());
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status != 0)
			fail_msg("child %u: status %x", i, (unsigned)status);
		verify_services();
	}
	atomic_store(&ending, true);
	pthread_join(worker, NULL);
	print_message("%llu rounds\n", (unsigned long long)n);
	verify_rounds(n);
	close_all();
	env_reopen();
	assert_int_equal(check(), 0);
	(void)state;
}

/* ---- a program that is started ---- */

static int list_descriptors(void)
{
	DIR *fds = opendir("/proc/self/fd");
	unsigned n = 0;

	for (struct dirent *e; fds != NULL && (e = readdir(fds)) != NULL;) {
		int fd = atoi(e->d_name);
		char path[64], to[256] = "";
		if (e->d_name[0] == '.' || fd <= 2 || fd == dirfd(fds))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, to, sizeof(to) - 1) < 0)
			continue;
		printf("inherited: %d, %s\n", fd, to);
		n++;
	}
	if (fds == NULL)
		return 1;
	closedir(fds);
	return n > 0 ? 2 : 0;
}

/* What this program has of whoever started it is no business of the test. */
static void keep_from_children(void)
{
	for (int fd = 3; fd < 1024; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void test_a_program_inherits_no_descriptor(void **state)
{
	char *const argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)"--descriptors", NULL};
	struct quire_cache *signals;
	struct quire_cache_options o = {.size = sizeof(o), .signal_faults = true};
	int status;

	open_all();
	assert_int_equal(quire_cache_open(&o, &signals, NULL), 0);
	assert_true(do_round(0));
	pid_t pid = fork();
	if (pid == 0) {
		execv(program, argv);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(quire_cache_close(signals), 0);
	close_all();
	(void)state;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_children_are_told_and_parents_unharmed),
		WITH_STORE(test_a_program_inherits_no_descriptor),
	};

	if (argc == 2 && strcmp(argv[1], "--descriptors") == 0)
		return list_descriptors();
	program = "/proc/self/exe";
	keep_from_children();
	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
