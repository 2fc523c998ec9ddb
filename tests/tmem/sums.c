/* sums.c - see sums.h. */
#include "sums.h"
#include "../../src/tmem/remote_tier.h"
#include "../../src/tmem/spill.h"

struct quire_tmem_stat sums_stat(struct quire_tmem *t)
{
	struct quire_tmem_stat s;

	quire_tmem_stat(t, &s);
	assert_int_equal(s.page_bytes, s.same_saved_bytes + s.dedup_saved_bytes + s.compress_saved_bytes + s.recompress_saved_bytes +
	                               s.content_bytes + s.spilled_bytes + s.remote_bytes);
	assert_int_equal(s.held_bytes, s.content_bytes + s.head_bytes + s.rounding_bytes + s.hole_bytes + s.index_bytes);
	assert_true(s.spilled_bytes == 0 || t->spill != NULL);
	assert_true(s.remote_bytes == 0 || t->remote != NULL);
	pthread_mutex_lock(&t->lock);
	assert_true(storage_check(&t->storage));
	assert_true(t->spill == NULL || tmem_spill_check(t));
	assert_true(t->remote == NULL || tmem_remote_check(t));
	pthread_mutex_unlock(&t->lock);
	return s;
}
