/* volume_verbs.h - what the verbs of volumes share: `quire volume create|ls|rm|snapshot|clone|promote|rollback|resize|…`. */
#ifndef CLI_VOLUME_VERBS_H
#define CLI_VOLUME_VERBS_H

#include "store_verbs.h"
#include "volume_table.h"

enum volume_what {
	VOLUME_CREATE, VOLUME_LS, VOLUME_RM, VOLUME_SNAPSHOT, VOLUME_CLONE, VOLUME_PROMOTE, VOLUME_ROLLBACK, VOLUME_RESIZE, VOLUME_RESERVE,
	VOLUME_STAT, VOLUME_MAP, VOLUME_DIFF, VOLUME_SEND, VOLUME_RECEIVE, VOLUME_SCRUB, VOLUME_CHECKPOINT, VOLUME_IMPORT, VOLUME_EXPORT, VOLUME_N_WHATS
};

/* Strings are borrowed from argv. */
struct volume_args {
	enum volume_what what;
	enum quire_class cls;
	const char *name, *other; /* as many words as the verb has behind the store's; other: a name, a size, a file */
	uint64_t size_bytes;
	uint64_t rate_bytes;      /* a second; 0: no limit */
	bool durable, reserve, json, details, token;
	bool writes, makes;       /* what the verb does to the store: makes: a group of volumes, where there is none */
	const char *since;        /* a generation, or "@SNAPSHOT"; NULL */
	const char *format;       /* of an image; NULL: raw */
	const char *from;         /* a snapshot that a stream goes on from; NULL */
	const char *resume;       /* a token; NULL: from the beginning */
	const char *over;         /* what a volume is to lie over, as it was typed; NULL: nothing. It is one of these: */
	const char *over_file, *over_volume; /* NULL: not that */
	uint64_t over_blob;       /* 0: not that */
};

/* Each returns an exit code; what went wrong was said. The group is open, and put by whoever has got it; for ls it may be NULL. */
int volume_create(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_rm(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_snapshot(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_clone(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_promote(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_rollback(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_resize(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_checkpoint(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_reserve(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_scrub(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_send(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_receive(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_ls(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_stat(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_map(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_diff(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_import(struct session *s, const struct volume_args *args, struct quire_volumes *group);
int volume_export(struct session *s, const struct volume_args *args, struct quire_volumes *group);

/* "quire: volume NAME: WHY"; CLI_FAILED. The error is a call's, negative. */
int volume_fail(struct session *s, const char *name, int error);

/* ---- volume_image.c: images that are not raw, by qemu-img and a server of our own ---- */

/* From the file into the volume, which is as large, or from it into a new file. An exit code. */
int volume_image(struct session *s, const struct volume_args *args, struct quire_volumes *group);
/* The size of what is in the image. */
int volume_image_bytes(struct session *s, const struct volume_args *args, uint64_t *ret_bytes);

#endif
