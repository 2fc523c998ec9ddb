/* volume_make.c - `quire volume create|rm|snapshot|clone|promote|rollback|resize|reserve|checkpoint`: one call each, and what a daemon serves follows.
 *
 * What a volume is made over (--over) is a file of the caller, whose path may be relative to where he is, a blob of the store, or another
 * volume; which, was decided when the words were read. Volumes that are made of streams or images: volume_stream.c, volume_copy.c.
 */
#include "volume_verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int volume_fail(struct session *s, const char *name, int error)
{
	static const struct {
		int error;
		const char *why;
	} table[] = {
		{-ENOENT, "no such volume or snapshot"}, {-EEXIST, "it is there already"}, {-ENOTEMPTY, "it has snapshots"},
		{-EBUSY, "in use"}, {-EBADMSG, "damaged: a checksum is wrong"}, {-EUCLEAN, "damaged"},
		{-ESTALE, "that generation was left by a rollback"},
	};
	char what[2 * QUIRE_VOLUME_NAME_MAX + 16];
	const char *why = session_why(s, error);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].error == error)
			why = table[i].why;
	snprintf(what, sizeof(what), "volume %s", name);
	return session_fail(s, what, "%s", why);
}

static int offer(struct session *s, const struct volume_args *args, struct quire_volumes *group, const char *name, int rc)
{
	if (rc < 0)
		return volume_fail(s, rc == -ENOENT ? args->name : name, rc);
	volumes_offer(s, args->cls, group, name);
	return CLI_DONE;
}

static const char *over_why(const struct session *s, const struct volume_args *args, int error)
{
	if (error == -ESTALE && args->over_blob != 0)
		return "no such blob";
	if (error == -ENOENT && args->over_volume != NULL)
		return "no such volume or snapshot";
	if (error == -EINVAL && args->over_volume != NULL)
		return "larger than --size";
	return session_why(s, error);
}

int volume_create(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	char *over = args->over_file != NULL ? session_path(s, args->over_file) : NULL;
	const struct quire_volume_options opts = {
		.size = sizeof(opts), .size_bytes = args->size_bytes, .durable = args->durable,
		.reserve = args->reserve, .over_file = over, .over_blob = args->over_blob, .over_volume = args->over_volume};
	int rc = args->over_file != NULL && over == NULL ? -ENOMEM : quire_volume_create(group, args->name, &opts);

	free(over);
	if (rc < 0 && rc != -EEXIST && args->over != NULL)
		return session_fail(s, "--over", "%s: %s", args->over, over_why(s, args, rc));
	return offer(s, args, group, args->name, rc);
}

int volume_clone(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	return offer(s, args, group, args->other, quire_volume_clone(group, args->name, args->other));
}

/* VOLUME of VOLUME@SNAPSHOT, which the name is for these two. */
static void volume_of(const char *name, char *volume)
{
	size_t n = strcspn(name, "@");

	memcpy(volume, name, n);
	volume[n] = '\0';
}

int volume_snapshot(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	char volume[QUIRE_VOLUME_NAME_MAX + 1];

	volume_of(args->name, volume);
	int rc = quire_volume_snapshot(group, volume, args->name);

	return rc == -ENOENT ? volume_fail(s, volume, rc) : offer(s, args, group, args->name, rc);
}

int volume_rollback(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	char volume[QUIRE_VOLUME_NAME_MAX + 1];

	volume_of(args->name, volume);
	int rc = quire_volume_rollback(group, volume, args->name);

	return rc < 0 ? volume_fail(s, args->name, rc) : CLI_DONE;
}

int volume_rm(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	bool served;
	int rc = volumes_withdraw(s, args->cls, args->name, &served);

	if (rc == 0)
		rc = quire_volume_rm(group, args->name);
	if (rc < 0 && served)
		volumes_offer(s, args->cls, group, args->name);
	return rc < 0 ? volume_fail(s, args->name, rc) : CLI_DONE;
}

int volume_resize(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	int rc = quire_volume_resize(group, args->name, args->size_bytes);

	return rc < 0 ? volume_fail(s, args->name, rc) : CLI_DONE;
}

int volume_reserve(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	int rc = quire_volume_reserve(group, args->name, args->reserve);

	return rc < 0 ? volume_fail(s, args->name, rc) : CLI_DONE;
}

/* ---- promoting ---- */

/* All snapshots, *ret of n; owned by the caller. -ENOMEM. */
static int64_t list_snapshots(struct quire_volumes *group, struct quire_volume_info **ret)
{
	struct quire_volume_info info = {.id = 0}, *list = NULL;
	size_t n = 0, room = 0;

	while (quire_volume_ls(group, info.id, &info) == 1) {
		if (!info.snapshot)
			continue;
		struct quire_volume_info *more = n < room ? list : realloc(list, (room = 2 * room + 16) * sizeof(*list));
		if (more == NULL) {
			free(list);
			return -ENOMEM;
		}
		list = more;
		list[n++] = info;
	}
	*ret = list;
	return (int64_t)n;
}

/* Those that have another name now are served by that one. Who is connected goes on. */
static void offer_renamed(struct session *s, const struct volume_args *args, struct quire_volumes *group,
                          const struct quire_volume_info *before, int64_t n)
{
	struct quire_volume_info info = {.id = 0};
	bool served;

	for (int64_t i = 0; i < n; i++)
		if (quire_volume_find(group, before[i].name, &info) == -ENOENT)
			(void)volumes_withdraw(s, args->cls, before[i].name, &served);
	info.id = 0;
	while (quire_volume_ls(group, info.id, &info) == 1)
		if (info.snapshot)
			volumes_offer(s, args->cls, group, info.name);
}

int volume_promote(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_volume_info *before = NULL;
	int64_t n = list_snapshots(group, &before);
	int rc = n < 0 ? (int)n : quire_volume_promote(group, args->name);

	if (n >= 0)
		offer_renamed(s, args, group, before, n);
	free(before);
	if (rc == -EINVAL)
		return session_fail(s, args->name, "not a clone of a volume that is there still");
	return rc < 0 ? volume_fail(s, args->name, rc) : CLI_DONE;
}

int volume_checkpoint(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	int rc = quire_volumes_checkpoint(group);

	(void)args;
	return rc < 0 ? session_fail(s, s->path, "a checkpoint of its volumes: %s", session_why(s, rc)) : CLI_DONE;
}
