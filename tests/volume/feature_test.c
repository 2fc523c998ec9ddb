/* What a library that is older would get wrong stands in the store's features before it is there, whenever the power is cut. */
#include "stream_env.h"

#include <endian.h>
#include <string.h>

static struct superblock_le superblock(struct env *e, unsigned copy)
{
	struct superblock_le sb;

	sim_peek(e->sim, (uint64_t)copy * FORMAT_SUPERBLOCK_STEP, &sb, sizeof(sb));
	return sb;
}

static bool has_bases(struct env *e)
{
	return (le32toh(superblock(e, 0).incompat) & FORMAT_INCOMPAT_BASES) != 0 &&
	       (le32toh(superblock(e, 1).incompat) & FORMAT_INCOMPAT_BASES) != 0;
}

static bool has_streams(struct env *e)
{
	return (le32toh(superblock(e, 0).ro_compat) & FORMAT_RO_COMPAT_STREAMS) != 0 &&
	       (le32toh(superblock(e, 1).ro_compat) & FORMAT_RO_COMPAT_STREAMS) != 0;
}

static int make_over_a_file(struct env *e)
{
	struct quire_volume_options o = {.size = sizeof(o), .over_file = "/proc/self/exe"};

	return quire_volume_create(e->volumes, "over", &o);
}

/* To itself, under another name. */
static int receive(struct env *e)
{
	struct quire_volume_options o = {.size = sizeof(o), .size_bytes = 8 * BLOCK};
	struct pipe_bytes s = {0};
	int rc = quire_volume_create(e->volumes, "from", &o);

	if (rc == 0)
		rc = quire_volume_snapshot(e->volumes, "from", "from@1");
	if (rc == 0)
		rc = stream_send(e, "from@1", NULL, NULL, &s);
	if (rc == 0)
		rc = stream_receive(e, &s, "new");
	stream_free(&s);
	return rc;
}

static const struct {
	int (*make)(struct env *e);
	bool (*is_said)(struct env *e);
} cases[] = {{make_over_a_file, has_bases}, {receive, has_streams}};

struct cut {
	unsigned which;
	uint64_t event; /* UINT64_MAX: none */
	bool is_made;
};

static bool is_there(struct env *e, unsigned which)
{
	struct quire_volume_info info = {.id = 0};

	while (quire_volume_ls(e->volumes, info.id, &info) == 1)
		if (which == 0 ? info.over : info.partial || strcmp(info.name, "new") == 0)
			return true;
	return false;
}

static void make(struct env *e, void *arg)
{
	struct cut *cut = arg;

	begin(e);
	assert_false(cases[cut->which].is_said(e));
	if (cut->event != UINT64_MAX)
		sim_cut_at(e->sim, sim_n_events(e->sim) + cut->event, cut->event);
	cut->is_made = cases[cut->which].make(e) == 0;
	(void)quire_volumes_close(e->volumes);
	e->volumes = NULL;
	(void)store_close(e->store);
	e->store = NULL;
}

static void look(struct env *e, void *arg)
{
	struct cut *cut = arg;

	assert_int_equal(env_open(e), 0);
	if (cut->is_made || is_there(e, cut->which))
		assert_true(cases[cut->which].is_said(e));
	if (cut->is_made)
		assert_true(is_there(e, cut->which));
	assert_int_equal(env_close(e), 0);
}

static void try(unsigned which)
{
	static const struct sim_faults faults = {.cut_ends_io = true};
	struct cut cut = {.which = which, .event = 0};
	unsigned n_made = 0, n_cut = 0;

	for (; n_made == 0; cut.event++) {
		struct env e;
		env_init(&e, 7, ENV_UNITS, &faults);
		env_run(&e, make, &cut);
		n_made += cut.is_made && !sim_is_cut(e.sim);
		n_cut += sim_is_cut(e.sim);
		sim_cut_at(e.sim, UINT64_MAX, 0);
		env_run(&e, look, &cut);
		env_fini(&e);
		assert_true(cut.event < 200);
	}
	assert_true(n_cut > 3);
}

static void that_volumes_have_bases_is_said_before_there_is_one(void **state)
{
	(void)state;
	try(0);
}

static void that_there_are_streams_is_said_before_there_is_one(void **state)
{
	(void)state;
	try(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(that_volumes_have_bases_is_said_before_there_is_one),
		cmocka_unit_test(that_there_are_streams_is_said_before_there_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
