/* serve_tmem.c - `quire serve --tmem`: the service is the library's; this starts and ends it. */
#include "serve_tmem.h"

#include "cli.h"
#include "store_verbs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SCHEME "unix:"
#define DEFAULT_SPILL_BYTES (UINT64_C(1) << 30)
#define SPILL_PAGE_MOST_BYTES (64u << 10)

static bool set_address(struct serve_tmem *t, const char *text)
{
	if (strncmp(text, SCHEME, strlen(SCHEME)) != 0 || text[strlen(SCHEME)] == '\0')
		return false;
	t->path = text + strlen(SCHEME);
	return true;
}

static bool add_user(struct serve_tmem *t, const char *text)
{
	uint64_t uid;

	if (t->n_uids == SERVE_TMEM_USERS || !cli_parse_count(text, UINT32_MAX - 1, &uid))
		return false;
	t->uids[t->n_uids++] = (uint32_t)uid;
	return true;
}

void serve_tmem_print_help(void)
{
	printf("  --tmem unix:PATH    listen there, for processes of this user and root\n"
	       "  --tmem-user UID     and of that one; may be given again, %u times in all\n"
	       "  --tmem-cap BYTES    that one process's connection may hold (default: a quarter of the budget)\n"
	       "  --tmem-keep CLASS   of the store (capacity, …): shared persistent pools outlive their processes, and the\n"
	       "                      daemon: restored when it starts, saved when they ask and when it ends; half of the\n"
	       "                      budget at most\n"
	       "  --tmem-spill CLASS  of the store: private pools that ask for it may have there what memory has no room for\n"
	       "  --tmem-spill-cap BYTES  so much of one connection (default: 1 GiB)\n", SERVE_TMEM_USERS);
}

int serve_tmem_take(struct serve_tmem *t, int option, const char *value)
{
	if (option == 't' && !set_address(t, value))
		return cli_usage(value, "not of the form unix:PATH");
	if (option == 'u' && !add_user(t, value))
		return cli_usage(value, "not a user's number, or too many of them");
	if (option == 'm' && !cli_parse_bytes(value, &t->client_bytes))
		return cli_usage(value, "not a size");
	if (option == 'k' && !parse_class(value, &t->cls))
		return cli_usage(value, "no class: capacity, staging, pmem");
	if (option == 's' && !parse_class(value, &t->spill_cls))
		return cli_usage(value, "no class: capacity, staging, pmem");
	if (option == 'S' && (!cli_parse_bytes(value, &t->spill_bytes) || t->spill_bytes == 0))
		return cli_usage(value, "not a size");
	t->keeps |= option == 'k';
	t->spills |= option == 's';
	return CLI_DONE;
}

int serve_tmem_check(const struct serve_tmem *t, bool has_store)
{
	if (t->path == NULL && (t->n_uids > 0 || t->client_bytes > 0 || t->keeps || t->spills))
		return cli_usage("serve", "--tmem-user, --tmem-cap, --tmem-keep and --tmem-spill go with --tmem");
	if ((t->keeps || t->spills) && !has_store)
		return cli_usage("serve", "--tmem-keep and --tmem-spill go with a store");
	if (t->spill_bytes > 0 && !t->spills)
		return cli_usage("serve", "--tmem-spill-cap goes with --tmem-spill");
	return CLI_DONE;
}

static void on_trouble(void *arg, const struct quire_error *err)
{
	struct serve_tmem *t = arg;

	t->troubled = true;
	(void)cli_fail_text(err->text);
}

/* It would be found only when the first is saved. */
static int check_class(const struct serve_tmem *t, struct quire_store *store)
{
	struct quire_store_stat stat;
	int rc = quire_store_stat(store, &stat);

	if (rc < 0)
		return cli_fail("--tmem-keep", "%s", strerror(-rc));
	return stat.classes[t->cls].present ? CLI_DONE : cli_fail("--tmem-keep", "the store has no class %s", class_words[t->cls]);
}

int serve_tmem_start(struct serve_tmem *t, struct quire_cache *cache, struct quire_store *store, uint64_t budget_bytes)
{
	struct quire_tmem_options o = {.size = sizeof(o), .budget_bytes = budget_bytes};
	struct quire_tmem_service_options so = {
		.size = sizeof(so), .uids = t->uids, .n_uids = t->n_uids, .client_bytes = t->client_bytes,
		.store = t->keeps ? store : NULL, .cls = t->cls, .trouble = on_trouble, .trouble_arg = t};
	struct quire_tmem *tmem = NULL;
	struct quire_error err;

	if (t->keeps && check_class(t, store) != CLI_DONE)
		return CLI_FAILED;
	int rc = cache != NULL ? quire_cache_tmem(cache, &tmem, &err) : quire_tmem_create(&o, &t->own, &err);
	if (rc == 0 && t->spills) {
		so.spill_bytes = t->spill_bytes != 0 ? t->spill_bytes : DEFAULT_SPILL_BYTES;
		rc = quire_tmem_set_backing(tmem, store, t->spill_cls, &(struct quire_tmem_backing_options){
			.size = sizeof(struct quire_tmem_backing_options), .page_most_bytes = SPILL_PAGE_MOST_BYTES}, &err);
		t->backed = rc == 0 ? tmem : NULL;
	}
	if (rc == 0)
		rc = quire_tmem_serve(cache != NULL ? tmem : t->own, t->path, &so, &t->service, &err);
	if (rc < 0) {
		(void)serve_tmem_stop(t);
		return cli_fail_text(err.text);
	}
	printf("serving " SCHEME "%s (pid %ld)\n", t->path, (long)getpid());
	return cli_finish_output();
}

int serve_tmem_stop(struct serve_tmem *t)
{
	t->troubled = false;
	quire_tmem_service_destroy(t->service);
	if (t->backed != NULL)
		(void)quire_tmem_clear_backing(t->backed); /* nothing is there any more */
	t->backed = NULL;
	quire_tmem_destroy(t->own);
	t->service = NULL;
	t->own = NULL;
	return t->troubled ? CLI_FAILED : CLI_DONE;
}
