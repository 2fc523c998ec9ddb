/* device_pmem_open.c - a file is mapped by libpmem2, and its granularity learnt. See device_pmem.c.
 *
 * By libpmem2 only where that maps at the first try. It reserves addresses and maps the file over them with MAP_SYNC; if the file system refuses
 * that (ext4 and XFS do, of a file without DAX) the kernel has given up the reservation by then; and it maps once more, without, over
 * the same addresses, which another thread may have been given in between: its memory would be gone. So what has no DAX is
 * mapped here.
 */
#include "device_pmem.h"

#include "../base/fail.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

/* ---- mapping ---- */

static int fail_lib(struct device_pmem *p, const char *path, int rc, struct quire_error *err)
{
	if (rc == PMEM2_E_GRANULARITY_NOT_SUPPORTED)
		return quire_fail(err, -ENOTSUP, "%s: its file system has no DAX, so a power cut would take what is durable "
		                  "there (durable=process does without)", path);
	/* Its own errors are below all errnos. */
	return quire_fail(err, rc > PMEM2_E_UNKNOWN ? rc : -ENOTSUP, "%s: mapping: %s", path, p->lib->errormsg());
}

static int map_source(struct device_pmem *p, const struct pmem2_source *source, struct pmem2_map **ret)
{
	struct pmem2_config *config;
	int rc = p->lib->config_new(&config);

	if (rc < 0)
		return rc;
	rc = p->lib->config_set_required_store_granularity(
		config, p->wish == DEVICE_DURABLE_POWER ? PMEM2_GRANULARITY_CACHE_LINE : PMEM2_GRANULARITY_PAGE);
	if (rc == 0)
		rc = p->lib->config_set_protection(config, p->file.base.read_only ? PMEM2_PROT_READ
		                                                                  : PMEM2_PROT_READ | PMEM2_PROT_WRITE);
	if (rc == 0)
		rc = p->lib->map_new(ret, config, source);
	p->lib->config_delete(&config);
	return rc;
}

static int protection(const struct device_pmem *p)
{
	return p->file.base.read_only ? PROT_READ : PROT_READ | PROT_WRITE;
}

/* Does the file system keep its metadata in step with a mapping? Device DAX has none. Where libpmem2 is told what to believe, it is asked. */
static bool is_in_step(const struct device_pmem *p)
{
	void *page;

	if (p->file.is_dax || getenv("PMEM2_FORCE_GRANULARITY") != NULL)
		return true;
	page = mmap(NULL, DEVICE_BLOCK_BYTES, protection(p), MAP_SHARED_VALIDATE | MAP_SYNC, p->file.fd, 0);
	if (page == MAP_FAILED)
		return false;
	munmap(page, DEVICE_BLOCK_BYTES);
	return true;
}

