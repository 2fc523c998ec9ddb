/* import_walk.c - what is in the tree, in the order of its directories: these and symbolic links go to the index at once,
 * files to the copiers, further names of a file to the end. Names are bytes, and no path is ever put together but for a message. */
#include "import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEPTH 4096u

/* A file of several names, by where it is. */
struct shared_file {
	uint64_t dev, inode, number; /* number 0: a free slot */
};

/* A further name of one. */
struct later_name {
	struct tree_entry entry;     /* its name is owned */
	struct import_dir *dir;      /* a reference */
	struct later_name *next;
};

struct walk {
	struct import *im;
	uint64_t n_numbers;
	unsigned depth;
	struct shared_file *shared; /* owned; a hash table, capacity a power of two */
	size_t n_shared, capacity;
	struct later_name *later, **last;
};

static void end_for_memory(struct walk *w)
{
	import_end(w->im, -ENOMEM, "import");
}

/* ---- files of several names ---- */

static struct shared_file *shared_slot(const struct shared_file *table, size_t capacity, uint64_t dev, uint64_t inode)
{
	size_t at = (size_t)((inode ^ dev << 32) * 0x9E3779B97F4A7C15u >> 20);

	while (table[at & (capacity - 1)].number != 0 &&
	       (table[at & (capacity - 1)].inode != inode || table[at & (capacity - 1)].dev != dev))
		at++;
	return (struct shared_file *)&table[at & (capacity - 1)];
}

/* The number of the entry that has the file already; 0: from now on it is `number`. */
static uint64_t shared_find(struct walk *w, const struct stat *st, uint64_t number)
{
	if (2 * w->n_shared >= w->capacity) {
		size_t capacity = w->capacity == 0 ? 256 : 2 * w->capacity;
		struct shared_file *table = calloc(capacity, sizeof(*table));
		if (table == NULL) {
			end_for_memory(w);
			return 0;
		}
		for (size_t i = 0; i < w->capacity; i++)
			if (w->shared[i].number != 0)
				*shared_slot(table, capacity, w->shared[i].dev, w->shared[i].inode) = w->shared[i];
		free(w->shared);
		w->shared = table;
		w->capacity = capacity;
	}
	struct shared_file *f = shared_slot(w->shared, w->capacity, st->st_dev, st->st_ino);
	if (f->number != 0)
		return f->number;
	*f = (struct shared_file){st->st_dev, st->st_ino, number};
	w->n_shared++;
	return 0;
}

static void add_later(struct walk *w, struct import_dir *dir, const struct tree_entry *e)
{
	struct later_name *l = calloc(1, sizeof(*l));
	char *name = l != NULL ? strdup(e->name) : NULL;

	if (name == NULL) {
		free(l);
		end_for_memory(w);
		return;
	}
	l->entry = *e;
	l->entry.name = name;
	l->dir = dir;
	pthread_mutex_lock(&w->im->lock);
	dir->n_refs++;
	pthread_mutex_unlock(&w->im->lock);
	*w->last = l;
	w->last = &l->next;
}

static bool was_read(const struct import *im, uint64_t number)
{
	for (size_t i = 0; i < im->n_unread; i++)
		if (im->unread[i] == number)
			return false;
	return true;
}

/* The copiers have ended: what they could not read, no other name of it can be either. */
static void add_later_names(struct walk *w)
{
	while (w->later != NULL) {
		struct later_name *l = w->later;
		int rc = 0;
		w->later = l->next;
		if (!import_is_ending(w->im) && !was_read(w->im, l->entry.blob))
			import_leave_out(w->im, l->dir, l->entry.name, "its other name could not be read");
		else if (!import_is_ending(w->im))
			rc = import_add_entry(w->im, &l->entry);
		if (rc < 0)
			import_end(w->im, rc, w->im->session->path);
		w->im->counters.n_links++;
		import_dir_put(w->im, l->dir);
		free((char *)(uintptr_t)l->entry.name);
		free(l);
	}
	free(w->shared);
}

/* ---- entries ---- */

static void push(struct walk *w, struct import_dir *dir, const char *name, uint64_t number, bool shared)
{
	struct import *im = w->im;
	char *copy = strdup(name);

	if (copy == NULL) {
		end_for_memory(w);
		return;
	}
	pthread_mutex_lock(&im->lock);
	while (im->n_queued == IMPORT_QUEUE && im->error == 0)
		pthread_cond_wait(&im->can_push, &im->lock);
	if (im->error == 0) {
		dir->n_refs++;
		im->queue[(im->head + im->n_queued++) % IMPORT_QUEUE] = (struct import_job){dir, copy, number, shared};
		im->counters.n_seen++;
		copy = NULL;
		pthread_cond_signal(&im->can_pop);
	}
	pthread_mutex_unlock(&im->lock);
	free(copy);
}

static int add_symlink(struct walk *w, struct import_dir *dir, struct tree_entry *e)
{
	char target[TREE_MAX_NAME + 1];
	ssize_t n = readlinkat(dir->fd, e->name, target, sizeof(target));

	if (n <= 0 || n > (ssize_t)TREE_MAX_NAME) {
		import_leave_out(w->im, dir, e->name, n < 0 ? strerror(errno) : "its target");
		return 0;
	}
	e->target = target;
	e->target_bytes = (uint16_t)n;
	return import_add_entry(w->im, e);
}

