/*
 * fs_load.c - random operations on files, and a model that tells what must be there after a crash.
 *
 *   vm-fs-load write DIR SEED ACCOUNT    for ever, in directories of DIR, by several processes; says "writing" once all have begun
 *   vm-fs-load check DIR SEED ACCOUNT    what was synced is there
 *
 * Which operations come is known from the seed. How far each process had come is in ACCOUNT, a block device written directly: a sector each, before and
 * after each operation. So it is known which one was under way, whatever became of what was said of it.
 *
 * What must be there: after fsync (or msync of a mapping) a file's bytes and its size, but for what was changed later; after fsync of a directory,
 * which names there are. A name that was changed later may be there or not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_WORKERS 4u
#define N_FILES 12u
#define FILE_MOST 131072u
#define PIECE_MOST 20000u
#define SECTOR 512u

struct file {
	bool exists, moved; /* moved: made, removed or renamed since its directory was synced */
	uint32_t size;
	unsigned char bytes[FILE_MOST];
	/* As it was synced; what was changed since. */
	bool synced, resized;
	uint32_t synced_size, least_size;
	unsigned char synced_bytes[FILE_MOST];
	bool touched[FILE_MOST];
};

struct worker {
	unsigned no;
	uint64_t seed;
	char dir[128];
	int account;
	struct file *files; /* owned: N_FILES */
	bool only_model;
	uint64_t n_exact, n_files; /* checked: bytes known to have to be there */
};

enum op { OP_WRITE, OP_APPEND, OP_TRUNCATE, OP_MAP, OP_PUNCH, OP_RENAME, OP_UNLINK, OP_SYNC, OP_SYNC_MAP, OP_SYNC_DIR };
/* Of 16. */
static const unsigned char ops[] = {OP_WRITE,  OP_WRITE,  OP_WRITE,  OP_WRITE, OP_WRITE, OP_APPEND, OP_TRUNCATE, OP_MAP,
                                    OP_PUNCH, OP_RENAME, OP_UNLINK, OP_SYNC,  OP_SYNC,  OP_SYNC,   OP_SYNC_MAP, OP_SYNC_DIR};

struct step {
	enum op op;
	unsigned file, other;
	uint32_t at, len;
	uint64_t content;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

static struct step step_of(const struct worker *w, uint64_t no)
{
	uint64_t x = mix(w->seed ^ mix((uint64_t)w->no << 48 | no)), y = mix(x);
	struct step s = {.op = ops[x % 16], .file = (unsigned)(x >> 8) % N_FILES, .content = mix(y)};

