/* store_verbs.h - the verbs that work on an open store, each in the file of its name, and what they share. */
#ifndef CLI_STORE_VERBS_H
#define CLI_STORE_VERBS_H

#include "session.h"

extern const struct store_verb info_store_verb, stat_verb, blob_verb, check_verb, class_verb, import_verb, export_verb,
	log_verb, volume_verb;

extern const char *const class_words[QUIRE_N_CLASSES];
bool parse_class(const char *word, enum quire_class *ret_class);

/* "id" as a blob's: a whole number above 0. */
bool parse_id(const char *word, uint64_t *ret_id);

void format_uuid(const uint8_t *uuid, char *text); /* 37 bytes */

/* Writes all of it to the caller's output. False: it failed, and was said. */
bool write_out(struct session *s, const void *buf, size_t n);

/* Forgets what was not written to it, and that it failed: that was said, or is nobody's concern. */
void discard_out(struct session *s);

#endif
