/* quire/nbd.h - block devices served to others by the NBD protocol.
 *
 * A server has exports, which have names, and doors: sockets that it listens at, or connections that are given to it. It speaks
 * fixed newstyle with structured replies, block status, and TLS; any number of connections may use one export at the same
 * time (multi-conn), each with many requests under way, answered in whatever order they are done.
 *
 *	struct quire_nbd *nbd;
 *	quire_nbd_create(NULL, &nbd, &err);
 *	quire_nbd_add_file(nbd, "disk", "disk.img", 0, &err);
 *	quire_nbd_listen_unix(nbd, "/run/disk.sock", &err);
 *	quire_nbd_run(nbd);            // until quire_nbd_stop
 *	quire_nbd_destroy(nbd);
 *
 * Its doors are opened by one thread; then it runs on whichever thread calls quire_nbd_run, and on that alone.
 *
 * (The protocol: doc/proto.md of the NetworkBlockDevice project. Addresses: doc/uri.md there; qemu's contexts: docs/interop/nbd.txt of QEMU.)
 */
#ifndef QUIRE_NBD_H
#define QUIRE_NBD_H

#include <quire/loop.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quire_nbd;
struct quire_volumes;   /* of quire/volume.h */
struct quire_tmem_pool; /* of quire/tmem.h */

struct quire_nbd_options {
	size_t size;                    /* sizeof(struct quire_nbd_options); 0 fields mean default */
	enum quire_engine engine;
	unsigned connections;           /* at once; default 64: others wait until one ends */
	unsigned requests;              /* of a connection, under way; default 128: then no more is read from it */
	uint64_t connection_bytes;      /* of a connection's requests under way; default 64 MiB, at least 32 MiB */
	uint64_t bytes;                 /* of all, but for the first MiB of each connection; default 512 MiB, at least 32 MiB */
	unsigned handshake_ms;          /* to get through it; default 10,000: then it is closed */
	unsigned stall_ms;              /* default 30,000: a client that takes or sends nothing for so long, while others wait for
	                                 * the memory that it has, is disconnected */
	const char *tls_certificates;   /* a directory: server-cert.pem, server-key.pem, ca-cert.pem; borrowed for the call */
	const char *tls_psk;            /* a file of user:key lines, as psktool makes it; or this. borrowed for the call */
	bool tls_verify_clients;        /* they have to show a certificate that ca-cert.pem has signed */
	bool plain_remote;              /* allows to listen beyond this machine without TLS */
};

/* With TLS named, nobody gets anything without it. opts may be NULL. -EINVAL; -ENOTSUP: no GnuTLS, or not this engine; -ENOMEM;
 * what reading certificates and keys ends with. */
int quire_nbd_create(const struct quire_nbd_options *opts, struct quire_nbd **ret_nbd, struct quire_error *err);

/* Closes what there is, connections too, after quire_nbd_run has returned, or without it. Returns 0, or the first
 * error of making durable what was written. NULL allowed. In a forked child -ECHILD, as of all calls here, and nothing is closed or freed: the
 * sockets are the parent's. */
int quire_nbd_destroy(struct quire_nbd *nbd);

/* ---- exports: any thread, also while it runs ---- */

#define QUIRE_NBD_READ_ONLY 1u

/* A regular file or a block device, with the size that it has now. name: UTF-8 of at most 4096 bytes, may be "". A client that
 * names none gets the one export, if there is one. -EEXIST: the name is taken; -EINVAL; errors of open(2). */
int quire_nbd_add_file(struct quire_nbd *nbd, const char *name, const char *path, unsigned flags, struct quire_error *err);

/* A disk in memory: zeros at first, gone at the end. -EEXIST. */
int quire_nbd_add_memory(struct quire_nbd *nbd, const char *name, uint64_t size_bytes, struct quire_error *err);

/* A volume, or a snapshot, which is always read-only. The group stays open until the export is removed, or the server destroyed. A client
 * may ask what has changed since any generation: "qemu:dirty-bitmap:since-GEN". -ENOENT. */
int quire_nbd_add_volume(struct quire_nbd *nbd, const char *name, struct quire_volumes *volumes, const char *volume, unsigned flags,
                         struct quire_error *err);

/* A disk that is a pool of pages (quire/tmem.h): swap for a guest, compressed, deduplicated, capped, and spilling if the pool does. Blocks of 4 KiB; what was
 * never written, or was discarded, reads as zeros; a write that the pool refuses is ENOSPC, and that block reads as an error until it is written or
 * discarded. All is gone with the pool. pool: persistent, pages of 4 KiB, used by nobody else until the export is removed, or the server
 * destroyed. size_bytes: a multiple of 4 KiB. -EINVAL. */
int quire_nbd_add_swap(struct quire_nbd *nbd, const char *name, struct quire_tmem_pool *pool, uint64_t size_bytes,
                       struct quire_error *err);

/* Closes it; may block until what was written is durable, and fails as that does. -ENOENT; -EBUSY: a client has it. */
int quire_nbd_remove(struct quire_nbd *nbd, const char *name);

/* ---- doors: before it runs ---- */

/* A socket that only this user may connect to (mode 0600). What is there already is replaced if it is a socket that nobody listens
 * at, else -EADDRINUSE, or -EEXIST if it is something else. Unlinked at the end. */
int quire_nbd_listen_unix(struct quire_nbd *nbd, const char *path, struct quire_error *err);

/* At each address of host (NULL: this machine only), port by number or name (NULL: 10809). -EPERM: one of them is not of
 * this machine alone, there is no TLS, and opts->plain_remote was not set. -EINVAL: no such host or port; -EADDRNOTAVAIL: none of its
 * addresses is this machine's; what listening gives (-EADDRINUSE, -EACCES, …). */
int quire_nbd_listen_tcp(struct quire_nbd *nbd, const char *host, const char *port, struct quire_error *err);

/* A socket that is listening already, by systemd for example; closed at the end. What it is bound to is whoever's who made it, so
 * plain_remote is not asked. -EINVAL: no such socket. */
int quire_nbd_listen_fd(struct quire_nbd *nbd, int fd, struct quire_error *err);

/* The sockets that the service manager has passed (LISTEN_PID and LISTEN_FDS): how many were taken. They are taken
 * once: the environment's words are removed. -EINVAL: more than 1,024; errors as of quire_nbd_listen_fd, with the first ones taken. */
int quire_nbd_listen_inherited(struct quire_nbd *nbd, struct quire_error *err);

/* One connection, as inetd gives it; closed at the end. -EINVAL: no stream socket. */
int quire_nbd_connect_fd(struct quire_nbd *nbd, int fd, struct quire_error *err);

/* Where it listens, the i-th of its sockets: "unix:/run/disk.sock" or "tcp:127.0.0.1:10809". -ENOENT: there are not so many. */
int quire_nbd_address(const struct quire_nbd *nbd, unsigned i, char *ret_text, size_t text_bytes);

/* ---- running ---- */

/* Serves until quire_nbd_stop, or, where it listens nowhere, until the last connection has ended. The thread is the loop's
 * meanwhile, and is marked (PR_SET_IO_FLUSHER, where the process may) as one that memory reclaim may be waiting for. Once.
 * Returns 0; -ENOMEM, then nobody was served; what quire_loop_run is refused with: -EBUSY, -EDEADLK. */
int quire_nbd_run(struct quire_nbd *nbd);

/* Any thread: no new connections, what is under way is answered, then run returns, after 5 s at the latest. Never blocks. */
void quire_nbd_stop(struct quire_nbd *nbd);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
