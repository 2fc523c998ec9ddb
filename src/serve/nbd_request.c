/* nbd_request.c - one request: is it allowed, and carrying it out. */
#include "nbd_internal.h"

#include <errno.h>

#define CHANGES (1u << NBD_CMD_WRITE | 1u << NBD_CMD_TRIM | 1u << NBD_CMD_WRITE_ZEROES)

/* What each command takes. FUA is for all of them, whether or not they write. */
static const struct {
	uint16_t flags;
	bool ranged;         /* offset and length are of the export */
	unsigned needs;      /* enum export_flag */
} commands[] = {
	[NBD_CMD_READ] = {NBD_FUA | NBD_DF, true, 0},
	[NBD_CMD_WRITE] = {NBD_FUA, true, 0},
	[NBD_CMD_FLUSH] = {NBD_FUA, false, 0},
	[NBD_CMD_TRIM] = {NBD_FUA, true, EXPORT_TRIM},
	[NBD_CMD_CACHE] = {NBD_FUA, true, EXPORT_CACHE},
	[NBD_CMD_WRITE_ZEROES] = {NBD_FUA | NBD_NO_HOLE | NBD_FAST_ZERO, true, EXPORT_ZERO},
	[NBD_CMD_BLOCK_STATUS] = {NBD_FUA | NBD_REQ_ONE, true, 0},
};

static uint32_t refuse(uint32_t error, const char *why, const char **ret_why)
{
	*ret_why = why;
	return error;
}

static uint32_t check_range(const struct nbd_connection *c, const struct nbd_request *r, const char **ret_why)
{
	const struct export_description *about = &c->about;
	bool writes = r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES;

	if (r->offset > about->size_bytes || r->n_bytes > about->size_bytes - r->offset)
		return refuse(writes ? NBD_ENOSPC : NBD_EINVAL, "beyond the end", ret_why);
	if ((r->offset | r->n_bytes) & (about->least_block - 1))
		return refuse(NBD_EINVAL, "not in whole blocks", ret_why);
	return 0;
}

uint32_t nbd_request_check(const struct nbd_connection *c, const struct nbd_request *r, const char **ret_why)
{
	if (r->type >= sizeof(commands) / sizeof(commands[0]))
		return refuse(NBD_EINVAL, "not a command", ret_why);
	unsigned allowed = commands[r->type].flags;
	if (!c->structured)
		allowed &= ~(unsigned)NBD_DF;
	if (!(c->about.flags & EXPORT_FAST_ZERO))
		allowed &= ~(unsigned)NBD_FAST_ZERO;
	if (c->about.flags & EXPORT_READ_ONLY && CHANGES >> r->type & 1)
		return refuse(NBD_EPERM, "read-only", ret_why);
	if (r->flags & ~allowed)
		return refuse(NBD_EINVAL, "flags that the command does not have", ret_why);
	if (commands[r->type].needs & ~c->about.flags)
		return refuse(NBD_EINVAL, "not a command of this export", ret_why);
	if ((r->type == NBD_CMD_READ || r->type == NBD_CMD_WRITE) && r->n_bytes > EXPORT_PAYLOAD_BYTES)
		return refuse(NBD_EINVAL, "more than 32 MiB", ret_why);
	if (r->type == NBD_CMD_BLOCK_STATUS && (c->n_contexts == 0 || r->n_bytes == 0))
		return refuse(NBD_EINVAL, c->n_contexts == 0 ? "no context was selected" : "of no bytes", ret_why);
	if (!commands[r->type].ranged)
		return r->offset != 0 || r->n_bytes != 0 ? refuse(NBD_EINVAL, "takes no range", ret_why) : 0;
	return check_range(c, r, ret_why);
}

uint64_t nbd_request_bytes(const struct nbd_connection *c, const struct nbd_request *r)
{
	if (r->type == NBD_CMD_READ || r->type == NBD_CMD_WRITE)
		return r->n_bytes;
	if (r->type == NBD_CMD_BLOCK_STATUS)
		return (uint64_t)NBD_STATUS_EXTENTS * (sizeof(struct export_extent) + 8u * c->n_contexts);
	return 0;
}

/* ---- carrying out ---- */

