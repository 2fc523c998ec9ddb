/* local.c - what layers above keep with a loop: a short list, looked up by key. */
#include "loop_internal.h"

struct loop_local *loop_local_find(struct quire_loop *loop, const void *key)
{
	struct loop_local *local = loop->locals;

	while (local != NULL && local->key != key)
		local = local->next;
	return local;
}

void loop_local_add(struct quire_loop *loop, struct loop_local *local)
{
	local->next = loop->locals;
	loop->locals = local;
}

void locals_destroy(struct quire_loop *loop)
{
	while (loop->locals != NULL) {
		struct loop_local *local = loop->locals;

		loop->locals = local->next;
		local->destroy(local);
	}
}
