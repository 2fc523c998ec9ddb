/* face_test.c - volumes in a real store: many threads write and read at once, beside snapshots and checkpoints; operations. */
#include "../blob/blob_env.h"

#include <quire/volume.h>

#include <pthread.h>

#define BLOCK QUIRE_VOLUME_BLOCK_BYTES
#define N_THREADS 4u
#define N_EACH 300u
#define N_BLOCKS 256u

static struct quire_volumes *volumes;

static void open_volumes(void)
{
	struct quire_volumes_options o = {.size = sizeof(o), .segment_bytes = 262144, .checkpoint_bytes = 1u << 20};

	int rc = quire_volumes_open(store, &o, &volumes, &err);
	if (rc < 0)
		print_message("  %s\n", err.text);
	assert_int_equal(rc, 0);
}

static void close_volumes(void)
{
	assert_int_equal(quire_volumes_close(volumes), 0);
}

static void create(const char *name)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = (uint64_t)N_BLOCKS * BLOCK};

	assert_int_equal(quire_volume_create(volumes, name, &o), 0);
}

static void block_fill(uint8_t *block, uint64_t what)
{
	for (unsigned i = 0; i < BLOCK; i += 8) {
		uint64_t word = what * 0x9e3779b97f4a7c15u + i;
		memcpy(block + i, &word, 8);
	}
}

/* ---- threads ---- */

struct writer {
	unsigned no;
	bool failed;
	uint64_t blocks[N_BLOCKS];
	uint64_t snapshot[N_BLOCKS];
};

static int use_block(struct quire_volume *v, uint64_t k, uint64_t what, unsigned flags, bool write)
{
	uint8_t block[BLOCK], want[BLOCK] = {0};
	struct iovec iov = {block, BLOCK};

	if (what != 0)
		block_fill(want, what);
	memcpy(block, want, BLOCK);
	if (write)
		return quire_volume_write(v, k * BLOCK, &iov, 1, flags, NULL);
	memset(block, 0x55, BLOCK);
	int rc = quire_volume_read(v, k * BLOCK, &iov, 1, NULL);
	return rc < 0 ? rc : memcmp(block, want, BLOCK) != 0 ? -EILSEQ : 0;
}

static int verify_all(const char *name, const uint64_t *blocks)
{
	struct quire_volume *v;
	int rc = quire_volume_open(volumes, name, &v);

	if (rc < 0)
		return rc;
	for (uint64_t k = 0; k < N_BLOCKS && rc == 0; k++)
		rc = use_block(v, k, blocks[k], 0, false);
	quire_volume_close(v);
	return rc;
}

static void *write_some(void *arg)
{
	struct writer *w = arg;
	struct quire_volume *v;
	uint64_t state = w->no + 1;
	char name[16], snap[32];

	(void)snprintf(name, sizeof(name), "v%u", w->no);
	(void)snprintf(snap, sizeof(snap), "v%u@s", w->no);
	if (quire_volume_open(volumes, name, &v) < 0)
		return (void *)1;
	for (uint64_t i = 0; i < N_EACH && !w->failed; i++) {
		uint64_t k = random_next(&state) % N_BLOCKS;
		w->blocks[k] = i + 1 + w->no * 100000;
		w->failed = use_block(v, k, w->blocks[k], i % 64 == 0 ? QUIRE_VOLUME_FUA : 0, true) < 0;
		k = random_next(&state) % N_BLOCKS;
		w->failed |= use_block(v, k, w->blocks[k], 0, false) < 0;
		if (i == N_EACH / 2) {
			w->failed |= quire_volume_snapshot(volumes, name, snap) < 0;
			memcpy(w->snapshot, w->blocks, sizeof(w->blocks));
		}
	}
	quire_volume_close(v);
	return w->failed ? (void *)1 : NULL;
}

static void threads_write_at_once(void **state)
{
	static struct writer w[N_THREADS];
	pthread_t threads[N_THREADS];
	char name[32];
	void *result;

	(void)state;
	memset(w, 0, sizeof(w));
	open_volumes();
	for (unsigned i = 0; i < N_THREADS; i++) {
		(void)snprintf(name, sizeof(name), "v%u", i);
		create(name);
		w[i].no = i;
		assert_int_equal(pthread_create(&threads[i], NULL, write_some, &w[i]), 0);
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(quire_volumes_checkpoint(volumes), 0);
	for (unsigned i = 0; i < N_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < N_THREADS; i++) {
			(void)snprintf(name, sizeof(name), "v%u", i);
			assert_int_equal(verify_all(name, w[i].blocks), 0);
			(void)snprintf(name, sizeof(name), "v%u@s", i);
			assert_int_equal(verify_all(name, w[i].snapshot), 0);
		}
		if (round == 0) {
			close_volumes();
			env_reopen();
			open_volumes();
		}
	}
	close_volumes();
	assert_int_equal(check(), 0);
}

/* ---- operations ---- */