static void walk_names(struct walk *w, struct import_dir *dir, DIR *stream);

static int walk_directory(struct walk *w, struct import_dir *parent, const struct tree_entry *e)
{
	if (w->depth == MAX_DEPTH) {
		import_leave_out(w->im, parent, e->name, "directories are nested too deeply");
		return 0;
	}
	int fd = openat(parent->fd, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *stream = again < 0 ? NULL : fdopendir(again);
	if (stream == NULL) {
		import_leave_out(w->im, parent, e->name, strerror(errno));
		if (fd >= 0)
			close(fd);
		if (again >= 0)
			close(again);
		return import_add_entry(w->im, e); /* it is there, if without what is in it */
	}
	struct import_dir *dir = calloc(1, sizeof(*dir));
	char *name = strdup(e->name);
	if (dir == NULL || name == NULL) {
		free(dir);
		free(name);
		close(fd);
		closedir(stream);
		return -ENOMEM;
	}
	*dir = (struct import_dir){.parent = parent, .name = name, .fd = fd, .n_refs = 1, .number = e->number};
	pthread_mutex_lock(&w->im->lock);
	parent->n_refs++;
	pthread_mutex_unlock(&w->im->lock);
	int rc = import_add_entry(w->im, e);
	w->depth++;
	if (rc == 0)
		walk_names(w, dir, stream);
	w->depth--;
	closedir(stream);
	import_dir_put(w->im, dir);
	return rc;
}

static void walk_one(struct walk *w, struct import_dir *dir, const char *name)
{
	struct tree_entry e = {.parent = dir->number, .name = name, .name_bytes = (uint16_t)strlen(name)};
	struct stat st;
	int rc = 0;

	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		import_leave_out(w->im, dir, name, strerror(errno));
		return;
	}
	tree_entry_of(&e, &st);
	e.number = ++w->n_numbers;
	if (S_ISREG(st.st_mode)) {
		uint64_t first = st.st_nlink > 1 ? shared_find(w, &st, e.number) : 0;
		if (first == 0) {
			push(w, dir, name, e.number, st.st_nlink > 1);
			return;
		}
		e.type = TREE_LINK;
		e.blob = first;
		add_later(w, dir, &e);
	} else if (S_ISDIR(st.st_mode) && st.st_dev == w->im->store_dir.st_dev && st.st_ino == w->im->store_dir.st_ino) {
		import_leave_out(w->im, dir, name, NULL);
	} else if (S_ISDIR(st.st_mode)) {
		w->im->counters.n_directories++;
		rc = walk_directory(w, dir, &e);
	} else if (S_ISLNK(st.st_mode)) {
		w->im->counters.n_links++;
		rc = add_symlink(w, dir, &e);
	} else {
		import_leave_out(w->im, dir, name, NULL);
	}
	if (rc < 0)
		import_end(w->im, rc, w->im->session->path);
}

static void walk_names(struct walk *w, struct import_dir *dir, DIR *stream)
{
	struct dirent *d;

	for (;;) {
		errno = 0;
		d = readdir(stream);
		if (d == NULL || import_is_ending(w->im))
			break;
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			walk_one(w, dir, d->d_name);
	}
	if (d == NULL && errno != 0)
		import_leave_out(w->im, dir, NULL, strerror(errno));
}

static void no_more_jobs(struct import *im)
{
	pthread_mutex_lock(&im->lock);
	im->walked = true;
	pthread_cond_broadcast(&im->can_pop);
	pthread_mutex_unlock(&im->lock);
}

void import_walk(struct import *im, const char *path, int fd)
{
	struct walk w = {.im = im};
	struct import_dir *root = calloc(1, sizeof(*root));
	pthread_t copiers[IMPORT_COPIERS];
	struct tree_entry e = {.name = ""};
	struct stat st;
	unsigned n = 0;

	w.last = &w.later;
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *stream = again < 0 ? NULL : fdopendir(again);
	char *name = strdup(path);
	if (root == NULL || name == NULL || stream == NULL || fstat(fd, &st) < 0) {
		import_end(im, errno != 0 ? -errno : -ENOMEM, path);
		free(root);
		free(name);
		close(fd);
	} else {
		*root = (struct import_dir){.name = name, .fd = fd, .n_refs = 1};
		tree_entry_of(&e, &st);
		int rc = import_add_entry(im, &e);
		while (rc == 0 && n < IMPORT_COPIERS && pthread_create(&copiers[n], NULL, import_copier, im) == 0)
			n++;
		if (rc < 0 || n == 0)
			import_end(im, rc < 0 ? rc : -EAGAIN, path);
		else
			walk_names(&w, root, stream);
		no_more_jobs(im);
		for (unsigned i = 0; i < n; i++)
			pthread_join(copiers[i], NULL);
		add_later_names(&w);
		import_dir_put(im, root);
	}
	if (stream != NULL)
		closedir(stream);
}
