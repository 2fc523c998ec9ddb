/* volume.c - `quire volume VERB STORE …`: which verb, its words and options, checked before the store is looked for.
 *
 * One table has what is known of each verb; its body is in volume_make.c (what makes, changes and removes: create, over a file, a blob or
 * a volume, clone, promote, …), volume_facts.c (what there is, what has changed), volume_stream.c (send, receive), volume_scrub.c,
 * volume_copy.c (images). A verb that reads makes nothing: where there is no group of volumes yet, it says so.
 */
#include "volume_verbs.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

static const struct volume_verb {
	int (*run)(struct session *s, const struct volume_args *args, struct quire_volumes *group);
	bool writes, makes; /* the store changes; a group of volumes is made, if there is none */
	int least, most; /* words behind the store's */
	struct session_word is;
} verbs[VOLUME_N_WHATS] = {
	[VOLUME_CREATE] = {volume_create, true, true, 1, 1, {"create", "csdro",
		"usage: quire volume create STORE NAME --size BYTES [--durable] [--reserve] [--over BASE] [--class CLASS]\n\n"
		"Makes a volume that reads as zeros and takes no space. Its name: up to 63 letters, digits, `.`, `_`, `-`, the\n"
		"first no `.` and no `-`.\n\n"
		"  --size BYTES   a multiple of 4096, up to 64T\n"
		"  --durable      every write is durable when it is acknowledged\n"
		"  --reserve      space for all of it is kept, as long as volumes are open or served: no write to it finds none\n"
		"  --over BASE    it reads as that where it was not written; without --size it is as large. Nothing is copied, and\n"
		"                 the base is never written. FILE: an image, which has to stay as it is; blob:ID: a blob of the\n"
		"                 store; volume:NAME, volume:NAME@SNAPSHOT: a clone, perhaps a larger one. (A file of such a\n"
		"                 name: ./blob:ID)\n"
		"  --class CLASS  capacity (default), staging, pmem; the same for all verbs\n"}},
	[VOLUME_LS] = {volume_ls, false, false, 0, 0, {"ls", "clj",
		"usage: quire volume ls STORE [--long] [--json] [--class CLASS]\n\n"
		"Names of the volumes, and of the snapshots, as VOLUME@SNAPSHOT.\n\n"
		"  -l, --long  with bytes, generation and what it is\n"
		"  --json      all that is known\n"}},
	[VOLUME_RM] = {volume_rm, true, false, 1, 1, {"rm", "c",
		"usage: quire volume rm STORE VOLUME[@SNAPSHOT] [--class CLASS]\n\n"
		"Removes a volume that has no snapshots, or a snapshot. What others have of it stays.\n"}},
	[VOLUME_SNAPSHOT] = {volume_snapshot, true, false, 1, 1, {"snapshot", "c",
		"usage: quire volume snapshot STORE VOLUME@SNAPSHOT [--class CLASS]\n\n"
		"Keeps the volume's content as it is now, under that name.\n"}},
	[VOLUME_CLONE] = {volume_clone, true, false, 2, 2, {"clone", "c",
		"usage: quire volume clone STORE VOLUME[@SNAPSHOT] NAME [--class CLASS]\n\n"
		"Makes a volume that begins with the content of another one.\n"}},
	[VOLUME_PROMOTE] = {volume_promote, true, false, 1, 1, {"promote", "c",
		"usage: quire volume promote STORE CLONE [--class CLASS]\n\n"
		"Gives a clone the snapshots that it has in common with the volume it comes from, which is a clone of it then.\n"}},
	[VOLUME_ROLLBACK] = {volume_rollback, true, false, 1, 1, {"rollback", "c",
		"usage: quire volume rollback STORE VOLUME@SNAPSHOT [--class CLASS]\n\n"
		"Gives the volume the snapshot's content and size again. What was written since is gone.\n"}},
	[VOLUME_RESIZE] = {volume_resize, true, false, 2, 2, {"resize", "c",
		"usage: quire volume resize STORE NAME BYTES [--class CLASS]\n\n"
		"Makes it larger, by zeros, or smaller: what is beyond is gone. Clients see it when they connect again.\n"}},
	[VOLUME_RESERVE] = {volume_reserve, true, false, 2, 2, {"reserve", "c",
		"usage: quire volume reserve STORE NAME on|off [--class CLASS]\n\n"
		"Space for all of the volume is kept for it, or no more.\n"}},
	[VOLUME_STAT] = {volume_stat, false, false, 0, 1, {"stat", "cj",
		"usage: quire volume stat STORE [VOLUME[@SNAPSHOT]] [--json] [--class CLASS]\n\n"
		"What all volumes take and have done; or what one of them is, and how many bytes it alone has, shares, is promised.\n\n"
		"  --json  the same, and more, as JSON; so it is for all verbs that have it\n"}},
	[VOLUME_MAP] = {volume_map, false, false, 1, 1, {"map", "cj",
		"usage: quire volume map STORE VOLUME[@SNAPSHOT] [--json] [--class CLASS]\n\n"
		"Its extents: offset, bytes, data or zero or hole, shared or own, the generation it was written in.\n"}},
	[VOLUME_DIFF] = {volume_diff, false, false, 1, 2, {"diff", "cSj",
		"usage: quire volume diff STORE FROM[@SNAPSHOT] TO[@SNAPSHOT] [--json] [--class CLASS]\n"
		"       quire volume diff STORE VOLUME[@SNAPSHOT] --since GENERATION|@SNAPSHOT [--json] [--class CLASS]\n\n"
		"The extents of TO, as `map` writes them, that were written in either since both had the same content last: exact\n"
		"to the block of 4096 bytes, also after a crash. If neither comes from what the other comes from: all that is not\n"
		"a hole in both. Or those of VOLUME that were written since a generation, or since a snapshot of it.\n"}},
	[VOLUME_SEND] = {volume_send, false, false, 1, 1, {"send", "cFT",
		"usage: quire volume send STORE VOLUME@SNAPSHOT [--from VOLUME@SNAPSHOT] [--resume TOKEN] [--class CLASS] > STREAM\n\n"
		"Writes the snapshot as a stream, for `quire volume receive`.\n\n"
		"  --from VOLUME@SNAPSHOT  only what is other than there; the receiver has to have it\n"
		"  --resume TOKEN          the rest of a stream that was cut off; `quire volume receive --token` says the token\n"}},
	[VOLUME_RECEIVE] = {volume_receive, true, true, 1, 1, {"receive", "ctj",
		"usage: quire volume receive STORE NAME [--class CLASS] < STREAM\n"
		"       quire volume receive STORE NAME --token [--class CLASS]\n\n"
		"Makes a volume and its snapshot of a stream, or the next snapshot of a volume. If the stream is cut off what has\n"
		"come is kept, and the same stream goes on from there, or one of the rest; `quire volume rm STORE .NAME` drops it.\n\n"
		"  --token  nothing is received: writes the token for `quire volume send --resume`, which says of which stream\n"
		"           something came, and how much of it\n"}},
	[VOLUME_SCRUB] = {volume_scrub, false, false, 1, 1, {"scrub", "cRj",
		"usage: quire volume scrub STORE VOLUME[@SNAPSHOT] [--rate BYTES] [--json] [--class CLASS]\n\n"
		"Reads all of it and verifies checksums, while it is in use. What is damaged is listed: offset, bytes, error; exit\n"
		"code 1 then.\n\n"
		"  --rate BYTES  a second, at most\n"}},
	[VOLUME_CHECKPOINT] = {volume_checkpoint, true, false, 0, 0, {"checkpoint", "c",
		"usage: quire volume checkpoint STORE [--class CLASS]\n\n"
		"Makes a checkpoint now: little is read again after a crash then, and space that was given up is free.\n"}},
	[VOLUME_IMPORT] = {volume_import, true, true, 2, 2, {"import", "cfd",
		"usage: quire volume import STORE NAME FILE [--format FORMAT] [--durable] [--class CLASS]\n\n"
		"Makes a volume with the content of an image. Holes and zeros stay holes.\n\n"
		"  --format FORMAT  raw (default), or what qemu-img knows: qcow2, vmdk, vdi, …\n"
		"  --durable        as of `create`: every write is durable when it is acknowledged\n"}},
	[VOLUME_EXPORT] = {volume_export, false, false, 2, 2, {"export", "cf",
		"usage: quire volume export STORE VOLUME[@SNAPSHOT] FILE [--format FORMAT] [--class CLASS]\n\n"
		"Writes an image, a new file. Holes and zeros become holes.\n\n"
		"  --format FORMAT  raw (default), or what qemu-img knows: qcow2, vmdk, vdi, …\n"}},
};

