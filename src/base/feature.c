/* feature.c - what this kernel lets this process do.
 *
 * States: open (masks may be added) → frozen (all features are probed, at once) → settled (the answer
 * never changes). The first question freezes, and settles, unless there was no descriptor to probe with: feature_settle says
 * that, settles nothing, and can be asked again. Whoever makes what is to last (a loop, a cache) begins with it. Somebody who asks
 * feature_have first of all and is as unlucky settles for what could be found out.
 *
 * Invariants:
 * 1. A masked feature is never tried, and neither is one that needs it (uffd_move without
 *    userfaultfd): masking also keeps this process away from the system call.
 * 2. A feature is present only if its effect was seen, not merely its system call accepted:
 *    filters, emulators and other kernels like to return 0 and do nothing.
 * 3. A probe leaves nothing behind: no descriptor, no mapping.
 *
 * Threads: any. One probes, others wait for it (spinning: it takes a millisecond). After that a look-up is one load, also in
 * a signal handler. A child forked in the middle probes anew: who probes is known by his process.
 * Failure: whatever goes wrong in a probe makes the feature absent, but for a lack of descriptors.
 */
#include "feature.h"

#include <quire/error.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Newer than the headers of Debian 12. */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#define FROZEN (1u << 31)
#define BIT(feature) (1u << (feature))

/* Page tables to make and drop: enough that what other threads do meanwhile is noise. */
#define N_PROBE_TABLES 64

static const char *const names[N_FEATURES] = {
	[FEATURE_IO_URING] = "io_uring",
	[FEATURE_USERFAULTFD] = "userfaultfd",
	[FEATURE_UFFD_KERNEL_FAULTS] = "uffd_kernel_faults",
	[FEATURE_PROCESS_MADVISE] = "process_madvise",
	[FEATURE_UFFD_MOVE] = "uffd_move",
	[FEATURE_UFFD_POISON] = "uffd_poison",
	[FEATURE_UFFD_WP] = "uffd_wp",
	[FEATURE_CACHESTAT] = "cachestat",
	[FEATURE_PT_RECLAIM] = "pt_reclaim",
	[FEATURE_DEFER_TASKRUN] = "defer_taskrun",
	[FEATURE_DIRECT] = "direct",
};

/* Facts about the process, not about any object of ours: so they are static. */
static _Atomic unsigned asked_mask;
static _Atomic pid_t prober;    /* the process of which a thread probes; 0: none does */
static _Atomic unsigned answer; /* FROZEN and what is present; 0: not settled */

/* One probing of all. */
struct probe {
	unsigned masked;
	int lack; /* -EMFILE, -ENFILE: there was none for one of them, so what was found is not all */
};

const char *feature_name(enum feature feature)
{
	return names[feature];
}

/* ---- masks ---- */

/* The bit of one word, 0 if there is no such feature. */
static unsigned mask_of_word(const char *word, size_t len)
{
	for (unsigned f = 0; f < N_FEATURES; f++) {
		if (strlen(names[f]) == len && memcmp(names[f], word, len) == 0)
			return BIT(f);
	}
	return 0;
}

static int parse_mask(const char *words, unsigned *ret_mask)
{
	unsigned mask = 0;
	int rc = 0;

	for (const char *word = words; *word != '\0';) {
		size_t len = strcspn(word, ",");
		unsigned bit = mask_of_word(word, len);
		if (bit == 0 && len > 0)
			rc = -EINVAL;
		mask |= bit;
		word += len;
		word += *word == ',';
	}
	*ret_mask = mask;
	return rc;
}

int quire_mask(const char *features)
{
	unsigned mask;
	if (features == NULL || parse_mask(features, &mask) < 0)
		return -EINVAL;

	unsigned old = atomic_load(&asked_mask);
	do {
		if (old & FROZEN)
			return -EBUSY;
	} while (!atomic_compare_exchange_weak(&asked_mask, &old, old | mask));
	return 0;
}

/* Words unknown to this version in QUIRE_MASK are skipped: there is nobody to tell, and
 * the known ones still count. */
static unsigned mask_from_environment(void)
{
	unsigned mask = 0;
	const char *words = getenv("QUIRE_MASK");
	if (words != NULL)
		(void)parse_mask(words, &mask);
	return mask;
}

/* A probe's system call failed. */
static void note_lack(struct probe *p)
{
	if (errno == EMFILE || errno == ENFILE)
		p->lack = -errno;
}

/* ---- userfaultfd ---- */

static int uffd_of_syscall(int mode)
{
	long fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK | mode);
	return fd < 0 ? -errno : (int)fd;
}

static int uffd_of_device(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	int fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	int rc = fd < 0 ? -errno : fd;
	close(dev);
	return rc;
}