static void operations_complete_in_a_queue(void **state)
{
	enum { N = 32 };
	static uint8_t blocks[N][BLOCK] __attribute__((aligned(4096)));
	struct quire_op ops[N];
	struct iovec iov[N];
	struct quire_completion done[N];
	struct quire_queue *queue;
	struct quire_volume *v;

	(void)state;
	open_volumes();
	create("q");
	assert_int_equal(quire_volume_open(volumes, "q", &v), 0);
	assert_int_equal(quire_queue_create(&queue), 0);
	for (unsigned round = 0; round < 2; round++) { /* written, then read */
		for (unsigned i = 0; i < N; i++) {
			iov[i] = (struct iovec){blocks[i], BLOCK};
			if (round == 0)
				block_fill(blocks[i], i + 1);
			else
				memset(blocks[i], 0, BLOCK);
			quire_op_init_queue(&ops[i], queue, i);
			uint64_t at = (uint64_t)i * 3 * BLOCK;
			assert_int_equal(round == 0 ? quire_volume_write(v, at, &iov[i], 1, QUIRE_VOLUME_FUA, &ops[i])
			                            : quire_volume_read(v, at, &iov[i], 1, &ops[i]), 0);
		}
		for (unsigned n = 0; n < N;) {
			(void)quire_poll_fd(quire_queue_fd(queue), 1, NULL);
			int k = quire_queue_harvest(queue, done, N);
			for (int i = 0; i < k; i++)
				assert_int_equal(done[i].result, 0);
			n += (unsigned)k;
		}
	}
	for (unsigned i = 0; i < N; i++) {
		uint8_t want[BLOCK];
		block_fill(want, i + 1);
		assert_memory_equal(blocks[i], want, BLOCK);
	}
	quire_op_init_queue(&ops[0], queue, 0);
	assert_int_equal(quire_volume_write(v, UINT64_C(1) << 40, iov, 1, 0, &ops[0]), -EINVAL); /* refused: never completes */
	assert_int_equal(quire_queue_destroy(queue), 0);
	assert_int_equal(quire_volumes_close(volumes), -EBUSY);
	quire_volume_close(v);
	close_volumes();
}

static void the_group_is_open_once(void **state)
{
	struct quire_volumes *other;
	struct quire_log_info info;
	uint64_t id;

	(void)state;
	open_volumes();
	create("a");
	assert_int_equal(quire_volumes_open(store, NULL, &other, &err), -EBUSY);
	/* Neither its log nor its checkpoints are anybody else's. */
	assert_int_equal(quire_volumes_checkpoint(volumes), 0);
	assert_int_equal(quire_log_ls(store, 0, &info), 0);
	assert_int_equal(quire_log_find(store, ".volumes-capacity", &info), -ENOENT);
	assert_int_equal(quire_blob_list(store, 0, &id, 1), 0);
	assert_int_equal(quire_blob_list_tagged(store, 255, 0, &id, 1), 1);
	assert_int_equal(quire_blob_apply(store, NULL, 0, &id, 1, NULL), -ESTALE);
	close_volumes();
	env_close();
	assert_int_equal(env_open(QUIRE_STORE_READ_ONLY), 0);
	open_volumes();
	assert_int_equal(quire_volume_rm(volumes, "a"), -EROFS);
	close_volumes();
}

/* ---- over one file; from one to the other through a pipe ---- */

static void *read_over(void *arg)
{
	struct quire_volume *v;
	uint8_t want[BLOCK], block[BLOCK];
	struct iovec iov = {block, BLOCK};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 64; i++) {
		uint64_t k = i * 7 % 64;
		rc = quire_volume_open(volumes, arg, &v);
		if (rc < 0)
			break;
		block_fill(want, k + 1);
		rc = quire_volume_read(v, k * BLOCK, &iov, 1, NULL);
		rc = rc == 0 && memcmp(block, want, BLOCK) != 0 ? -EILSEQ : rc;
		quire_volume_close(v);
	}
	return rc < 0 ? (void *)1 : NULL;
}

static int put_fd(void *arg, const void *bytes, size_t len_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = write(*(int *)arg, bytes, len_bytes);
		if (n < 0)
			return -errno;
		bytes = (const uint8_t *)bytes + n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

static int64_t get_fd(void *arg, void *bytes, size_t len_bytes)
{
	ssize_t n = read(*(int *)arg, bytes, len_bytes);

	return n < 0 ? -errno : n;
}

static void *send_it(void *arg)
{
	struct quire_volume *v;
	int rc = quire_volume_open(volumes, "o0@1", &v);

	if (rc == 0) {
		rc = quire_volume_send(v, NULL, put_fd, arg, NULL);
		quire_volume_close(v);
	}
	close(*(int *)arg);
	return rc < 0 ? (void *)1 : NULL;
}

static void threads_share_a_base_and_send_it(void **state)
{
	struct quire_volume_options o = {.size = sizeof(o)};
	const char *names[] = {"o0", "o1", "o0@1", "copy"};
	pthread_t threads[4];
	uint8_t block[BLOCK];
	char path[4096];
	void *result;
	int fds[2];

	(void)state;
	open_volumes();
	(void)snprintf(path, sizeof(path), "%s", in_dir("base"));
	FILE *f = fopen(path, "we");
	for (uint64_t k = 0; f != NULL && k < 64; k++) {
		block_fill(block, k + 1);
		assert_int_equal(fwrite(block, 1, BLOCK, f), BLOCK);
	}
	assert_true(f != NULL && fclose(f) == 0);
	o.over_file = path;
	assert_int_equal(quire_volume_create(volumes, "o0", &o), 0);
	assert_int_equal(quire_volume_create(volumes, "o1", &o), 0);
	assert_int_equal(quire_volume_snapshot(volumes, "o0", "o0@1"), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pthread_create(&threads[0], NULL, send_it, &fds[1]), 0);
	assert_int_equal(quire_volume_receive(volumes, "copy", NULL, get_fd, &fds[0], &err), 0);
	assert_int_equal(pthread_join(threads[0], &result), 0);
	assert_null(result);
	assert_int_equal(close(fds[0]), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_over, (void *)(uintptr_t)names[i]), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_null(result);
	}
	assert_int_equal(unlink(path), 0); /* no part of the store */
	close_volumes();
	assert_int_equal(check(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(threads_share_a_base_and_send_it),
		WITH_STORE(threads_write_at_once),
		WITH_STORE(operations_complete_in_a_queue),
		WITH_STORE(the_group_is_open_once),
	};

	return cmocka_run_group_tests(tests, files_setup, files_teardown);
}