	s.other = (s.file + 1 + (unsigned)(x >> 16) % (N_FILES - 1)) % N_FILES;
	s.len = 1 + (uint32_t)(y % PIECE_MOST);
	s.at = (uint32_t)((y >> 32) % (FILE_MOST - s.len));
	return s;
}

static void fail(const struct worker *w, unsigned file, const char *what) __attribute__((noreturn));
static void fail(const struct worker *w, unsigned file, const char *what)
{
	fprintf(stderr, "%s/f%u: %s (%s)\n", w->dir, file, what, strerror(errno));
	exit(1);
}

static const char *path_of(const struct worker *w, unsigned file, char path[160])
{
	snprintf(path, 160, "%s/f%u", w->dir, file);
	return path;
}

/* ---- the model ---- */

static void touch(struct file *f, uint32_t at, uint32_t end)
{
	memset(f->touched + at, true, end - at);
}

static void resize(struct file *f, uint32_t size)
{
	if (size == f->size)
		return;
	uint32_t from = size < f->size ? size : f->size, end = size < f->size ? f->size : size;
	memset(f->bytes + from, 0, end - from);
	touch(f, from, end);
	f->resized = true;
	f->size = size;
	if (size < f->least_size)
		f->least_size = size;
}

static void put(struct file *f, const struct step *s, uint32_t at, uint32_t len)
{
	if (!f->exists) {
		f->exists = f->moved = true;
		f->synced = false;
		f->size = 0;
	}
	if (at + len > f->size)
		resize(f, at + len);
	for (uint32_t i = 0; i < len; i++)
		f->bytes[at + i] = (unsigned char)(s->content >> (i % 8 * 8)) + (unsigned char)(i / 8);
	touch(f, at, at + len);
}

/* With its bytes a file's name is made durable, where it has only just been made. */
static void model_synced(struct file *f)
{
	f->synced = true;
	f->moved = false;
	f->resized = false;
	f->synced_size = f->least_size = f->size;
	memcpy(f->synced_bytes, f->bytes, f->size);
	memset(f->touched, false, sizeof(f->touched));
}

/* The names that there are, and no others. */
static void model_sync_dir(struct worker *w)
{
	for (unsigned i = 0; i < N_FILES; i++)
		w->files[i].moved = false;
}

static void model_rename(struct worker *w, const struct step *s)
{
	struct file *from = &w->files[s->file], *to = &w->files[s->other];

	memcpy(to, from, sizeof(*to));
	from->exists = false;
	from->moved = to->moved = true;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* What a step is about, bounded to what there is. Returns false if there is nothing to do. */
static bool bound(const struct worker *w, struct step *s)
{
	const struct file *f = &w->files[s->file];

	if (s->op == OP_WRITE || s->op == OP_SYNC_DIR)
		return true;
	if (!f->exists)
		return false;
	if (s->op == OP_APPEND) {
		s->at = f->size;
		s->len = least(s->len, FILE_MOST - f->size);
		return s->len > 0;
	}
	if (s->op != OP_MAP && s->op != OP_PUNCH && s->op != OP_SYNC_MAP)
		return true;
	s->at = f->size > 0 ? s->at % f->size : 0;
	s->len = least(s->len, f->size - s->at);
	return s->len > 0;
}

/* synced: the step ended, so what it was to make durable is. */
static void model_step(struct worker *w, const struct step *s, bool synced)
{
	struct file *f = &w->files[s->file];

	switch (s->op) {
	case OP_WRITE:
	case OP_APPEND:
	case OP_MAP:
	case OP_SYNC_MAP:
		put(f, s, s->at, s->len);
		break;
	case OP_TRUNCATE:
		resize(f, s->at);
		break;
	case OP_PUNCH:
		memset(f->bytes + s->at, 0, s->len);
		touch(f, s->at, s->at + s->len);
		break;
	case OP_RENAME:
		model_rename(w, s);
		break;
	case OP_UNLINK:
		f->exists = false;
		f->moved = true;
		break;
	case OP_SYNC:
	case OP_SYNC_DIR:
		break;
	}
	if (synced && (s->op == OP_SYNC || s->op == OP_SYNC_MAP))
		model_synced(f);
	if (synced && (s->op == OP_SYNC_DIR || s->op == OP_RENAME))
		model_sync_dir(w);
}

/* ---- the files ---- */

static void sync_dir(const struct worker *w, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		fail(w, N_FILES, "fsync of the directory");
	close(fd);
}

static void store_mapped(struct worker *w, const struct step *s, int fd)
{
	struct file *f = &w->files[s->file];
	unsigned char *map = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		fail(w, s->file, "mmap");
	memcpy(map + s->at, f->bytes + s->at, s->len);
	if (s->op == OP_SYNC_MAP && msync(map, f->size, MS_SYNC) < 0)
		fail(w, s->file, "msync");
	munmap(map, f->size);
}

/* The model has taken the step before: the bytes come from there. */
static void do_with_file(struct worker *w, const struct step *s)
{
	struct file *f = &w->files[s->file];
	char path[160];
	int fd = open(path_of(w, s->file, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0)
		fail(w, s->file, "open");
	if (s->op == OP_WRITE || s->op == OP_APPEND)
		rc = pwrite(fd, f->bytes + s->at, s->len, (off_t)s->at) == (ssize_t)s->len ? 0 : -1;
	else if (s->op == OP_TRUNCATE)
		rc = ftruncate(fd, (off_t)s->at);
	else if (s->op == OP_PUNCH)
		rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)s->at, (off_t)s->len);
	else if (s->op == OP_SYNC)
		rc = fsync(fd);
	else
		store_mapped(w, s, fd);
	if (rc < 0)
		fail(w, s->file, "an operation");
	close(fd);
}

static void do_step(struct worker *w, const struct step *s)
{
	char from[160], to[160];

	if (s->op == OP_SYNC_DIR) {
		sync_dir(w, w->dir);
	} else if (s->op == OP_RENAME) {
		if (rename(path_of(w, s->file, from), path_of(w, s->other, to)) < 0)
			fail(w, s->file, "rename");
		sync_dir(w, w->dir);
	} else if (s->op == OP_UNLINK) {
		if (unlink(path_of(w, s->file, from)) < 0)
			fail(w, s->file, "unlink");
	} else {
		do_with_file(w, s);
	}
}

/* ---- the account ---- */

struct account {
	uint64_t seed, begun, done; /* counts of steps */
};

static void tell(struct worker *w, uint64_t begun, uint64_t done)
{
	static _Alignas(4096) char sector[SECTOR];
	struct account a = {w->seed, begun, done};

	memcpy(sector, &a, sizeof(a));
	if (pwrite(w->account, sector, SECTOR, (off_t)(w->no * SECTOR)) != SECTOR)
		fail(w, N_FILES, "the account");
}

static struct account ask(struct worker *w)
{
	static _Alignas(4096) char sector[SECTOR];
	struct account a;