/* A descriptor that serves at least what is asked. */
static int uffd_open(bool want_kernel)
{
	if (!want_kernel) {
		int fd = uffd_of_syscall(UFFD_USER_MODE_ONLY);
		if (fd >= 0)
			return fd;
		/* Before 5.11 there was no such mode. */
	}

	int fd = uffd_of_syscall(0);
	if (fd < 0) {
		int dev_fd = uffd_of_device();
		/* That the device is not there tells less than why the call was refused; not so that it could not be looked at. */
		fd = dev_fd >= 0 || dev_fd == -EMFILE || dev_fd == -ENFILE ? dev_fd : fd;
	}
	return fd;
}

static int uffd_handshake(int fd, unsigned long long features, unsigned long long *ret_features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	*ret_features = api.features;
	return 0;
}

static unsigned probe_uffd(struct probe *p)
{
	unsigned found = 0;
	unsigned long long features = 0;

	int fd = p->masked & BIT(FEATURE_UFFD_KERNEL_FAULTS) ? -EPERM : uffd_open(true);
	if (fd >= 0)
		found |= BIT(FEATURE_UFFD_KERNEL_FAULTS);
	else if (fd != -EMFILE && fd != -ENFILE)
		fd = uffd_open(false);
	if (fd == -EMFILE || fd == -ENFILE)
		p->lack = fd;
	if (fd < 0)
		return 0;

	if (uffd_handshake(fd, 0, &features) < 0) {
		found = 0;
	} else {
		found |= BIT(FEATURE_USERFAULTFD);
		if (features & UFFD_FEATURE_MOVE)
			found |= BIT(FEATURE_UFFD_MOVE);
		if (features & UFFD_FEATURE_POISON)
			found |= BIT(FEATURE_UFFD_POISON);
		if (features & UFFD_FEATURE_PAGEFAULT_FLAG_WP)
			found |= BIT(FEATURE_UFFD_WP);
	}
	close(fd);
	return found;
}

int feature_userfaultfd(bool want_kernel, unsigned long long uffd_features)
{
	if (!feature_have(FEATURE_USERFAULTFD))
		return -ENOSYS;
	if (want_kernel && !feature_have(FEATURE_UFFD_KERNEL_FAULTS))
		return -EPERM;
	/* As the kernel answers to features that it does not have. */
	if ((uffd_features & UFFD_FEATURE_MOVE && !feature_have(FEATURE_UFFD_MOVE)) ||
	    (uffd_features & UFFD_FEATURE_POISON && !feature_have(FEATURE_UFFD_POISON)) ||
	    (uffd_features & UFFD_FEATURE_PAGEFAULT_FLAG_WP && !feature_have(FEATURE_UFFD_WP)))
		return -EINVAL;

	int fd = uffd_open(want_kernel);
	if (fd < 0)
		return fd;
	unsigned long long got;
	int rc = uffd_handshake(fd, uffd_features, &got);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* ---- memory ---- */

/* Drops the first and the third page of four, and looks whether just these are gone. */
static bool drop_by_process_madvise(int pidfd, volatile unsigned char *pages, size_t page_bytes)
{
	for (size_t i = 0; i < 4; i++)
		pages[i * page_bytes] = 1;

	struct iovec gone[2] = {
		{.iov_base = (void *)pages, .iov_len = page_bytes},
		{.iov_base = (void *)(pages + 2 * page_bytes), .iov_len = page_bytes},
	};
	long rc = syscall(__NR_process_madvise, pidfd, gone, 2, MADV_DONTNEED, 0);
	return rc == (long)(2 * page_bytes) && pages[0] == 0 && pages[page_bytes] == 1 &&
	       pages[2 * page_bytes] == 0 && pages[3 * page_bytes] == 1;
}

static bool probe_process_madvise(struct probe *p)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	long pidfd = syscall(__NR_pidfd_open, getpid(), 0);
	if (pidfd < 0) {
		note_lack(p);
		return false;
	}

	bool works = false;
	void *pages = mmap(NULL, 4 * page_bytes, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages != MAP_FAILED) {
		works = drop_by_process_madvise((int)pidfd, pages, page_bytes);
		munmap(pages, 4 * page_bytes);
	}
	close((int)pidfd);
	return works;
}

/* VmPTE, bytes; -1 if it can't be read. */
static int64_t page_table_bytes(struct probe *p)
{
	char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		note_lack(p);
		return -1;
	}
	ssize_t len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return -1;
	text[len] = '\0';

	const char *line = strstr(text, "\nVmPTE:");
	if (line == NULL)
		return -1;
	return strtoll(line + strlen("\nVmPTE:"), NULL, 10) * 1024;
}

/* Reads of a private read-only mapping need page tables, and neither memory nor commit
 * charge: each maps the zero page. */
