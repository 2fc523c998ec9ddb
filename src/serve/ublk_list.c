/* ublk_list.c - the devices that the driver has, whoever serves them, and removing one.
 *
 * Their numbers are those of the class ublk-char in sysfs; what each is, the driver says.
 */
#include "ublk_internal.h"

#include "../base/fail.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CLASS_PATH "/sys/class/ublk-char"

static enum quire_ublk_state state_of(const struct ublk_device_info *info)
{
	switch (info->state) {
	case UBLK_STATE_LIVE:
		return QUIRE_UBLK_LIVE;
	case UBLK_STATE_QUIESCED:
	case UBLK_STATE_FAIL_IO:
		return QUIRE_UBLK_WAITING;
	default:
		return QUIRE_UBLK_DEAD;
	}
}

static int tell(const struct ublk_control *c, uint32_t id, struct quire_ublk_info *ret)
{
	struct ublk_device_info info = {.device = id};
	struct ublk_parameters parameters;
	int rc = ublk_control_info(c, id, &info);

	if (rc == 0)
		rc = ublk_control_parameters(c, id, &parameters);
	if (rc < 0)
		return rc;
	*ret = (struct quire_ublk_info){
		.id = id,
		.state = state_of(&info),
		.pid = info.pid,
		.depth = info.depth,
		.size_bytes = parameters.n_sectors * UBLK_SECTOR_BYTES,
		.read_only = parameters.attributes & UBLK_READ_ONLY,
		.recovers = info.flags & UBLK_HAS_RECOVERY,
	};
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct quire_ublk_info *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

int quire_ublk_list(struct quire_ublk_info *ret, unsigned n, struct quire_error *err)
{
	struct ublk_control c;
	int rc = ublk_control_open(&c, err);

	if (rc < 0)
		return rc;
	DIR *dir = opendir(CLASS_PATH);
	if (dir == NULL)
		rc = quire_fail(err, -errno, "%s", CLASS_PATH);
	unsigned found = 0, id;
	for (struct dirent *entry; rc == 0 && found < n && (entry = readdir(dir)) != NULL;) {
		/* One that is removed meanwhile is not there. */
		if (sscanf(entry->d_name, "ublkc%u", &id) == 1 && tell(&c, id, &ret[found]) == 0)
			found++;
	}
	if (dir != NULL)
		closedir(dir);
	ublk_control_close(&c);
	qsort(ret, found, sizeof(*ret), by_id);
	return rc < 0 ? rc : (int)found;
}

int quire_ublk_remove(uint32_t id, struct quire_error *err)
{
	struct ublk_control c;
	struct ublk_device_info info = {.device = id};
	int rc = ublk_control_open(&c, err);

	if (rc < 0)
		return rc;
	rc = ublk_control_info(&c, id, &info);
	if (rc == 0) {
		(void)ublk_control_call(&c, UBLK_STOP_DEV, id, NULL, 0, 0);
		rc = ublk_control_call(&c, UBLK_DEL_DEV, id, NULL, 0, 0);
		/* Its server may have been faster. */
		if (rc == -ENODEV || rc == -EINVAL)
			rc = 0;
	}
	ublk_control_close(&c);
	/* Of a number that no device has, drivers say one or the other. */
	return rc < 0 ? quire_fail(err, rc == -EINVAL ? -ENODEV : rc, "ublk%u", (unsigned)id) : 0;
}