	if (pread(w->account, sector, SECTOR, (off_t)(w->no * SECTOR)) != SECTOR)
		fail(w, N_FILES, "the account");
	memcpy(&a, sector, sizeof(a));
	if (a.seed != w->seed)
		a = (struct account){0}; /* of an earlier run: this one never began */
	return a;
}

/* ---- writing, checking ---- */

/* up: the directory that its own is made in. */
static void write_for_ever(struct worker *w, const char *up)
{
	if (mkdir(w->dir, 0700) < 0)
		fail(w, N_FILES, "mkdir");
	sync_dir(w, up);
	for (uint64_t no = 0;; no++) {
		struct step s = step_of(w, no);
		tell(w, no + 1, no);
		if (bound(w, &s)) {
			model_step(w, &s, true);
			do_step(w, &s);
		}
		tell(w, no + 1, no + 1);
	}
}

static void check_bytes(struct worker *w, unsigned file, const unsigned char *is, uint32_t size)
{
	struct file *f = &w->files[file];
	uint32_t end = least(f->least_size, f->synced_size);

	if (f->resized ? size < end : size != f->synced_size)
		fail(w, file, "is of a wrong size");
	for (uint32_t i = 0; i < end; i++) {
		if (!f->touched[i] && is[i] != f->synced_bytes[i])
			fail(w, file, "is not what was synced");
		w->n_exact += !f->touched[i];
	}
}

static void check_file(struct worker *w, unsigned file)
{
	static unsigned char is[FILE_MOST + 1];
	struct file *f = &w->files[file];
	char path[160];
	int fd = open(path_of(w, file, path), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, is, sizeof(is)) : 0;

	if ((fd < 0 && errno != ENOENT) || n < 0 || n > (ssize_t)FILE_MOST)
		fail(w, file, "can't be read");
	if (fd >= 0)
		close(fd);
	if (f->moved)
		return;
	if (f->exists != (fd >= 0))
		fail(w, file, f->exists ? "is not there" : "was removed");
	if (f->exists && f->synced)
		check_bytes(w, file, is, (uint32_t)n);
	w->n_files++;
}

static void check(struct worker *w)
{
	struct account a = ask(w);

	if (a.begun < a.done || a.begun > a.done + 1)
		fail(w, N_FILES, "not an account");
	for (uint64_t no = 0; no < a.begun; no++) {
		struct step s = step_of(w, no);
		if (bound(w, &s))
			model_step(w, &s, no < a.done);
	}
	if (a.done > 0)
		for (unsigned i = 0; i < N_FILES; i++)
			check_file(w, i);
	printf("%s: %llu steps: %llu names of %u and %llu bytes were synced\n", w->dir, (unsigned long long)a.done, (unsigned long long)w->n_files,
	       N_FILES, (unsigned long long)w->n_exact);
}

static void prepare(struct worker *w, unsigned no, char **argv)
{
	*w = (struct worker){.no = no, .seed = strtoull(argv[3], NULL, 10), .files = calloc(N_FILES, sizeof(struct file))};
	snprintf(w->dir, sizeof(w->dir), "%s/%u", argv[2], no);
	w->account = open(argv[4], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (w->account < 0 || w->files == NULL)
		fail(w, N_FILES, argv[4]);
}

int main(int argc, char **argv)
{
	struct worker w;
	int status;

	if (argc != 5 || (strcmp(argv[1], "write") != 0 && strcmp(argv[1], "check") != 0)) {
		fputs("usage: vm-fs-load write|check DIR SEED ACCOUNT\n", stderr);
		return 2;
	}
	for (unsigned i = 0; i < N_WORKERS; i++) {
		pid_t pid = strcmp(argv[1], "write") == 0 ? fork() : 0;
		if (pid > 0)
			continue;
		prepare(&w, i, argv);
		if (strcmp(argv[1], "write") == 0)
			write_for_ever(&w, argv[2]);
		check(&w);
		free(w.files);
		close(w.account);
	}
	if (strcmp(argv[1], "check") == 0)
		return 0;
	puts("writing");
	fflush(stdout);
	wait(&status); /* none ends but by a failure */
	return 1;
}
