/* nbd_proto.h - the numbers of the NBD protocol, fixed newstyle, and how they travel: big-endian, unaligned.
 *
 * Source: doc/proto.md of github.com/NetworkBlockDevice/nbd.
 */
#ifndef SERVE_NBD_PROTO_H
#define SERVE_NBD_PROTO_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x3e889045565a9)
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC 0x668e33efu

#define NBD_STRING_BYTES 4096u /* names, and messages, at most */

enum { /* lengths of what is fixed */
	NBD_GREETING_BYTES = 18,
	NBD_OPTION_BYTES = 16,
	NBD_OPTION_REPLY_BYTES = 20,
	NBD_REQUEST_BYTES = 28,
	NBD_SIMPLE_REPLY_BYTES = 16,
	NBD_CHUNK_BYTES = 20,
	NBD_EXPORT_PADDING_BYTES = 124,
};

enum nbd_handshake_flag { NBD_FIXED_NEWSTYLE = 1, NBD_NO_ZEROES = 2 };

enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

enum nbd_option_reply {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR(n) (UINT32_C(0x80000000) + (n))
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)

enum nbd_info { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3 };

enum nbd_transmission_flag {
	NBD_HAS_FLAGS = 1,
	NBD_READ_ONLY = 2,
	NBD_SEND_FLUSH = 4,
	NBD_SEND_FUA = 8,
	NBD_ROTATIONAL = 16,
	NBD_SEND_TRIM = 32,
	NBD_SEND_WRITE_ZEROES = 64,
	NBD_SEND_DF = 128,
	NBD_CAN_MULTI_CONN = 256,
	NBD_SEND_CACHE = 1024,
	NBD_SEND_FAST_ZERO = 2048,
};

enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flag { NBD_FUA = 1, NBD_NO_HOLE = 2, NBD_DF = 4, NBD_REQ_ONE = 8, NBD_FAST_ZERO = 16 };

enum nbd_chunk {
	NBD_CHUNK_NONE = 0,
	NBD_CHUNK_OFFSET_DATA = 1,
	NBD_CHUNK_OFFSET_HOLE = 2,
	NBD_CHUNK_BLOCK_STATUS = 5,
	NBD_CHUNK_ERROR = 0x8001,
};
#define NBD_CHUNK_DONE 1u

enum nbd_error {
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

/* Each writes there and returns what follows. */
static inline uint8_t *nbd_put16(uint8_t *at, uint16_t value)
{
	value = htobe16(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static inline uint8_t *nbd_put32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static inline uint8_t *nbd_put64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static inline uint16_t nbd_get16(const uint8_t *at)
{
	uint16_t value;
	memcpy(&value, at, sizeof(value));
	return be16toh(value);
}

static inline uint32_t nbd_get32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static inline uint64_t nbd_get64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof(value));
	return be64toh(value);
}

#endif