static const char help[] =
	"usage: quire volume create STORE NAME --size BYTES [--durable] [--reserve] [--over FILE|blob:ID|volume:NAME]\n"
	"       quire volume ls STORE [--long] [--json]\n"
	"       quire volume rm STORE VOLUME[@SNAPSHOT]\n"
	"       quire volume snapshot STORE VOLUME@SNAPSHOT\n"
	"       quire volume clone STORE VOLUME[@SNAPSHOT] NAME\n"
	"       quire volume promote STORE CLONE\n"
	"       quire volume rollback STORE VOLUME@SNAPSHOT\n"
	"       quire volume resize STORE NAME BYTES\n"
	"       quire volume reserve STORE NAME on|off\n"
	"       quire volume stat STORE [VOLUME[@SNAPSHOT]] [--json]\n"
	"       quire volume map STORE VOLUME[@SNAPSHOT] [--json]\n"
	"       quire volume diff STORE FROM[@SNAPSHOT] TO[@SNAPSHOT] [--json]\n"
	"       quire volume diff STORE VOLUME[@SNAPSHOT] --since GENERATION|@SNAPSHOT [--json]\n"
	"       quire volume send STORE VOLUME@SNAPSHOT [--from VOLUME@SNAPSHOT] [--resume TOKEN] > STREAM\n"
	"       quire volume receive STORE NAME < STREAM\n"
	"       quire volume receive STORE NAME --token\n"
	"       quire volume scrub STORE VOLUME[@SNAPSHOT] [--rate BYTES] [--json]\n"
	"       quire volume checkpoint STORE\n"
	"       quire volume import STORE NAME FILE [--format FORMAT]\n"
	"       quire volume export STORE VOLUME[@SNAPSHOT] FILE [--format FORMAT]\n\n"
	"`quire volume VERB --help` tells more; `quire serve STORE --nbd ADDRESS` serves them.\n";