static int map_page_cache(struct device_pmem *p, struct pmem_mapping *m)
{
	if (p->wish == DEVICE_DURABLE_POWER)
		return PMEM2_E_GRANULARITY_NOT_SUPPORTED;
	void *base = mmap(NULL, m->size_bytes, protection(p), MAP_SHARED, p->file.fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	m->base = base;
	return 0;
}

static void mapping_free(struct device_pmem *p, struct pmem_mapping *m)
{
	if (m->map != NULL)
		p->lib->map_delete(&m->map);
	else if (m->base != NULL)
		munmap(m->base, m->size_bytes);
	free(m->backed);
	free(m);
}

static int mapping_make(struct device_pmem *p, const struct pmem2_source *source, uint64_t size_bytes,
                        struct pmem_mapping **ret)
{
	struct pmem_mapping *m = calloc(1, sizeof(*m));
	uint64_t n_words = size_bytes / PMEM_CHUNK_BYTES / 64 + 1;

	if (m == NULL)
		return -ENOMEM;
	m->size_bytes = size_bytes;
	m->backed = calloc(n_words, sizeof(*m->backed));
	bool in_step = is_in_step(p);
	int rc = m->backed == NULL ? -ENOMEM : in_step ? map_source(p, source, &m->map) : map_page_cache(p, m);
	if (rc < 0) {
		m->map = NULL;
		mapping_free(p, m);
		return rc;
	}
	if (in_step)
		m->base = p->lib->map_get_address(m->map);
	*ret = m;
	return 0;
}

/* What the kernel knows of bad blocks. Where it can't be asked, nothing is known. */
static void learn_bad(struct device_pmem *p, const struct pmem2_source *source)
{
	struct pmem2_badblock_context *context;
	struct pmem2_badblock bad;

	if (p->lib->badblock_context_new(&context, source) != 0)
		return;
	while (p->lib->badblock_next(context, &bad) == 0) {
		struct pmem_range *more = reallocarray(p->bad, p->n_bad + 1, sizeof(*more));
		if (more == NULL)
			break;
		p->bad = more;
		p->bad[p->n_bad++] = (struct pmem_range){.offset = bad.offset, .len_bytes = bad.length};
	}
	p->lib->badblock_context_delete(&context);
}

int pmem_map(struct device_pmem *p, struct quire_error *err)
{
	struct pmem_mapping *m, *older = atomic_load(&p->mapping);
	struct pmem2_source *source;
	off_t size_bytes = p->file.is_dax ? (off_t)p->file.base.size_bytes : lseek(p->file.fd, 0, SEEK_END);

	if (size_bytes < (off_t)DEVICE_BLOCK_BYTES)
		return quire_fail(err, size_bytes < 0 ? -errno : -EINVAL, "%s: too small to be mapped", p->file.base.name);
	int rc = p->lib->source_from_fd(&source, p->file.fd);
	if (rc < 0)
		return fail_lib(p, p->file.base.name, rc, err);
	rc = mapping_make(p, source, (uint64_t)size_bytes & ~(uint64_t)(DEVICE_BLOCK_BYTES - 1), &m);
	if (rc == 0 && older == NULL)
		learn_bad(p, source);
	p->lib->source_delete(&source);
	if (rc < 0)
		return fail_lib(p, p->file.base.name, rc, err);
	m->older = older;
	atomic_store_explicit(&p->mapping, m, memory_order_release);
	return 0;
}

void pmem_unmap_all(struct device_pmem *p)
{
	struct pmem_mapping *m = atomic_load(&p->mapping);

	while (m != NULL) {
		struct pmem_mapping *older = m->older;
		mapping_free(p, m);
		m = older;
	}
}

/* ---- opening ---- */

static void learn_kind(struct device_pmem *p)
{
	struct device *d = &p->file.base;
	struct pmem2_map *map = atomic_load(&p->mapping)->map;
	enum pmem2_granularity granularity = map == NULL ? PMEM2_GRANULARITY_PAGE : p->lib->map_get_store_granularity(map);

	d->medium = DEVICE_MEDIUM_PMEM;
	d->now = DEVICE_NOW_COPIES;
	d->align_bytes = DEVICE_STORE_BYTES;
	d->durable = granularity == PMEM2_GRANULARITY_PAGE ? DEVICE_DURABLE_PROCESS : DEVICE_DURABLE_POWER;
	d->granularity_bytes = granularity == PMEM2_GRANULARITY_BYTE         ? 1
	                       : granularity == PMEM2_GRANULARITY_CACHE_LINE ? DEVICE_LINE_BYTES
	                                                                     : (uint32_t)sysconf(_SC_PAGESIZE);
	if (d->durable == DEVICE_DURABLE_PROCESS)
		return;
	p->memcpy = p->lib->get_memcpy_fn(map);
	p->drain = p->lib->get_drain_fn(map);
}

/* It can be mapped, and space can be asked for before it is stored to. */
static int examine_file(struct device_pmem *p, struct quire_error *err)
{
	const char *path = p->file.base.name;

	if (p->file.is_block)
		return quire_fail(err, -ENOTSUP, "%s: a block device can't be mapped past the kernel's page cache", path);
	if (p->file.base.read_only || p->file.is_dax)
		return 0;
	if (fallocate(p->file.fd, FALLOC_FL_KEEP_SIZE, 0, DEVICE_BLOCK_BYTES) < 0)
		return quire_fail(err, errno == EOPNOTSUPP ? -ENOTSUP : -errno, "%s: asking for space before it is mapped", path);
	return 0;
}

int device_open_pmem(const char *path, unsigned flags, uint64_t size_bytes, enum device_durable durable,
                     struct quire_loop *service, struct device **ret_device, struct quire_error *err)
{
	struct device_pmem *p = calloc(1, sizeof(*p));
	struct device *d = p != NULL ? &p->file.base : NULL;

	if (p == NULL || (d->name = strdup(path)) == NULL) {
		free(p);
		return quire_fail(err, -ENOMEM, "%s", path);
	}
	int rc = pmem_lib_get(&p->lib, err);
	if (rc == 0)
		rc = device_file_open(&p->file, path, flags | DEVICE_BUFFERED, size_bytes, err);
	if (rc < 0) {
		free(d->name);
		free(p);
		return rc;
	}
	p->wish = durable;
	d->ops = &device_pmem_ops;
	d->service = service;
	pthread_mutex_init(&p->lock, NULL);
	pmem_memory_init(p);
	rc = examine_file(p, err);
	if (rc == 0)
		rc = pmem_map(p, err);
	if (rc < 0) {
		if (flags & DEVICE_CREATE)
			(void)unlink(path);
		device_close(d);
		return rc;
	}
	learn_kind(p);
	*ret_device = d;
	return 0;
}
