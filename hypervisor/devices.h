// SPDX-License-Identifier: Apache-2.0
/*
 * The devices there are: what machine.c makes, and what may be asked of a
 * particular one. A device finds its part of the machine's configuration in the
 * order, whose counts were checked (machine_check()), and takes the descriptors
 * that it keeps, also when it fails.
 */
#ifndef DORMOUSE_DEVICES_H
#define DORMOUSE_DEVICES_H

#include "ctl.h"
#include "dev.h"

/* Descriptors of one machine; -1: not there. */
struct machine_fds {
    int kernel, initrd, console, tap;
    int snapshots[2]; /* image, session */
    int layer, workset;
    int layers[CTL_DISKS_MAX][CTL_LAYERS_MAX];
};

/* What a machine reports outwards. */
struct machine_hooks {
    /* A guest program connected to a host port; the callee owns the fd. Negative: the
     * connection is refused (reset). I/O thread, also at the start after a load. */
    int (*vsock_connect)(void *ctx, uint32_t guest_port, uint32_t host_port, int fd);
    void *ctx;
    const char *watch; /* call `seen`, on a vCPU thread, when the console prints this */
    void (*seen)(void *ctx);
    int input_fd;     /* typed bytes for the console, or -1 */
    bool interactive; /* the console shows each byte at once, and without a limit */
};

struct virtio_ops; /* virtio_mmio.h */

struct dev_order {
    struct dev_env env;
    const struct ctl_machine *m;
    struct machine_fds *fds;
    const struct machine_hooks *hooks;
    unsigned index; /* which of several of its kind */
    unsigned slot;  /* the next virtio device's, which counts it */
};

/* PL011 serial port: the guest's console, written to a bounded log. */
extern const struct dev_ops dev_uart_ops;
/* Writes out what is buffered; the last bytes printed go to `tail`, NUL-terminated, unless it
 * is NULL. */
void dev_uart_flush(struct dev *d, char *tail, size_t size);

/* PL031 real-time clock: reads the host's clock, in seconds. */
extern const struct dev_ops dev_rtc_ops;

/* Generation id: 16 bytes in the system area that change with every restore, and an
 * interrupt that tells the guest to reseed. */
extern const struct dev_ops dev_vmgenid_ops;
/* Writes the id; guest memory is mapped, vCPUs are stopped. With `notify` (after the GIC was
 * restored) the guest hears of it. */
int dev_vmgenid_set(struct dev *d, const uint8_t id[16], bool notify, struct err *e);

/* Raw files and copy-on-write layers. */
extern const struct virtio_ops virtio_blk_ops;
/* Other files behind the disk of a quiet device, with the same content; takes the descriptors.
 * After an error the old ones stay. */
int virtio_blk_layers(struct dev *d, const int *fds, unsigned nfds, struct err *e);

/* A tap with IFF_TAP|IFF_NO_PI|IFF_VNET_HDR. */
extern const struct virtio_ops virtio_net_ops;

/*
 * Stream connections between guest ports and sockets of the host. The guest
 * reaches CID 2 only. Connections to GP_PORT_CONTROL and GP_PORT_LOG survive a
 * snapshot: after a load they show up as if the guest had just connected, and
 * no byte is lost. All others are reset after a load.
 */
extern const struct virtio_ops virtio_vsock_ops;
/* Connects a stream socket to a guest port. Takes the fd, also when it fails; when the guest
 * refuses, the socket's peer sees its end. I/O thread. */
int virtio_vsock_open(struct dev *d, uint32_t guest_port, int fd, struct err *e);

/* The host kernel's random numbers, rate limited. */
extern const struct virtio_ops virtio_rng_ops;

/* Memory the guest gives back, on request or by itself (free-page reporting). */
extern const struct virtio_ops virtio_balloon_ops;
/* How many bytes the guest is asked to give; at most its RAM. I/O thread. */
int virtio_balloon_set_target(struct dev *d, uint64_t bytes, struct err *e);

#endif
