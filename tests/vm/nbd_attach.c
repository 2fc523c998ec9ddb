/* nbd_attach.c - the kernel as a client of a server of NBD.
 *
 *   vm-nbd-attach DEVICE SOCKET EXPORT   until the server ends, or it is detached
 *   vm-nbd-attach DEVICE                 detaches
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/nbd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HELLO_BYTES 18u
#define OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define OPTION_EXPORT_NAME 1u
#define CLIENT_FLAGS 3u /* fixed newstyle, no zeroes */
#define BLOCK_BYTES 4096u

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void transfer(int fd, void *bytes, size_t n, bool out)
{
	for (size_t at = 0; at < n;) {
		ssize_t done = out ? write(fd, (char *)bytes + at, n - at) : read(fd, (char *)bytes + at, n - at);
		if (done <= 0)
			die("the handshake");
		at += (size_t)done;
	}
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		die(path);
	return fd;
}

static uint64_t negotiate(int fd, const char *export, uint16_t *ret_flags)
{
	struct __attribute__((packed)) {
		uint32_t client;
		uint64_t magic;
		uint32_t option, n_bytes;
	} ask = {htobe32(CLIENT_FLAGS), htobe64(OPTION_MAGIC), htobe32(OPTION_EXPORT_NAME), htobe32((uint32_t)strlen(export))};
	struct __attribute__((packed)) {
		uint64_t bytes;
		uint16_t flags;
	} told;
	char hello[HELLO_BYTES], name[256];

	snprintf(name, sizeof(name), "%s", export);
	transfer(fd, hello, sizeof(hello), false);
	transfer(fd, &ask, sizeof(ask), true);
	transfer(fd, name, strlen(name), true);
	transfer(fd, &told, sizeof(told), false);
	*ret_flags = be16toh(told.flags);
	return be64toh(told.bytes);
}

int main(int argc, char **argv)
{
	uint16_t flags;

	if (argc != 2 && argc != 4)
		return 2;
	int device = open(argv[1], O_RDWR);
	if (device < 0)
		die(argv[1]);
	if (argc == 2) {
		(void)ioctl(device, NBD_DISCONNECT);
		return ioctl(device, NBD_CLEAR_SOCK) < 0 ? 1 : 0;
	}
	int fd = connect_to(argv[2]);
	uint64_t bytes = negotiate(fd, argv[3], &flags);
	if (ioctl(device, NBD_SET_BLKSIZE, (unsigned long)BLOCK_BYTES) < 0 || ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(bytes / BLOCK_BYTES)) < 0 ||
	    ioctl(device, NBD_SET_FLAGS, (unsigned long)flags) < 0 || ioctl(device, NBD_SET_SOCK, (unsigned long)fd) < 0)
		die("setting it up");
	(void)ioctl(device, NBD_DO_IT); /* an error where the server went first */
	(void)ioctl(device, NBD_CLEAR_QUE);
	(void)ioctl(device, NBD_CLEAR_SOCK);
	return 0;
}
