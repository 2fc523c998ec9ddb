/* refuse_threads.c - threads that are refused: see refuse.h. */
#include "refuse.h"

#include "countdown.h"
#include <errno.h>
#include <pthread.h>

static struct countdown requests;

void refuse_nth_thread(uint64_t n)
{
	countdown_begin(&requests, n, false);
}

bool refuse_threads_off(void)
{
	return countdown_end(&requests);
}

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg)
{
	return countdown_refuses(&requests) ? EAGAIN : __real_pthread_create(ret, attr, fn, arg);
}
