/* remote_internal.h - a client of the service from the inside; the essay is in remote.c. For src/serve alone. */
#ifndef SERVE_REMOTE_INTERNAL_H
#define SERVE_REMOTE_INTERNAL_H

#include "ring.h"
#include "spin.h"

#include <pthread.h>
#include <quire/tmem_service.h>
#include <stdbool.h>

struct quire_tmem_client {
	struct ring ring;
	int socket;                  /* owned */
	const _Atomic int *here;     /* owned: a page that is zeros in a forked child */
	_Atomic int broken;          /* 0, or -EPIPE for ever */

	_Atomic uint32_t free_slots; /* a bit each */
	_Atomic unsigned n_wanting;  /* threads that wait for one, under `lock` */
	pthread_mutex_t lock;        /* also guards the tail and the list of pools */
	pthread_cond_t freed;
	uint32_t tail;
	struct quire_tmem_remote *pools; /* owned */

	struct spin_habit habit;
	pthread_mutex_t sleep_lock;  /* guards receiving */
	pthread_cond_t woken;
	bool receiving;              /* one of the threads that sleep is in recv, for all of them */
};

struct quire_tmem_remote {
	struct quire_tmem_client *client; /* borrowed: outlives it */
	struct quire_tmem_remote *next, **at; /* in the client's list */
	uint32_t number, page_bytes;
};

/* remote_wait.c */

/* 0: *ret_slot is the caller's. -ECHILD, -EPIPE. */
int remote_take_slot(struct quire_tmem_client *c, uint32_t *ret_slot);
void remote_free_slot(struct quire_tmem_client *c, uint32_t slot);
/* The slot's message is done: 0; -EPIPE, and the slot is lost. */
int remote_ask(struct quire_tmem_client *c, uint32_t slot);

#endif
