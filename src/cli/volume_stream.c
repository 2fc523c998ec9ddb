/* volume_stream.c - `quire volume send|receive`: snapshots as streams, on standard output and input.
 *
 * A stream that was cut off is gone on with from where it was: the receiver says how far it has come (receive --token), the sender takes that
 * (send --resume) and writes the rest. Nothing else is to be remembered on either side.
 */
#include "json.h"
#include "volume_verbs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int put(void *arg, const void *bytes, size_t len_bytes)
{
	struct session *s = arg;

	if (atomic_load(&s->canceled))
		return -ECANCELED;
	errno = EIO;
	return fwrite(bytes, 1, len_bytes, s->out) == len_bytes ? 0 : -errno;
}

static int64_t get(void *arg, void *bytes, size_t len_bytes)
{
	struct session *s = arg;
	ssize_t n;

	do
		n = atomic_load(&s->canceled) ? -1 : read(s->in, bytes, len_bytes);
	while (n < 0 && errno == EINTR && !atomic_load(&s->canceled));
	return n >= 0 ? n : atomic_load(&s->canceled) ? -ECANCELED : -errno;
}

static int fail(struct session *s, const struct volume_args *args, int rc, const struct quire_error *err)
{
	return err->text[0] != '\0' && rc != -ECANCELED ? session_fail_text(s, err->text) : volume_fail(s, args->name, rc);
}

int volume_send(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_volume_send_options opts = {.size = sizeof(opts), .resume = args->resume};
	struct quire_volume *snapshot = NULL;
	struct quire_error err = {0};

	if (isatty(fileno(s->out)))
		return session_fail(s, "standard output", "a terminal");
	int rc = args->from != NULL ? quire_volume_open(group, args->from, &opts.from) : 0;
	if (rc < 0)
		return volume_fail(s, args->from, rc);
	rc = quire_volume_open(group, args->name, &snapshot);
	if (rc == 0)
		rc = quire_volume_send(snapshot, &opts, put, s, &err);
	quire_volume_close(snapshot);
	quire_volume_close(opts.from);
	if (rc < 0)
		discard_out(s);
	return rc < 0 ? fail(s, args, rc, &err) : CLI_DONE;
}

static int write_token(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	char token[QUIRE_VOLUME_TOKEN_BYTES];
	struct json j;
	int rc = quire_volume_receive_token(group, args->name, token);

	if (rc == -ENOENT)
		return session_fail(s, args->name, "nothing of a stream was received that was cut off");
	if (rc < 0)
		return volume_fail(s, args->name, rc);
	json_init(&j, s->out);
	if (args->json) {
		json_open(&j, NULL, '{');
		json_string(&j, "token", token);
		json_close(&j, '}');
	} else {
		fprintf(s->out, "%s\n", token);
	}
	return CLI_DONE;
}

/* What a stream has made is served by whoever serves all. */
static void offer_all(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_volume_info info = {.id = 0};

	while (quire_volume_ls(group, info.id, &info) == 1)
		if (!info.partial)
			volumes_offer(s, args->cls, group, info.name);
}

int volume_receive(struct session *s, const struct volume_args *args, struct quire_volumes *group)
{
	struct quire_error err = {0};
	bool served;

	if (args->token)
		return write_token(s, args, group);
	int rc = volumes_withdraw(s, args->cls, args->name, &served); /* nobody may have it open */

	if (rc == 0)
		rc = quire_volume_receive(group, args->name, NULL, get, s, &err);
	offer_all(s, args, group);
	if (rc == -EPIPE)
		return session_fail(s, args->name, "the stream was cut off; the rest can follow, by what `quire volume receive --token` says");
	return rc < 0 ? fail(s, args, rc, &err) : CLI_DONE;
}
