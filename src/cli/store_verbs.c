/* store_verbs.c - see store_verbs.h. */
#include "store_verbs.h"

#include <errno.h>
#include <stdio_ext.h>
#include <string.h>

static const struct store_verb *const verbs[] = {
	&info_store_verb, &stat_verb, &blob_verb, &check_verb, &class_verb, &import_verb, &export_verb,
	&log_verb, &volume_verb,
};

const struct store_verb *store_verb_find(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

int verb_on_store(int argc, char **argv)
{
	return session_verb(store_verb_find(argv[0]), argc, argv);
}

const char *const class_words[QUIRE_N_CLASSES] = {"capacity", "staging", "pmem"};

bool parse_class(const char *word, enum quire_class *ret_class)
{
	for (unsigned i = 0; i < QUIRE_N_CLASSES; i++) {
		if (strcmp(word, class_words[i]) == 0) {
			*ret_class = (enum quire_class)i;
			return true;
		}
	}
	return false;
}

bool parse_id(const char *word, uint64_t *ret_id)
{
	return cli_parse_count(word, UINT64_MAX, ret_id);
}

void format_uuid(const uint8_t *uuid, char *text)
{
	for (unsigned i = 0; i < 16; i++)
		text += sprintf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

bool write_out(struct session *s, const void *buf, size_t n)
{
	if (fwrite(buf, 1, n, s->out) == n)
		return true;
	session_fail(s, "standard output", "%s", session_why(s, -errno));
	discard_out(s);
	return false;
}

void discard_out(struct session *s)
{
	__fpurge(s->out);
	clearerr(s->out);
}
