/* writes_device.c - see writes_device.h.
 */
#include "writes_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME "quire-writes"
#define CONTROL "/dev/mapper/control"
#define SKIPPED 77
#define SECTOR 512u

/* A request, with what follows its head: a target and its parameters, or a message. */
struct request {
	struct dm_ioctl head;
	char data[1024];
};

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int send_request(unsigned long command, struct request *r)
{
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("%s: %s\n", CONTROL, strerror(errno));
		exit(SKIPPED);
	}
	r->head.version[0] = DM_VERSION_MAJOR;
	r->head.data_size = sizeof(*r);
	r->head.data_start = offsetof(struct request, data);
	snprintf(r->head.name, sizeof(r->head.name), NAME);
	int rc = ioctl(fd, command, r);
	int error = errno;
	close(fd);
	errno = error;
	return rc;
}

static uint64_t sectors_of(const char *path)
{
	uint64_t n_bytes = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &n_bytes) < 0)
		die(path);
	close(fd);
	return n_bytes / SECTOR;
}

/* What is below is given each write as the log has it. */
static void keep_apart(int device)
{
	char path[64];
	struct stat st;

	if (fstat(device, &st) < 0)
		die("fstat");
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/nomerges", major(st.st_rdev), minor(st.st_rdev));
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "2", 1) != 1)
		die(path);
	close(fd);
}

void writes_device_make(struct writes_device *d, const char *data, const char *log)
{
	struct request create = {.head = {.flags = 0}}, load = {.head = {.target_count = 1}}, resume = {.head = {.flags = 0}};
	struct dm_target_spec spec = {.target_type = "log-writes"};

	d->data = open(data, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (d->data < 0)
		die(data);
	keep_apart(d->data);
	uint64_t n_sectors = sectors_of(data);
	/* Apart from what the device has: QEMU makes one write of two side by side. */
	d->mark_offset = (n_sectors - 1) * SECTOR;
	spec.length = n_sectors - WRITES_MARK_BYTES / SECTOR;
	if (send_request(DM_DEV_CREATE, &create) < 0)
		die("making a device");
	memcpy(load.data, &spec, sizeof(spec));
	snprintf(load.data + sizeof(spec), sizeof(load.data) - sizeof(spec), "%s %s", data, log);
	if (send_request(DM_TABLE_LOAD, &load) < 0) {
		/* The kernel says EINVAL for a target that it does not have, as for anything else. */
		fprintf(stderr, "log-writes on %s and %s: %s\n", data, log, strerror(errno));
		writes_device_remove(d);
		exit(1);
	}
	if (send_request(DM_DEV_SUSPEND, &resume) < 0)
		die("starting the device");
	snprintf(d->path, sizeof(d->path), "/dev/dm-%u", minor(create.head.dev));
}

void writes_device_mark(const struct writes_device *d, const char *text)
{
	char sector[SECTOR] __attribute__((aligned(SECTOR))) = {0};
	struct request r = {.head = {.flags = 0}};

	snprintf(r.data + sizeof(struct dm_target_msg), sizeof(r.data) - sizeof(struct dm_target_msg), "mark %s", text);
	if (send_request(DM_TARGET_MSG, &r) < 0)
		die("a mark");
	snprintf(sector, sizeof(sector), "%s", text);
	if (pwrite(d->data, sector, sizeof(sector), (off_t)d->mark_offset) != sizeof(sector))
		die("a mark on the data");
}

void writes_device_remove(struct writes_device *d)
{
	struct request r = {.head = {.flags = 0}};

	if (send_request(DM_DEV_REMOVE, &r) < 0)
		die("removing the device");
	close(d->data);
}
