/* journeys_store.c - see journeys.h: containers of records; and checks, which may fail, but find nothing that is not there. */
#include "journeys.h"

#include "../blob/blob_env.h"

#define N_RECORDS 6u /* that are live: each a number; all are appended again by a compaction */

/* ---- containers ---- */

static uint64_t container, n_promised, n_tried; /* numbers below: surely there, perhaps there */

static int take_number(void *arg, const void *record, size_t len_bytes)
{
	uint64_t *next = arg, number;

	assert_int_equal(len_bytes, sizeof(number));
	memcpy(&number, record, sizeof(number));
	assert_true(*next == 0 || number == *next);
	*next = number + 1;
	return 0;
}

static void prepare_containers(void)
{
	n_promised = n_tried = 0;
	assert_int_equal(quire_mdc_create(store, QUIRE_CLASS_CAPACITY, 256 * KIB, &container), 0);
}

static int append_numbers(struct quire_mdc *c, uint64_t from, uint64_t end)
{
	int rc = 0;

	for (uint64_t i = from; i < end && rc == 0; i++) {
		n_tried = i + 1 > n_tried ? i + 1 : n_tried;
		rc = quire_mdc_append(c, &i, sizeof(i), true);
	}
	return rc;
}

static int use_container(struct quire_mdc *c)
{
	uint64_t next = 0, first = n_promised;
	int rc = append_numbers(c, first, first + N_RECORDS);

	if (rc < 0)
		return rc;
	n_promised = first + N_RECORDS;
	rc = quire_mdc_cstart(c);
	if (rc == 0)
		rc = append_numbers(c, first, first + N_RECORDS);
	if (rc == 0)
		rc = quire_mdc_cend(c);
	return rc == 0 ? quire_mdc_read(c, take_number, &next) : rc;
}

static int go_containers(void)
{
	struct quire_mdc *c = NULL;
	int rc = told(quire_mdc_open(store, container, NULL, NULL, &c, &err));

	if (rc < 0)
		return rc;
	rc = use_container(c);
	int closed = quire_mdc_close(c);
	return rc < 0 ? rc : closed;
}

static void judge_containers(void)
{
	struct quire_mdc *c = NULL;
	uint64_t next = 0;

	assert_int_equal(quire_mdc_open(store, container, take_number, &next, &c, &err), 0);
	assert_in_range(next, n_promised, n_tried);
	n_promised = n_tried = next;
	assert_int_equal(quire_mdc_close(c), 0);
}

const struct journey journey_containers = {"containers", prepare_containers, go_containers, judge_containers};

/* ---- checks ---- */

static uint64_t checked_blob;

static void prepare_checks(void)
{
	static const struct quire_log_options options = {.size = sizeof(options), .segment_bytes = 65536, .keys = true};
	struct quire_log *log;
	char bytes[3000];
	uint64_t lsn;

	prepare_containers();
	assert_int_equal(go_containers(), 0);
	checked_blob = put(100 * KIB);
	assert_int_equal(quire_log_create(store, "events", &options, NULL), 0);
	assert_int_equal(quire_log_open(store, "events", NULL, &log, &err), 0);
	memset(bytes, 7, sizeof(bytes));
	for (uint64_t i = 0; i < 40; i++) { /* a segment is sealed, another is not */
		uint64_t key = i % 8;
		struct iovec iov = {bytes, sizeof(bytes)};
		assert_int_equal(quire_log_append_key(log, &key, sizeof(key), &iov, 1, &lsn, NULL), 0);
	}
	assert_int_equal(quire_log_close(log), 0);
}

/* Nothing is damaged, whatever else fails. */
static int go_checks(void)
{
	const struct quire_repair_options plan = {.size = sizeof(plan), .dry_run = true};
	int64_t checked = quire_store_check(store, NULL), planned = quire_store_repair(store, &plan),
		repaired = quire_store_repair(store, NULL);

	if (checked > 0 || planned > 0 || repaired > 0)
		fail_msg("%d findings, %d to repair, %d repaired", (int)checked, (int)planned, (int)repaired);
	return (int)(checked < 0 ? checked : planned < 0 ? planned : repaired);
}

static void judge_checks(void)
{
	assert_int_equal(verify(checked_blob, 100 * KIB), 0);
	judge_containers();
}

const struct journey journey_checks = {"checks", prepare_checks, go_checks, judge_checks};
