/* serve_tmem.h - `quire serve --tmem`: pools of pages for other processes. */
#ifndef CLI_SERVE_TMEM_H
#define CLI_SERVE_TMEM_H

#include <quire/quire.h>
#include <stdbool.h>

#define SERVE_TMEM_USERS 32u

struct serve_tmem {
	const char *path;         /* borrowed: of argv; NULL: not asked for */
	uint64_t client_bytes;    /* 0: a quarter of the budget */
	uint32_t uids[SERVE_TMEM_USERS];
	unsigned n_uids;
	bool keeps;               /* shared pools, in this class of the store: */
	enum quire_class cls;
	bool spills;              /* private pools, if they are asked to, to that one: */
	enum quire_class spill_cls;
	uint64_t spill_bytes;     /* of a connection; 0: the default */
	bool troubled;            /* something was told */
	struct quire_tmem *own;   /* owned; NULL: it is a cache's */
	struct quire_tmem *backed; /* borrowed: the cache's, which has the store as its backing; NULL */
	struct quire_tmem_service *service; /* owned */
};

/* Those of `quire serve` that are --tmem's, and lines of its help. */
#define SERVE_TMEM_OPTIONS \
	{ "tmem", required_argument, NULL, 't' }, { "tmem-user", required_argument, NULL, 'u' }, \
	{ "tmem-cap", required_argument, NULL, 'm' }, { "tmem-keep", required_argument, NULL, 'k' }, \
	{ "tmem-spill", required_argument, NULL, 's' }, { "tmem-spill-cap", required_argument, NULL, 'S' }
void serve_tmem_print_help(void);
/* One of them: an exit code, CLI_DONE to go on. Any other is CLI_DONE. */
int serve_tmem_take(struct serve_tmem *t, int option, const char *value);
/* All are taken. has_store: one was named. */
int serve_tmem_check(const struct serve_tmem *t, bool has_store);

/* On the cache's budget, and beside the store; without them (NULL), on one of that many bytes. An exit code; one line was printed. */
int serve_tmem_start(struct serve_tmem *t, struct quire_cache *cache, struct quire_store *store, uint64_t budget_bytes);
int serve_tmem_stop(struct serve_tmem *t); /* if it was started. An exit code: what is kept was saved, or it was printed */

#endif
