/* replay_queues.h - queues of pages, a page in one of them at most: doubly linked through arrays
 * over page numbers, so that memory depends on the trace alone. */
#ifndef BENCH_REPLAY_QUEUES_H
#define BENCH_REPLAY_QUEUES_H

#include <stdint.h>
#include <stdlib.h>

#define N_QUEUES_MAX 3u
#define QUEUE_NONE UINT8_MAX

struct queues {
	uint32_t *next, *prev; /* owned; the head of queue q stands at n_pages + q */
	uint8_t *where;        /* owned: the queue that a page is in, or QUEUE_NONE */
	uint32_t n_pages;
	uint32_t count[N_QUEUES_MAX];
};

static inline void queues_fini(struct queues *q)
{
	free(q->next);
	free(q->prev);
	free(q->where);
}

/* 0, or -1 without memory, and then nothing is held. */
static inline int queues_init(struct queues *q, uint32_t n_pages)
{
	size_t n = (size_t)n_pages + N_QUEUES_MAX;
	*q = (struct queues){
		.next = malloc(n * sizeof(*q->next)),
		.prev = malloc(n * sizeof(*q->prev)),
		.where = malloc(n_pages),
		.n_pages = n_pages,
	};
	if (q->next == NULL || q->prev == NULL || q->where == NULL) {
		queues_fini(q);
		return -1;
	}
	for (uint32_t page = 0; page < n_pages; page++)
		q->where[page] = QUEUE_NONE;
	for (uint32_t i = 0; i < N_QUEUES_MAX; i++)
		q->next[n_pages + i] = q->prev[n_pages + i] = n_pages + i;
	return 0;
}

/* Of a queue that is not empty. */
static inline uint32_t queue_oldest(const struct queues *q, uint8_t queue)
{
	return q->prev[q->n_pages + queue];
}

static inline void queue_remove(struct queues *q, uint32_t page)
{
	q->next[q->prev[page]] = q->next[page];
	q->prev[q->next[page]] = q->prev[page];
	q->count[q->where[page]]--;
	q->where[page] = QUEUE_NONE;
}

/* The page, which is in none, becomes the newest. */
static inline void queue_push(struct queues *q, uint8_t queue, uint32_t page)
{
	uint32_t head = q->n_pages + queue;
	q->next[page] = q->next[head];
	q->prev[page] = head;
	q->prev[q->next[head]] = page;
	q->next[head] = page;
	q->where[page] = queue;
	q->count[queue]++;
}

static inline uint32_t queue_pop(struct queues *q, uint8_t queue)
{
	uint32_t page = queue_oldest(q, queue);
	queue_remove(q, page);
	return page;
}

#endif
