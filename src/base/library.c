/* library.c - see library.h. */
#include "library.h"

#include "fail.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* A static program has neither, unless it uses them itself; without this the linker would take them in, and warn. */
#pragma weak dlopen
#pragma weak dlsym

static int load(const struct library *l)
{
	void *handle = dlopen != NULL && dlsym != NULL ? dlopen(l->file, RTLD_NOW | RTLD_LOCAL) : NULL;

	if (handle == NULL)
		return -ENOTSUP;
	for (size_t i = 0; i < l->n_functions; i++) {
		void *function = dlsym(handle, l->functions[i].name);
		if (function == NULL)
			return -ENOTSUP;
		memcpy(l->functions[i].to, &function, sizeof(function)); /* as POSIX has it */
	}
	return 0;
}

int library_load(struct library *l, struct quire_error *err)
{
	pthread_mutex_lock(&l->lock);
	if (l->result != 0) /* there may have been no descriptor, or memory, the last time */
		l->result = load(l);
	int rc = l->result;
	pthread_mutex_unlock(&l->lock);
	return rc < 0 ? quire_fail(err, rc, "%s: %s can't be loaded", l->what, l->file) : 0;
}
