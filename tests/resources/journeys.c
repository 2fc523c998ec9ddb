/* journeys.c - see journeys.h: blobs, logs, volumes, and how each is gone. */
#include "journeys.h"

#include "../blob/blob_env.h"

#include <quire/log.h>
#include <quire/volume.h>

#define BLOCK QUIRE_VOLUME_BLOCK_BYTES
#define BLOB_BYTES 70000u
#define N_RECORDS 40u
#define RECORD_BYTES 3000u
#define N_BLOCKS 24u

static unsigned char *bytes, *found; /* of BLOB_BYTES; memory that is there already */

int told(int rc)
{
	if (rc < 0 && (err.code != rc || err.text[0] == '\0' || strchr(err.text, '\n') != NULL))
		fail_msg("%d, and what is told is %d, \"%s\"", rc, err.code, err.text);
	return rc;
}

/* ---- blobs ---- */

static uint64_t blob_id;
static int blob_rc;

static void prepare_blobs(void)
{
	blob_id = 0;
}

static int go_blobs(void)
{
	struct iovec iov = {bytes, BLOB_BYTES}, back = {found, BLOB_BYTES};

	blob_rc = quire_blob_alloc(store, NULL, &blob_id);
	if (blob_rc < 0)
		return blob_rc;
	fill(blob_id, 0, bytes, BLOB_BYTES);
	blob_rc = quire_blob_write(store, blob_id, &iov, 1, NULL);
	if (blob_rc == 0)
		blob_rc = quire_blob_commit(store, &blob_id, 1, NULL);
	if (blob_rc < 0) {
		(void)quire_blob_abort(store, blob_id);
		return blob_rc;
	}
	int64_t n = quire_blob_read(store, blob_id, 0, &back, 1, NULL);
	if (n < 0)
		return (int)n;
	assert_int_equal(n, BLOB_BYTES);
	assert_memory_equal(found, bytes, BLOB_BYTES);
	return 0;
}

static void judge_blobs(void)
{
	if (blob_id == 0)
		return;
	int rc = verify(blob_id, BLOB_BYTES);
	if (rc != 0 && (rc != -ESTALE || blob_rc == 0))
		fail_msg("blob %llu: %d after %d", (unsigned long long)blob_id, rc, blob_rc);
	if (rc == 0)
		assert_int_equal(delete(blob_id), 0);
}

/* ---- a log ---- */

static const struct quire_log_options log_options = {.size = sizeof(log_options), .segment_bytes = 65536, .keys = true};
static uint64_t n_appended, n_promised; /* records: perhaps there, and surely */

static int append_records(struct quire_log *log)
{
	for (unsigned i = 0; i < N_RECORDS; i++) {
		struct iovec iov = {bytes, RECORD_BYTES};
		uint64_t lsn = quire_log_visible(log), key = lsn % 8;
		fill(lsn, 0, bytes, RECORD_BYTES);
		int rc = i % 2 == 0 ? quire_log_append(log, &iov, 1, &lsn, NULL)
		                    : quire_log_append_key(log, &key, sizeof(key), &iov, 1, &lsn, NULL);
		n_appended = quire_log_visible(log);
		if (rc < 0)
			return rc;
		n_promised = lsn + 1;
	}
	return 0;
}

/* All of it, or up to an error. */
static int64_t read_records(struct quire_log *log)
{
	struct quire_log_cursor *c;
	struct quire_log_record r;
	int64_t rc = quire_log_cursor_open(log, QUIRE_LOG_VISIBLE, &c);

	if (rc < 0)
		return rc;
	while ((rc = quire_log_next(c, &r, NULL)) == 1) {
		assert_int_equal(r.len_bytes, RECORD_BYTES);
		fill(r.lsn, 0, found, RECORD_BYTES);
		assert_memory_equal(r.data, found, RECORD_BYTES);
	}
	quire_log_cursor_close(c);
	return rc;
}

static void prepare_new_log(void)
{
	n_appended = n_promised = 0;
	assert_int_equal(quire_log_create(store, "events", &log_options, NULL), 0);
}

static void prepare_log(void)
{
	struct quire_log *log;

	prepare_new_log();
	assert_int_equal(quire_log_open(store, "events", NULL, &log, &err), 0);
	assert_int_equal(append_records(log), 0);
	assert_int_equal(quire_log_close(log), 0);
}