static void reply_result(struct nbd_request *r, int rc)
{
	static const struct {
		int rc;
		uint32_t error;
		const char *why;
	} table[] = {
		{-EPERM, NBD_EPERM, "not permitted"},     {-EROFS, NBD_EPERM, "read-only"},
		{-ENOMEM, NBD_ENOMEM, "out of memory"},   {-EINVAL, NBD_EINVAL, "not valid any more"},
		{-ENOSPC, NBD_ENOSPC, "no space left"},   {-EDQUOT, NBD_ENOSPC, "quota exceeded"},
		{-EFBIG, NBD_ENOSPC, "file too large"},   {-ESHUTDOWN, NBD_ESHUTDOWN, "shutting down"},
		{-EBADMSG, NBD_EIO, "checksum mismatch"},
	};

	if (rc >= 0) {
		nbd_reply_done(r);
		return;
	}
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].rc == rc) {
			nbd_reply_error(r, table[i].error, table[i].why);
			return;
		}
	}
	if (rc == -ENOTSUP && r->flags & NBD_FAST_ZERO)
		nbd_reply_error(r, NBD_ENOTSUP, "not faster than writing");
	else
		nbd_reply_error(r, NBD_EIO, "I/O error");
}

static bool has_hole(const struct export_loan *loan)
{
	for (unsigned i = 0; i < loan->n_pieces; i++)
		if (loan->pieces[i].bytes == NULL)
			return true;
	return false;
}

/* Can the loan be sent as it is? Holes are chunks, and one reply may be asked to be one chunk. */
static bool is_sendable(const struct nbd_request *r)
{
	if (!has_hole(&r->loan))
		return true;
	return r->connection->structured && (!(r->flags & NBD_DF) || r->loan.n_pieces == 1);
}

static void carry_out_read(struct nbd_request *r, struct export *e)
{
	int rc = e->ops->lend == NULL ? -ENOTSUP : e->ops->lend(e, r->offset, r->n_bytes, &r->loan);

	if (rc == 0 && is_sendable(r)) {
		nbd_reply_loan(r);
		return;
	}
	if (rc == 0)
		e->ops->give_back(e, &r->loan);
	r->loan.n_pieces = 0;
	if (rc != 0 && rc != -ENOTSUP) {
		reply_result(r, rc);
		return;
	}
	rc = nbd_request_reserve(r, r->n_bytes);
	if (rc == 0)
		rc = e->ops->read(e, r->data, r->offset, r->n_bytes);
	if (rc < 0)
		reply_result(r, rc);
	else
		nbd_reply_read(r);
}

/* The payload is not kept until the reply was taken. */
static void carry_out_write(struct nbd_request *r, struct export *e, unsigned how)
{
	int rc = e->ops->write(e, r->data, r->offset, r->n_bytes, how);
	uint64_t n_bytes = r->charged_bytes;

	nbd_request_unreserve(r);
	r->charged_bytes = 0;
	nbd_budget_give(r->connection, n_bytes);
	reply_result(r, rc);
}

void nbd_request_run(void *request)
{
	struct nbd_request *r = request;
	struct export *e = r->connection->export;
	unsigned how = (r->flags & NBD_FUA ? EXPORT_FUA : 0) | (r->flags & NBD_NO_HOLE ? EXPORT_NO_HOLE : 0) |
	               (r->flags & NBD_FAST_ZERO ? EXPORT_FAST : 0);

	if (r->n_bytes == 0 && r->type != NBD_CMD_FLUSH) {
		nbd_reply_done(r);
		return;
	}
	switch (r->type) {
	case NBD_CMD_READ:
		carry_out_read(r, e);
		break;
	case NBD_CMD_WRITE:
		carry_out_write(r, e, how);
		break;
	case NBD_CMD_FLUSH:
		reply_result(r, e->ops->flush(e));
		break;
	case NBD_CMD_TRIM:
		reply_result(r, e->ops->trim(e, r->offset, r->n_bytes, how));
		break;
	case NBD_CMD_CACHE:
		reply_result(r, e->ops->cache(e, r->offset, r->n_bytes));
		break;
	case NBD_CMD_WRITE_ZEROES:
		reply_result(r, e->ops->zero(e, r->offset, r->n_bytes, how));
		break;
	default:
		nbd_status_run(r);
	}
}
