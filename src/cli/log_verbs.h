/* log_verbs.h - what the verbs of logs share: `quire log create|ls|append|cat|follow|trim|stat|rm`. */
#ifndef CLI_LOG_VERBS_H
#define CLI_LOG_VERBS_H

#include "store_verbs.h"

#include <quire/log.h>

enum log_what { LOG_CREATE, LOG_LS, LOG_APPEND, LOG_CAT, LOG_FOLLOW, LOG_TRIM, LOG_STAT, LOG_RM, LOG_N_WHATS };

struct log_args {
	enum log_what what;
	const char *name;      /* borrowed: of argv; NULL for ls */
	struct quire_log_options create;
	bool json, details;
	bool null, whole, each; /* how input is cut into records, how output is; what is acknowledged */
	/* What is read: [from, to], no older than since_ns, the last ones of that. */
	bool has_from, from_oldest, has_since, has_to, has_last, reverse, visible;
	uint64_t from, since_ns, to, last;
	const char *key;       /* borrowed: of argv; or NULL */
	bool keyed;            /* input has keys */
	bool has_below;
	uint64_t below;
};

/* Each returns an exit code; what went wrong was said. */
int log_create(struct session *s, const struct log_args *args);
int log_ls(struct session *s, const struct log_args *args);
int log_append(struct session *s, const struct log_args *args);
int log_cat(struct session *s, const struct log_args *args);
int log_follow(struct session *s, const struct log_args *args);
int log_trim(struct session *s, const struct log_args *args);
int log_stat(struct session *s, const struct log_args *args);
int log_rm(struct session *s, const struct log_args *args);

/* "quire: log NAME: WHY"; CLI_FAILED. */
int log_fail(struct session *s, const char *name, const char *why_format, ...) __attribute__((format(printf, 3, 4)));

#endif