static int go_log(void)
{
	struct quire_log *log;
	int rc = told(quire_log_open(store, "events", NULL, &log, &err));

	if (rc < 0)
		return rc;
	rc = append_records(log);
	int64_t read = read_records(log);
	int64_t trimmed = n_promised > 100 ? quire_log_trim(log, n_promised - 100) : 0;
	int closed = quire_log_close(log);
	return rc < 0 ? rc : read < 0 ? (int)read : trimmed < 0 ? (int)trimmed : closed;
}

static void judge_log(void)
{
	struct quire_log *log;

	assert_int_equal(quire_log_open(store, "events", NULL, &log, &err), 0);
	assert_in_range(quire_log_visible(log), n_promised, n_appended);
	assert_int_equal(read_records(log), 0);
	n_appended = n_promised = quire_log_visible(log);
	assert_int_equal(quire_log_close(log), 0);
}

/* ---- volumes ---- */

static const struct quire_volumes_options volumes_options = {
	.size = sizeof(volumes_options), .segment_bytes = 65536, .map_bytes = MIB, .checkpoint_bytes = MIB};
static uint64_t round_no, was[N_BLOCKS], may_be[N_BLOCKS]; /* what each block says: before, and if the last write got through */
static bool has_snapshot;

static int write_blocks(struct quire_volume *v)
{
	round_no++;
	for (unsigned i = 0; i < N_BLOCKS; i += 3) {
		struct iovec iov = {bytes, BLOCK};
		fill(round_no, i, bytes, BLOCK);
		may_be[i] = round_no;
		int rc = quire_volume_write(v, i * BLOCK, &iov, 1, QUIRE_VOLUME_FUA, NULL);
		if (rc < 0)
			return rc;
		was[i] = round_no;
	}
	return 0;
}

static bool says(uint64_t what, unsigned i)
{
	memset(bytes, 0, BLOCK);
	if (what != 0)
		fill(what, i, bytes, BLOCK);
	return memcmp(bytes, found, BLOCK) == 0;
}

static int read_blocks(struct quire_volume *v)
{
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		struct iovec iov = {found, BLOCK};
		int rc = quire_volume_read(v, i * BLOCK, &iov, 1, NULL);
		if (rc < 0)
			return rc;
		assert_true(says(was[i], i) || says(may_be[i], i));
	}
	return 0;
}

static void prepare_volumes(void)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = N_BLOCKS * BLOCK};
	struct quire_volumes *volumes;
	struct quire_volume *v;

	memset(was, 0, sizeof(was));
	memset(may_be, 0, sizeof(may_be));
	has_snapshot = false;
	assert_int_equal(quire_volumes_open(store, &volumes_options, &volumes, &err), 0);
	assert_int_equal(quire_volume_create(volumes, "v", &o), 0);
	assert_int_equal(quire_volume_open(volumes, "v", &v), 0);
	assert_int_equal(write_blocks(v), 0);
	quire_volume_close(v);
	assert_int_equal(quire_volumes_close(volumes), 0);
}

static int use_volume(struct quire_volumes *volumes)
{
	struct quire_volume *v;
	int rc = quire_volume_open(volumes, "v", &v);

	if (rc < 0)
		return rc;
	rc = write_blocks(v);
	if (rc == 0)
		rc = read_blocks(v);
	quire_volume_close(v);
	if (rc == 0)
		rc = has_snapshot ? quire_volume_rm(volumes, "v@s") : quire_volume_snapshot(volumes, "v", "v@s");
	return rc == 0 ? quire_volumes_checkpoint(volumes) : rc;
}

static int go_volumes(void)
{
	struct quire_volumes *volumes;
	int rc = told(quire_volumes_open(store, &volumes_options, &volumes, &err));

	if (rc < 0)
		return rc;
	rc = use_volume(volumes);
	int closed = quire_volumes_close(volumes);
	return rc < 0 ? rc : closed;
}

static void judge_volumes(void)
{
	struct quire_volume_info info;
	struct quire_volumes *volumes;
	struct quire_volume *v;

	assert_int_equal(quire_volumes_open(store, &volumes_options, &volumes, &err), 0);
	has_snapshot = quire_volume_find(volumes, "v@s", &info) == 0;
	assert_int_equal(quire_volume_open(volumes, "v", &v), 0);
	assert_int_equal(read_blocks(v), 0);
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		struct iovec iov = {found, BLOCK};
		assert_int_equal(quire_volume_read(v, i * BLOCK, &iov, 1, NULL), 0);
		was[i] = may_be[i] = says(may_be[i], i) ? may_be[i] : was[i];
	}
	quire_volume_close(v);
	assert_int_equal(quire_volumes_close(volumes), 0);
}

