/* ublk_request.c - one request of the kernel's, as an export understands it.
 *
 * The kernel sends nothing that it was not told is there; what it sends is checked all the same. Errors go back as those few that a
 * block device has: ENOSPC, ENOMEM, EOPNOTSUPP, and EIO for all others.
 */
#include "ublk_internal.h"

#include <errno.h>

static int32_t error_of(int rc)
{
	switch (rc) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return -ENOSPC;
	case -ENOMEM:
	case -EOPNOTSUPP:
		return rc;
	default:
		return -EIO;
	}
}

static int32_t carry_bytes(struct export *e, bool writes, void *buf, uint64_t offset, uint32_t n_bytes, unsigned how)
{
	int rc = writes ? e->ops->write(e, buf, offset, n_bytes, how) : e->ops->read(e, buf, offset, n_bytes);

	return rc < 0 ? error_of(rc) : (int32_t)n_bytes;
}

int32_t ublk_carry_out(struct export *e, const struct export_description *about, const struct ublk_descriptor *d, void *buf,
                       uint32_t buf_bytes, unsigned always)
{
	enum ublk_operation operation = d->operation & 0xff;
	unsigned how = always | (d->operation & UBLK_WITH_FUA ? EXPORT_FUA : 0) | (d->operation & UBLK_WITH_NO_UNMAP ? EXPORT_NO_HOLE : 0);
	uint64_t n_sectors = about->size_bytes / UBLK_SECTOR_BYTES;
	uint64_t n_bytes = (uint64_t)d->n_sectors * UBLK_SECTOR_BYTES;
	uint64_t offset = d->sector * UBLK_SECTOR_BYTES;
	int rc;

	if (operation == UBLK_FLUSH) {
		rc = e->ops->flush(e);
		return rc < 0 ? error_of(rc) : 0;
	}
	if (d->n_sectors == 0 || d->sector > n_sectors || d->n_sectors > n_sectors - d->sector || n_bytes > UINT32_MAX ||
	    ((offset | n_bytes) & (about->least_block - 1)) != 0)
		return -EIO;
	if (about->flags & EXPORT_READ_ONLY && operation != UBLK_READ)
		return -EIO;
	switch (operation) {
	case UBLK_READ:
	case UBLK_WRITE:
		if (n_bytes > buf_bytes)
			return -EIO;
		return carry_bytes(e, operation == UBLK_WRITE, buf, offset, (uint32_t)n_bytes, how & EXPORT_FUA);
	case UBLK_DISCARD:
		rc = about->flags & EXPORT_TRIM ? e->ops->trim(e, offset, (uint32_t)n_bytes, how & EXPORT_FUA) : -EOPNOTSUPP;
		break;
	case UBLK_WRITE_ZEROES:
		rc = about->flags & EXPORT_ZERO ? e->ops->zero(e, offset, (uint32_t)n_bytes, how) : -EOPNOTSUPP;
		break;
	default:
		rc = -EOPNOTSUPP;
	}
	return rc < 0 ? error_of(rc) : 0;
}
