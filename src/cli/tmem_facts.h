/* tmem_facts.h - what pools of pages hold and have saved, as text and as JSON. */
#ifndef CLI_TMEM_FACTS_H
#define CLI_TMEM_FACTS_H

#include "json.h"

#include <quire/tmem_service.h>

void tmem_facts_json(struct json *j, const struct quire_tmem_stat *s); /* members of an object that is open */
void tmem_facts_text(FILE *out, const struct quire_tmem_stat *s);

/* `quire tmem stat`; argv[0] is "stat". */
int tmem_stat(int argc, char **argv);

#endif
