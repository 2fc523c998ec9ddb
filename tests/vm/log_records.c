/* log_records.c - see log_records.h. */
#include "log_records.h"

#include <string.h>

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

static uint64_t seed_of(struct record_name name)
{
	return mix(name.life ^ mix((uint64_t)name.writer << 32 | name.no));
}

/* Mostly short, as records are; some as long as several pages. */
static size_t length_of(struct record_name name)
{
	uint64_t x = seed_of(name), reach = x % 64 == 0 ? RECORD_MAX : x % 8 == 0 ? 4096 : 300;

	return sizeof(name) + (x >> 8) % (reach - sizeof(name) + 1);
}

static void content(struct record_name name, unsigned char *to, size_t len_bytes)
{
	uint64_t x = seed_of(name);

	for (size_t i = 0; i < len_bytes; i += sizeof(x)) {
		x += 0x9e3779b97f4a7c15ull;
		memcpy(to + i, &x, len_bytes - i < sizeof(x) ? len_bytes - i : sizeof(x));
	}
}

size_t record_make(struct record_name name, void *buf)
{
	size_t len_bytes = length_of(name);

	memcpy(buf, &name, sizeof(name));
	content(name, (unsigned char *)buf + sizeof(name), len_bytes - sizeof(name));
	return len_bytes;
}

const char *record_read(const void *data, size_t len_bytes, struct record_name *ret_name)
{
	static _Thread_local unsigned char expected[RECORD_MAX];

	if (len_bytes < sizeof(*ret_name))
		return "too short to be one of ours";
	memcpy(ret_name, data, sizeof(*ret_name));
	if (ret_name->writer >= N_WRITERS || len_bytes != length_of(*ret_name))
		return "of a wrong length";
	record_make(*ret_name, expected);
	return memcmp(data, expected, len_bytes) != 0 ? "not as it was appended" : NULL;
}

static const char *begin_life(struct record_order *o, uint64_t life)
{
	for (unsigned i = 0; i < o->n_lives; i++) {
		if (o->lives[i] == life)
			return "from a life that had ended";
	}
	if (o->n_lives == N_LIVES)
		return "of one life too many";
	o->lives[o->n_lives++] = life;
	memset(o->begun, 0, sizeof(o->begun));
	return NULL;
}

const char *record_follow(struct record_order *o, const struct quire_log_record *r)
{
	struct record_name name;
	const char *wrong = record_read(r->data, r->len_bytes, &name);

	if (wrong == NULL && o->n > 0 && r->lsn != o->lsn)
		wrong = "not of the next number";
	if (wrong == NULL && (o->n_lives == 0 || o->lives[o->n_lives - 1] != name.life))
		wrong = begin_life(o, name.life);
	if (wrong != NULL)
		return wrong;
	/* The beginning of the oldest life may have been trimmed. */
	if (o->begun[name.writer] ? name.no != o->next[name.writer] : o->n_lives > 1 && name.no != 0)
		return "not its writer's next";
	o->begun[name.writer] = true;
	o->next[name.writer] = name.no + 1;
	o->lsn = r->lsn + 1;
	o->n++;
	return NULL;
}
