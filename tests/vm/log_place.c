/* log_place.c - see log_place.h. */
#include "log_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_BYTES (8u << 20)
#define SEGMENT_BYTES 65536u

void place_fail(const struct place *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "%s: ", p->dir);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void place_expect(const struct place *p, int64_t rc, const char *what)
{
	if (rc < 0)
		place_fail(p, "%s: %s", what, strerror((int)-rc));
}

void place_parse(const char *text, struct place *ret)
{
	static const char *const words[] = {
		[QUIRE_DURABLE_DEFAULT] = "default",
		[QUIRE_DURABLE_POWER] = "power",
		[QUIRE_DURABLE_PROCESS] = "process",
	};
	const char *device = strchr(text, ':'), *durable = device != NULL ? strchr(device + 1, ':') : NULL;

	*ret = (struct place){.durable = QUIRE_DURABLE_DEFAULT};
	for (unsigned i = 0; durable != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(durable + 1, words[i]) != 0)
			continue;
		snprintf(ret->dir, sizeof(ret->dir), "%.*s", (int)(device - text), text);
		snprintf(ret->device, sizeof(ret->device), "%.*s", (int)(durable - device - 1), device + 1);
		ret->durable = (enum quire_durable)i;
		return;
	}
	fprintf(stderr, "%s: not DIR:DEVICE:DURABLE\n", text);
	exit(2);
}

/* ---- making ---- */

static void make_class(struct place *p)
{
	struct quire_class_options o = {.size = sizeof(o), .bytes = CLASS_BYTES, .durable = p->durable};
	struct quire_error err;

	if (p->device[0] != '\0')
		o.device = p->device;
	if (quire_store_class_add_with(p->store, QUIRE_CLASS_PMEM, &o, &err) < 0)
		place_fail(p, "adding a class: %s", err.text);
}

static void make_log(struct place *p)
{
	struct quire_log_options o = {.size = sizeof(o), .cls = QUIRE_CLASS_PMEM, .segment_bytes = SEGMENT_BYTES};
	struct quire_error err;

	if (quire_log_create(p->store, "log", &o, &err) < 0)
		place_fail(p, "creating a log: %s", err.text);
}

/* ---- opening ---- */

static void open_store(struct place *p, bool make)
{
	struct quire_store_options o = {.size = sizeof(o), .capacity_bytes = CLASS_BYTES};
	struct quire_error err;
	int rc = quire_store_open(p->cache, p->dir, 0, &p->store, &err);

	/* Nothing there; or what a creation left that was killed, which the next one may replace. */
	if ((rc == -ENOENT || rc == -EUCLEAN) && make) {
		rc = quire_store_create(p->dir, &o, &err);
		if (rc == 0)
			rc = quire_store_open(p->cache, p->dir, 0, &p->store, &err);
	}
	if (rc < 0)
		place_fail(p, "opening the store: %s", err.text);
}

static void say_class(const struct place *p, const struct quire_class_stat *c)
{
	static const char *const media[] = {"direct", "buffered", "pmem"};

	printf("class %s %s %u %s\n", p->dir, media[c->medium], c->granularity_bytes,
	       c->durable == QUIRE_DURABLE_POWER ? "power" : "process");
}

void place_open_log(struct place *p)
{
	struct quire_error err;

	if (quire_log_open(p->store, "log", NULL, &p->log, &err) < 0)
		place_fail(p, "opening the log: %s", err.text);
}

void place_open(struct place *p, bool make)
{
	struct quire_cache_options o = {.size = sizeof(o), .budget_bytes = QUIRE_BUDGET_MIN_BYTES};
	struct quire_store_stat st;
	struct quire_log_info info;
	struct quire_error err;

	if (quire_cache_open(&o, &p->cache, &err) < 0)
		place_fail(p, "opening a cache: %s", err.text);
	open_store(p, make);
	place_expect(p, quire_store_stat(p->store, &st), "stat");
	/* Whoever was to make it may have been killed between any two steps. */
	if (!st.classes[QUIRE_CLASS_PMEM].present && make)
		make_class(p);
	if (quire_log_find(p->store, "log", &info) == -ENOENT && make)
		make_log(p);
	place_expect(p, quire_store_stat(p->store, &st), "stat");
	say_class(p, &st.classes[QUIRE_CLASS_PMEM]);
	place_open_log(p);
}

void place_close(struct place *p)
{
	place_expect(p, quire_log_close(p->log), "closing the log");
	place_expect(p, quire_store_close(p->store), "closing the store");
	place_expect(p, quire_cache_close(p->cache), "closing the cache");
}
