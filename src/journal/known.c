/* known.c - what the headers say of the segments that the owner knows (journal_options.known): which of them comes behind the one where the
 * scan is, whatever has become of the records that lead there.
 *
 * Each header is read once in a scan, when the first is asked for: so however often a hostile log asks, it costs no more than
 * that. What a writer beside begins later counts as not begun.
 */
#include "scan.h"

#include "../base/fail.h"

#include <errno.h>
#include <stdlib.h>

/* Reads them, if that was not done yet. */
static int read_known(struct scan *s)
{
	const struct journal_options *o = s->o;

	if (s->known != NULL)
		return 0;
	struct scan_known *known = calloc((size_t)o->n_known + 1, sizeof(*known));
	if (known == NULL)
		return quire_fail(s->err, -ENOMEM, "%s: the segments of a log", o->device->name);
	s->known = known;
	for (unsigned i = 0; i < o->n_known; i++) {
		int rc = scan_peek_header(s, o->known[i], &known[i].header);
		if (rc < 0) {
			free(known);
			s->known = NULL;
			return rc;
		}
		known[i].has_header = rc == 1;
		known[i].in_chain = scan_is_in_chain(s, o->known[i]);
	}
	return 0;
}

void scan_known_entered(struct scan *s, uint64_t segment)
{
	for (unsigned i = 0; s->known != NULL && i < s->o->n_known; i++)
		s->known[i].in_chain |= s->o->known[i] == segment;
}

/* What they say that are not in the chain. */
struct answer {
	unsigned n_next, n_later;  /* so many come next, or at all behind s->segment */
	struct frame_segment next; /* the last of the former */
	uint64_t unused;           /* one that may be begun; -1: there is none */
};

static int ask(struct scan *s, struct answer *ret)
{
	const struct journal_options *o = s->o;
	int rc = read_known(s);

	*ret = (struct answer){.unused = UINT64_MAX};
	for (unsigned i = 0; rc == 0 && i < o->n_known; i++) {
		const struct scan_known *k = &s->known[i];
		if (k->in_chain)
			continue;
		if (k->has_header && k->header.no > s->segment.no) {
			ret->n_later++;
			if (k->header.no == s->segment.no + 1) {
				ret->next = k->header;
				ret->n_next++;
			}
		} else if (ret->unused == UINT64_MAX && i < o->n_known - o->n_sealed) {
			ret->unused = o->known[i];
		}
	}
	return rc;
}

int scan_later_is_known(struct scan *s)
{
	struct answer a;
	int rc = s->single ? 0 : ask(s, &a);

	return rc < 0 || s->single ? rc : a.n_later > 0;
}

static int read_next_header(struct scan *s)
{
	struct frame_segment *h = &s->next_header;
	struct answer a;
	int rc;

	if (s->next_known) {
		rc = scan_peek_header(s, s->next.offset, h);
		return rc < 0 ? rc : rc == 1 && h->salt == s->next.salt && h->key == s->next.key;
	}
	if (s->single)
		return 0;
	rc = ask(s, &a);
	*h = a.next;
	return rc < 0 ? rc : a.n_next == 1;
}

int scan_next_header(struct scan *s, struct frame_segment *ret)
{
	if (s->next_header_is == SCAN_NOT_ASKED) {
		int rc = read_next_header(s);
		if (rc < 0)
			return rc;
		s->next_header_is = rc == 1 ? SCAN_IS_THERE : SCAN_IS_NOT;
	}
	*ret = s->next_header;
	return s->next_header_is == SCAN_IS_THERE;
}

int scan_choose_next(struct scan *s)
{
	struct answer a;
	int rc = ask(s, &a);

	if (rc < 0)
		return rc;
	if (a.n_next > 1 || (a.n_next == 0 && (a.n_later > 0 || a.unused == UINT64_MAX)))
		return JOURNAL_CORRUPT;
	s->next = a.n_next == 1 ? a.next : (struct frame_segment){.offset = a.unused, .no = s->segment.no + 1};
	return JOURNAL_VALID;
}