static bool drop_page_tables(struct probe *p, volatile unsigned char *base, size_t span_bytes, size_t page_bytes)
{
	int64_t expected = (int64_t)(N_PROBE_TABLES * page_bytes);
	int64_t before = page_table_bytes(p);
	for (size_t i = 0; i < N_PROBE_TABLES; i++)
		(void)base[i * span_bytes];
	int64_t full = page_table_bytes(p);
	if (madvise((void *)base, N_PROBE_TABLES * span_bytes, MADV_DONTNEED) < 0)
		return false;
	int64_t after = page_table_bytes(p);

	return before >= 0 && full - before >= expected / 2 && after >= 0 &&
	       full - after >= expected / 2;
}

static bool probe_pt_reclaim(struct probe *p)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	size_t span_bytes = page_bytes / sizeof(uint64_t) * page_bytes; /* of one page table */
	size_t len = (N_PROBE_TABLES + 1) * span_bytes;

	unsigned char *map = mmap(NULL, len, PROT_READ,
	                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return false;
	/* A huge zero page would need no page table. Kernels without huge pages refuse. */
	(void)madvise(map, len, MADV_NOHUGEPAGE);
	size_t skip = (span_bytes - (uintptr_t)map % span_bytes) % span_bytes;
	bool works = drop_page_tables(p, map + skip, span_bytes, page_bytes);
	munmap(map, len);
	return works;
}

static bool probe_cachestat(struct probe *p)
{
	struct {
		uint64_t offset, len;
	} range = {0, 0};
	struct {
		uint64_t n_cache, n_dirty, n_writeback, n_evicted, n_recently_evicted;
	} stat = {UINT64_MAX, 0, 0, 0, 0};

	int fd = memfd_create("quire-probe", MFD_CLOEXEC);
	if (fd < 0)
		fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		note_lack(p);
		return false;
	}
	long rc = syscall(__NR_cachestat, fd, &range, &stat, 0);
	close(fd);
	return rc == 0 && stat.n_cache != UINT64_MAX;
}

/* ---- io_uring ---- */

static bool probe_ring(struct probe *p, unsigned flags)
{
	struct io_uring_params params;
	memset(&params, 0, sizeof(params));
	params.flags = flags;
	long fd = syscall(__NR_io_uring_setup, 4, &params);
	if (fd < 0) {
		note_lack(p);
		return false;
	}
	close((int)fd);
	return params.sq_entries >= 4;
}

/* ---- all ---- */

static unsigned probe_all(struct probe *p)
{
	unsigned found = BIT(FEATURE_DIRECT);
	if (!(p->masked & BIT(FEATURE_IO_URING)) && probe_ring(p, 0)) {
		found |= BIT(FEATURE_IO_URING);
		if (!(p->masked & BIT(FEATURE_DEFER_TASKRUN)) &&
		    probe_ring(p, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN))
			found |= BIT(FEATURE_DEFER_TASKRUN);
	}
	if (!(p->masked & BIT(FEATURE_USERFAULTFD)))
		found |= probe_uffd(p);
	if (!(p->masked & BIT(FEATURE_PROCESS_MADVISE)) && probe_process_madvise(p))
		found |= BIT(FEATURE_PROCESS_MADVISE);
	if (!(p->masked & BIT(FEATURE_CACHESTAT)) && probe_cachestat(p))
		found |= BIT(FEATURE_CACHESTAT);
	if (!(p->masked & BIT(FEATURE_PT_RECLAIM)) && probe_pt_reclaim(p))
		found |= BIT(FEATURE_PT_RECLAIM);
	return found & ~p->masked;
}

/* True: this thread is to probe. False: another one has, by now. */
static bool take_probe(void)
{
	pid_t self = getpid(), other = 0;

	while (!atomic_compare_exchange_weak(&prober, &other, self)) {
		if (other != self)
			continue; /* nobody, or who was left behind by a fork */
		sched_yield();
		other = 0;
	}
	if (atomic_load(&answer) == 0)
		return true;
	atomic_store(&prober, 0);
	return false;
}

/* lacking: settle also for less. */
static int settle(bool lacking)
{
	struct probe p = {.lack = 0};
	int saved_errno = errno;

	if (atomic_load_explicit(&answer, memory_order_acquire) != 0 || !take_probe())
		return 0;
	p.masked = (atomic_fetch_or(&asked_mask, FROZEN) & ~FROZEN) | mask_from_environment();
	unsigned found = probe_all(&p);
	if (p.lack == 0 || lacking)
		atomic_store_explicit(&answer, FROZEN | found, memory_order_release);
	atomic_store(&prober, 0);
	errno = saved_errno;
	return lacking ? 0 : p.lack;
}

int feature_settle(void)
{
	return settle(false);
}

bool feature_have(enum feature feature)
{
	(void)settle(true);
	return atomic_load_explicit(&answer, memory_order_acquire) & BIT(feature);
}