/* ---- each of them, from the opening of the store to its close ---- */

const struct journey journey_blobs = {"blobs", prepare_blobs, go_blobs, judge_blobs};
const struct journey journey_new_log = {"new log", prepare_new_log, go_log, judge_log};
const struct journey journey_log = {"log", prepare_log, go_log, judge_log};
const struct journey journey_volumes = {"volumes", prepare_volumes, go_volumes, judge_volumes};

static void close_cache(void)
{
	assert_int_equal(quire_cache_close(cache), 0);
	cache = NULL;
}

static int open_cache(void)
{
	struct quire_cache_options opts = {.size = sizeof(opts), .budget_bytes = 64 * MIB, .reserve_bytes = GIB};

	return cache != NULL ? 0 : told(quire_cache_open(&opts, &cache, &err));
}

static int open_and_go(const struct journey *j)
{
	int rc = open_cache();

	if (rc < 0)
		return rc;
	rc = told(quire_store_open(cache, dir, 0, &store, &err));
	if (rc < 0) {
		store = NULL;
		return rc;
	}
	rc = j->go();
	int closed = quire_store_close(store);
	assert_int_not_equal(closed, -EBUSY);
	store = NULL;
	return rc < 0 ? rc : closed;
}

static void judge(const struct journey *j)
{
	assert_int_equal(env_open(0), 0);
	j->judge();
	assert_int_equal(check(), 0);
	env_close();
}

/* There are many of them. */
static void remove_store(void)
{
	static const char *const files[] = {"capacity", "lock"};

	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		assert_int_equal(unlink(in_dir(files[i])), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* A new one each time: so requests are the same. */
static void begin_store(const struct journey *j)
{
	assert_int_equal(env_name_setup(NULL), 0);
	assert_int_equal(env_create(CAPACITY_BYTES), 0);
	assert_int_equal(env_open(0), 0);
	j->prepare();
	env_close();
}

static bool is_expected(const struct shortage *s, int rc)
{
	bool expected = rc == 0;

	for (const int *error = s->errors; *error != 0; error++)
		expected |= rc == *error;
	return expected;
}

/* True: something was refused. */
static bool go_short(const struct journey *j, const struct shortage *s, uint64_t n, unsigned *n_failed)
{
	begin_store(j);
	if (s->anew)
		close_cache();
	s->begin(n);
	int rc = open_and_go(j);
	bool refused = s->end();
	if (!is_expected(s, rc))
		fail_msg("%s, %s %llu: %d (last error told: %s)", j->name, s->name, (unsigned long long)n, rc, err.text);
	assert_true(refused || rc == 0);
	*n_failed += rc < 0;
	judge(j);
	if (s->anew && rc < 0) {
		assert_int_equal(open_and_go(j), 0);
		judge(j);
	}
	remove_store();
	return refused;
}

void journey_run(const struct journey *j, const struct shortage *s)
{
	const char *seed = getenv("QUIRE_TEST_SEED");
	uint64_t step = getenv("QUIRE_TEST_LONG") != NULL ? 1 : s->step_quick;
	uint64_t first = seed != NULL && *seed != '\0' ? strtoull(seed, NULL, 0) : step / 2 + 1;
	unsigned n_failed = 0;

	print_message("%s, %s: seed %llu\n", j->name, s->name, (unsigned long long)first);
	uint64_t n = first;
	while (go_short(j, s, n, &n_failed))
		n += step;
	print_message("%s, %s: %u calls failed, the last before %llu\n", j->name, s->name, n_failed, (unsigned long long)n);
	assert_true(n_failed > 0);
}

void journey_once(const struct journey *j)
{
	begin_store(j);
	close_cache();
	assert_int_equal(open_and_go(j), 0);
	judge(j);
	remove_store();
}

int journeys_setup(void **state)
{
	bytes = aligned_alloc(4096, (BLOB_BYTES + 4095) & ~4095u);
	found = aligned_alloc(4096, (BLOB_BYTES + 4095) & ~4095u);
	return bytes == NULL || found == NULL ? -1 : files_setup(state);
}

int journeys_teardown(void **state)
{
	free(bytes);
	free(found);
	return files_teardown(state);
}
