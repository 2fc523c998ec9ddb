/* map_node_test.c - a page of a tree, by itself: what is taken for one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../src/volume/map_node.h"

#include <errno.h>

/* Of pages whose checksum holds: what no writer makes is refused, so that whatever was taken fits into pages again. */
static void what_cannot_be_is_refused(void **state)
{
	static const struct {
		struct map_extent e;
		unsigned level;
		int rc;
	} cases[] = {
		{{5, 1, MAP_FIRST_PLACE, 7}, 0, 0},
		{{5, 1, MAP_MAX_LBA - 1, 7}, 0, 0},
		{{5, 2, MAP_MAX_LBA - 1, 7}, 0, -EUCLEAN},
		{{5, 1, UINT64_C(1) << 62, 7}, 0, -EUCLEAN},
		{{5, 1, UINT64_MAX, 7}, 0, -EUCLEAN},
		{{5, 1, MAP_FIRST_PLACE, 8}, 0, -EUCLEAN},      /* born later than its page */
		{{5, 0, MAP_FIRST_PLACE, 7}, 0, -EUCLEAN},
		{{5, MAP_MAX_BLOCKS + 1, MAP_ZERO, 7}, 0, -EUCLEAN},
		{{MAP_MAX_LBA, 1, MAP_ZERO, 7}, 0, -EUCLEAN},
		{{5, UINT64_MAX, MAP_MAX_LBA - 1, 7}, 1, 0},    /* of a reference it means nothing */
		{{5, 0, MAP_MAX_LBA, 7}, 1, -EUCLEAN},
		{{5, 0, MAP_ZERO, 7}, 1, -EUCLEAN},             /* refers to no page */
	};
	static struct map_node_le node;

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct map_extent want = {.lba = cases[i].e.lba, .birth = 7};
		map_node_encode(&cases[i].e, 1, cases[i].level, 7, &node);
		int rc = map_node_verify(&node, &want, cases[i].level);
		if (rc != cases[i].rc)
			fail_msg("case %u: %d", i, rc);
		assert_int_equal(map_node_verify(&node, &want, !cases[i].level), -EUCLEAN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
