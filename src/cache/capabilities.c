/* capabilities.c - which promises hold in this process: features, turned into words for programs. */
#include "../base/feature.h"
#include "arena_kernel.h"

#include <quire/cache.h>
#include <unistd.h>

/* What mlock2 says to a page of ours. */
static bool can_lock(void)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	bool can = syscall(SYS_mlock2, p, bytes, MLOCK_ONFAULT) == 0;
	munmap(p, bytes);
	return can;
}

int quire_capabilities(struct quire_capabilities *ret_caps)
{
	int rc = feature_settle();
	if (rc < 0)
		return rc;
	bool uffd = feature_have(FEATURE_USERFAULTFD);
	bool full = uffd && feature_have(FEATURE_UFFD_KERNEL_FAULTS);

	*ret_caps = (struct quire_capabilities){
		.grade = full ? QUIRE_GRADE_FULL : uffd ? QUIRE_GRADE_USER_MODE : QUIRE_GRADE_NONE,
		.io_uring = feature_have(FEATURE_IO_URING),
		.raw_loads = true, /* with no userfaultfd by the kernel's own mappings */
		.syscalls_on_cold = full || !uffd,
		.budget_hard = uffd,
		.checked_before_visible = uffd,
		.batched_eviction = feature_have(FEATURE_PROCESS_MADVISE),
		.move = feature_have(FEATURE_UFFD_MOVE),
		.poison = feature_have(FEATURE_UFFD_POISON),
		.cachestat = feature_have(FEATURE_CACHESTAT),
		.page_tables_reclaimed = feature_have(FEATURE_PT_RECLAIM),
		.memory_locked = can_lock(),
		.defer_taskrun = feature_have(FEATURE_DEFER_TASKRUN),
		.direct_io_default = feature_have(FEATURE_DIRECT),
		.anon = uffd && feature_have(FEATURE_UFFD_MOVE),
		.anon_tracks_writes = feature_have(FEATURE_UFFD_MOVE) && feature_have(FEATURE_UFFD_WP),
	};
	return 0;
}
