/* serve_env.h - a service in this process, at a path of its own, and clients of it. */
#ifndef TESTS_SERVE_ENV_H
#define TESTS_SERVE_ENV_H

#include "../support/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <quire/tmem_service.h>

#define MIB (UINT64_C(1) << 20)
#define PAGE 4096u

struct env {
	struct quire_tmem *tmem;
	struct quire_tmem_service *service;
	char dir[128], path[160];
};

/* options may be NULL; their size is filled in. A budget of 64 MiB. */
void env_start(struct env *e, struct quire_tmem_service_options *options);
void env_stop(struct env *e);
/* A service again at the same path. */
void env_restart(struct env *e, struct quire_tmem_service_options *options);

struct quire_tmem_client *env_connect(const struct env *e, const struct quire_tmem_client_options *options);
struct quire_tmem_remote *env_pool(struct quire_tmem_client *c, enum quire_tmem_kind kind);
struct quire_tmem_service_stat env_stat(const struct env *e);
/* Until so many clients are left, 20 s at most. */
void env_await_clients(const struct env *e, uint64_t n);
/* Until pools hold so many pages. */
void env_await_pages(const struct env *e, uint64_t n);

struct quire_tmem_key env_key(uint64_t object, uint32_t index);
/* Bytes that say which page they are: compressible by half, each content another. */
void env_fill(uint8_t *page, uint32_t n_bytes, uint64_t content);
/* Noise, which LZ4 doesn't make smaller. */
void env_noise(uint8_t *page, uint32_t n_bytes, uint64_t content);

int env_put(struct quire_tmem_remote *pool, uint32_t index, uint64_t content);
/* 1: the page is that; 0: it is something else; or a negative errno. */
int env_get(struct quire_tmem_remote *pool, uint32_t index, uint64_t content);

/* random_seed(), printed. */
uint64_t env_seed(void);
uint64_t env_now_ms(void);
/* True in `make test`, and in an emulator: where time is short. */
bool env_is_quick(void);

#endif