#define SHORTS ":hl"
static const struct option longs[] = {
	{ "class", required_argument, NULL, 'c' },  { "size", required_argument, NULL, 's' },
	{ "durable", no_argument, NULL, 'd' },      { "long", no_argument, NULL, 'l' },
	{ "since", required_argument, NULL, 'S' },  { "format", required_argument, NULL, 'f' },
	{ "reserve", no_argument, NULL, 'r' },      { "rate", required_argument, NULL, 'R' },
	{ "over", required_argument, NULL, 'o' },   { "from", required_argument, NULL, 'F' },
	{ "resume", required_argument, NULL, 'T' }, { "token", no_argument, NULL, 't' },
	{ "json", no_argument, NULL, 'j' },         { "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* ---- words ---- */

static bool is_snapshot(const char *word)
{
	size_t n = cli_name_bytes(word);

	return n > 0 && word[n] == '@' && cli_is_name(word + n + 1);
}

static int check_name(struct session *s, enum volume_what what, const char *word)
{
	bool of_snapshot = what == VOLUME_SNAPSHOT || what == VOLUME_ROLLBACK || what == VOLUME_SEND;
	bool of_volume = what == VOLUME_CREATE || what == VOLUME_RESIZE || what == VOLUME_IMPORT || what == VOLUME_PROMOTE ||
	                 what == VOLUME_RESERVE || what == VOLUME_RECEIVE;

	if (what == VOLUME_RM && word[0] == '.' && cli_is_name(word + 1))
		return CLI_DONE; /* what is left of one that was being received */
	if (of_snapshot)
		return is_snapshot(word) ? CLI_DONE : session_usage(s, word, "not VOLUME@SNAPSHOT");
	if (cli_is_name(word) || (!of_volume && is_snapshot(word)))
		return CLI_DONE;
	return session_usage(s, word, "no name of a volume: letters, digits, . _ -, up to %d", QUIRE_VOLUME_NAME_MAX);
}

static int check_size(struct session *s, const char *word, uint64_t *ret_bytes)
{
	if (!cli_parse_bytes(word, ret_bytes) || *ret_bytes > QUIRE_VOLUME_MAX_BYTES || *ret_bytes % QUIRE_VOLUME_BLOCK_BYTES != 0)
		return session_usage(s, word, "not a size of a volume: a multiple of %u, up to 64T", QUIRE_VOLUME_BLOCK_BYTES);
	return CLI_DONE;
}

/* What a volume is to lie over: a file, if it is not said to be something else. */
static int check_over(struct session *s, const char *word, struct volume_args *args)
{
	if (strncmp(word, "blob:", 5) == 0)
		return parse_id(word + 5, &args->over_blob) && args->over_blob != 0 ? CLI_DONE : session_usage(s, "--over", "%s: not blob:ID", word);
	if (strncmp(word, "volume:", 7) == 0) {
		args->over_volume = word + 7;
		if (args->reserve)
			return session_usage(s, "--reserve", "not of a clone at once: `quire volume reserve`, afterwards");
		return cli_is_name(args->over_volume) || is_snapshot(args->over_volume)
		               ? CLI_DONE
		               : session_usage(s, "--over", "%s: no name of a volume or snapshot", word);
	}
	args->over_file = word;
	return CLI_DONE;
}

static int check_since(struct session *s, const struct volume_args *args)
{
	uint64_t generation;

	if (args->other != NULL)
		return args->since != NULL ? session_usage(s, "--since", "there are two volumes to compare") : check_name(s, args->what, args->other);
	if (args->since == NULL)
		return session_usage(s, "diff", "with which volume or snapshot, or --since which generation or @SNAPSHOT?");
	bool good = args->since[0] == '@' ? cli_is_name(args->since + 1) : cli_parse_count(args->since, UINT64_MAX, &generation);
	return good ? CLI_DONE : session_usage(s, args->since, "neither a generation nor @SNAPSHOT");
}

static int check_words(struct session *s, const struct volume_verb *verb, int n, char **rest, struct volume_args *args)
{
	int rc = CLI_DONE;

	if (n < 1)
		return session_usage(s, verb->is.word, "which store?");
	if (n - 1 < verb->least || n - 1 > verb->most)
		return session_usage(s, verb->is.word, "%d words behind the store's, not %d", n - 1 < verb->least ? verb->least : verb->most, n - 1);
	args->name = n > 1 ? rest[1] : NULL;
	args->other = n > 2 ? rest[2] : NULL;
	if (args->name != NULL)
		rc = check_name(s, args->what, args->name);
	if (rc == CLI_DONE && args->what == VOLUME_CLONE && !cli_is_name(args->other))
		rc = check_name(s, VOLUME_CREATE, args->other);
	if (rc == CLI_DONE && args->what == VOLUME_RESIZE)
		rc = check_size(s, args->other, &args->size_bytes);
	if (rc == CLI_DONE && args->what == VOLUME_RESERVE) {
		args->reserve = strcmp(args->other, "on") == 0;
		if (!args->reserve && strcmp(args->other, "off") != 0)
			rc = session_usage(s, args->other, "neither on nor off");
	}
	if (rc == CLI_DONE && args->what == VOLUME_CREATE && args->over != NULL)
		rc = check_over(s, args->over, args);
	else if (rc == CLI_DONE && args->what == VOLUME_CREATE && args->size_bytes == 0)
		rc = session_usage(s, verb->is.word, "--size of how many bytes?");
	if (rc == CLI_DONE && args->what == VOLUME_DIFF)
		rc = check_since(s, args);
	if (rc == CLI_DONE && args->what == VOLUME_RECEIVE && args->json && !args->token)
		rc = session_usage(s, "--json", "with --token");
	return rc;
}

/* ---- options ---- */

static int take(struct session *s, void *arg, int option)
{
	struct volume_args *args = arg;

	args->json |= option == 'j';
	args->details |= option == 'l';
	args->durable |= option == 'd';
	args->reserve |= option == 'r';
	args->token |= option == 't';
	if (option == 'S')
		args->since = optarg;
	if (option == 'o')
		args->over = optarg;
	if (option == 'F') {
		args->from = optarg;
		return check_name(s, VOLUME_SEND, optarg);
	}
	if (option == 'T')
		args->resume = optarg;
	if (option == 'f')
		args->format = optarg;
	if (option == 's')
		return check_size(s, optarg, &args->size_bytes);
	if (option == 'R' && !cli_parse_bytes(optarg, &args->rate_bytes))
		return session_usage(s, optarg, "not a number of bytes");
	if (option == 'c' && !parse_class(optarg, &args->cls))
		return session_usage(s, optarg, "no class: capacity, staging, pmem");
	return CLI_DONE;
}

static int parse_volume(struct session *s, int argc, char **argv, void *arg, const char **ret_path, bool *ret_writes)
{
	struct volume_args *args = arg;
	const struct session_words words = {
		.name = "volume",
		.first = &verbs[0].is,
		.row_bytes = sizeof(verbs[0]),
		.n = VOLUME_N_WHATS,
		.which = "create, ls, rm, snapshot, clone, promote, rollback, resize, reserve, stat, map, diff, send, receive, scrub, "
		         "checkpoint, import or export",
		.shorts = SHORTS,
		.longs = longs,
		.help = help,
	};
	unsigned what;

	int rc = session_word_options(s, argc, argv, &words, take, args, &what);
	if (rc != CLI_GO_ON)
		return rc;
	const struct volume_verb *verb = &verbs[what];
	args->what = (enum volume_what)what;
	rc = check_words(s, verb, argc - optind - 1, argv + optind + 1, args);
	if (rc != CLI_DONE)
		return rc;
	args->writes = verb->writes && !args->token;
	args->makes = verb->makes && !args->token;
	s->undisturbed = !args->writes;
	*ret_path = argv[optind + 1];
	*ret_writes = args->writes;
	return CLI_DONE;
}

static int run_volume(struct session *s, const void *arg)
{
	const struct volume_args *args = arg;
	struct quire_volumes *group;
	int rc = volumes_get(s, args->cls, args->makes, &group);

	if (rc != CLI_DONE)
		return rc;
	if (group == NULL && args->what != VOLUME_LS)
		return args->name != NULL ? volume_fail(s, args->name, -ENOENT) : session_fail(s, s->path, "no volumes");
	rc = verbs[args->what].run(s, args, group);
	int closed = volumes_put(s, group);
	if (closed < 0 && rc == CLI_DONE)
		rc = session_fail(s, s->path, "closing its volumes: %s", strerror(-closed));
	return rc;
}

const struct store_verb volume_verb = {"volume", sizeof(struct volume_args), parse_volume, run_volume};
