/* ublk_abi.h - what the ublk driver and a server say to each other (Linux 6.0 and later; Documentation/block/ublk.rst).
 *
 * Own definitions throughout: Debian 12's headers have the driver's first ones only. All fields are of the machine's byte order.
 */
#ifndef SERVE_UBLK_ABI_H
#define SERVE_UBLK_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define UBLK_CONTROL_PATH "/dev/ublk-control"

/* Commands to the control device. */
enum ublk_command {
	UBLK_GET_DEV_INFO = 0x02,
	UBLK_ADD_DEV = 0x04,
	UBLK_DEL_DEV = 0x05,
	UBLK_START_DEV = 0x06,
	UBLK_STOP_DEV = 0x07,
	UBLK_SET_PARAMS = 0x08,
	UBLK_GET_PARAMS = 0x09,
	UBLK_START_RECOVERY = 0x10,
	UBLK_END_RECOVERY = 0x11,
	UBLK_GET_FEATURES = 0x13,
};

/* Commands to a device, by its queue's thread. */
enum ublk_io_command {
	UBLK_FETCH = 0x20,
	UBLK_COMMIT_AND_FETCH = 0x21,
};

/* Of a device; also what GET_FEATURES gives. */
#define UBLK_HAS_RECOVERY (UINT64_C(1) << 3)
#define UBLK_HAS_REISSUE (UINT64_C(1) << 4)
#define UBLK_HAS_QUIESCE (UINT64_C(1) << 12) /* a command of Linux 6.16 */

enum ublk_state { UBLK_STATE_DEAD = 0, UBLK_STATE_LIVE = 1, UBLK_STATE_QUIESCED = 2, UBLK_STATE_FAIL_IO = 3 };

#define UBLK_NO_QUEUE UINT16_MAX
#define UBLK_DEPTH_MOST 4096u

struct ublk_control_command {
	uint32_t device;
	uint16_t queue;
	uint16_t n_bytes; /* at address */
	uint64_t address;
	uint64_t data;
	uint16_t path_bytes;
	uint16_t pad;
	uint32_t reserved;
};
static_assert(sizeof(struct ublk_control_command) == 32, "the driver's");

struct ublk_device_info {
	uint16_t n_queues, depth, state, pad0;
	uint32_t most_io_bytes;
	uint32_t device;
	int32_t pid;
	uint32_t pad1;
	uint64_t flags;
	uint64_t server_flags; /* the server's own; the driver keeps them */
	uint32_t uid, gid;
	uint64_t reserved[2];
};
static_assert(sizeof(struct ublk_device_info) == 64, "the driver's");

enum { UBLK_READ_ONLY = 1, UBLK_ROTATIONAL = 2, UBLK_VOLATILE_CACHE = 4, UBLK_FUA = 8 };

struct ublk_parameters {
	uint32_t n_bytes, types; /* types: 1 basic, 2 discard */
	uint32_t attributes;
	uint8_t logical_shift, physical_shift, best_io_shift, least_io_shift;
	uint32_t most_sectors, chunk_sectors;
	uint64_t n_sectors, boundary_mask;
	uint32_t discard_alignment, discard_granularity;
	uint32_t discard_most_sectors, zero_most_sectors;
	uint16_t discard_most_segments, reserved;
	uint32_t unused[5]; /* what later drivers have here is not asked for by types */
};
static_assert(sizeof(struct ublk_parameters) == 80 && offsetof(struct ublk_parameters, n_sectors) == 24 &&
              offsetof(struct ublk_parameters, discard_alignment) == 40, "the driver's");
#define UBLK_PARAMETERS_BASIC 1u
#define UBLK_PARAMETERS_DISCARD 2u

/* A request, in memory that the driver shares. */
struct ublk_descriptor {
	uint32_t operation; /* enum ublk_operation in the lowest 8 bits, flags above */
	uint32_t n_sectors;
	uint64_t sector;
	uint64_t address;
};
static_assert(sizeof(struct ublk_descriptor) == 24, "the driver's");

enum ublk_operation { UBLK_READ = 0, UBLK_WRITE = 1, UBLK_FLUSH = 2, UBLK_DISCARD = 3, UBLK_WRITE_ZEROES = 5 };
#define UBLK_WITH_FUA (1u << 13)
#define UBLK_WITH_NO_UNMAP (1u << 15)
#define UBLK_SECTOR_BYTES 512u

struct ublk_io_message {
	uint16_t queue, tag;
	int32_t result;
	uint64_t address; /* of the tag's memory */
};
static_assert(sizeof(struct ublk_io_message) == 16, "the driver's");

/* Later drivers want the numbers as ioctls have them, and may know no others. */
static inline uint32_t ublk_encode(enum ublk_command command)
{
	switch (command) {
	case UBLK_GET_DEV_INFO:
	case UBLK_GET_PARAMS:
	case UBLK_GET_FEATURES:
		return (uint32_t)_IOR('u', command, struct ublk_control_command);
	default:
		return (uint32_t)_IOWR('u', command, struct ublk_control_command);
	}
}

static inline uint32_t ublk_encode_io(enum ublk_io_command command)
{
	return (uint32_t)_IOWR('u', command, struct ublk_io_message);
}

#endif
