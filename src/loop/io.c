/* io.c - the depth of a loop: which I/Os the engine has, which wait, which are due.
 *
 * queued → started → (finished) → done(). At most `depth` are started; polls are not counted, as
 * they take nothing of the medium and may last for ever. The queue is first come, first served,
 * whatever done() submits.
 *
 * This is also called in a fault handler that interrupted a coroutine of the loop (never the
 * loop's own code): it touches nothing but the loop's memory.
 */
#include "engine.h"
#include <errno.h>

void io_list_append(struct io_list *list, struct io *io)
{
	struct io_private *p = io_private(io);
	p->next = NULL;
	p->prev = list->last;
	if (list->last != NULL)
		io_private(list->last)->next = io;
	else
		list->first = io;
	list->last = io;
}

void io_list_remove(struct io_list *list, struct io *io)
{
	struct io_private *p = io_private(io);
	if (p->prev != NULL)
		io_private(p->prev)->next = p->next;
	else
		list->first = p->next;
	if (p->next != NULL)
		io_private(p->next)->prev = p->prev;
	else
		list->last = p->prev;
}

static void start(struct quire_loop *loop, struct io *io)
{
	struct io_private *p = io_private(io);
	p->state = IO_STATE_STARTED;
	if (p->counted)
		loop->n_started++;
	loop->engine->ops->start(loop->engine, io);
}

void loop_io_submit(struct quire_loop *loop, struct io *io)
{
	quire_assert(loop_is_mine(loop));
	struct io_private *p = io_private(io);
	p->result = 0;
	p->engine_state = 0;
	p->counted = io->op != IO_POLL;
	loop->n_ios++;
	if (p->counted && (loop->queued.first != NULL || loop->n_started >= loop->depth)) {
		p->state = IO_STATE_QUEUED;
		io_list_append(&loop->queued, io);
		return;
	}
	start(loop, io);
}

void loop_io_cancel(struct quire_loop *loop, struct io *io)
{
	quire_assert(loop_is_mine(loop));
	struct io_private *p = io_private(io);
	if (p->state == IO_STATE_QUEUED) {
		io_list_remove(&loop->queued, io);
		p->counted = false;
		io_finish_later(loop, io, -ECANCELED);
	} else if (p->state == IO_STATE_STARTED) {
		loop->engine->ops->cancel(loop->engine, io);
	}
}

void io_finish_later(struct quire_loop *loop, struct io *io, int64_t result)
{
	struct io_private *p = io_private(io);
	p->state = IO_STATE_FINISHED;
	p->result = result;
	io_list_append(&loop->finished, io);
}

void io_finish(struct quire_loop *loop, struct io *io, int64_t result)
{
	loop->n_ios--;
	if (io_private(io)->counted)
		loop->n_started--;
	io->done(io, result);
	while (loop->queued.first != NULL && loop->n_started < loop->depth) {
		struct io *next = loop->queued.first;
		io_list_remove(&loop->queued, next);
		start(loop, next);
	}
}

unsigned io_run_finished(struct quire_loop *loop)
{
	unsigned n = 0;
	struct io *last = loop->finished.last;
	while (last != NULL) {
		struct io *io = loop->finished.first;
		bool was_last = io == last;
		io_list_remove(&loop->finished, io);
		io_finish(loop, io, io_private(io)->result);
		n++;
		if (was_last)
			break;
	}
	return n;
}

int loop_buffers_register(struct quire_loop *loop, void *base, uint64_t len_bytes)
{
	return loop->engine->ops->buffers_register(loop->engine, base, len_bytes);
}

void loop_buffers_unregister(struct quire_loop *loop, int slot)
{
	loop->engine->ops->buffers_unregister(loop->engine, slot);
}
