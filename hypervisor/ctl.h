// SPDX-License-Identifier: Apache-2.0
/*
 * Control messages between dormoused and one dormouse-vmm, over base/msg.h
 * (SOCK_SEQPACKET, fd 3 of the VMM). The VMM opens nothing by itself: every
 * file, tap and socket arrives as a descriptor.
 *
 * Life: the VMM comes out of a nursery, enters its jail, makes VM, vCPUs and GIC
 * and sends CTL_READY (an *embryo*). Then exactly one CTL_BOOT or
 * CTL_RESTORE. Requests carry id != 0 and are answered by CTL_DONE or CTL_FAIL
 * with the same id; events carry id 0. When the control socket closes, an
 * embryo exits and a machine keeps running. It may have a listening
 * socket: whoever connects there next is its control, is sent CTL_READY
 * and may go on where the last one stopped; answers to the last one are gone.
 * When nobody comes for CTL_ALONE_S the machine ends.
 *
 * All structs are plain host-endian: both ends are the same build on the same
 * host (CTL_VERSION is checked in CTL_READY).
 */
#ifndef DORMOUSE_CTL_H
#define DORMOUSE_CTL_H

#include <stdint.h>

#define CTL_VERSION    2u
#define CTL_ALONE_S    900u
#define CTL_VCPUS_MAX  16u
#define CTL_DISKS_MAX  4u
#define CTL_LAYERS_MAX 8u
#define CTL_CMDLINE    512u
#define CTL_KERNEL     0x40200000ull /* where CTL_BOOT puts a kernel with text offset 0 */
#define CTL_CID        3u            /* guest's vsock context id, the same in every microVM */

enum ctl_type {
    /* daemon -> VMM, requests */
    CTL_BOOT = 1,   /* struct ctl_machine + fds: cold boot */
    CTL_RESTORE,    /* struct ctl_machine + fds: continue from a snapshot */
    CTL_PAUSE,      /* stop vCPUs, drain devices */
    CTL_RESUME,     /* undo pause */
    CTL_SAVE,       /* struct ctl_save + fds; needs a paused machine */
    CTL_STOP,       /* exit now, reason CTL_EXIT_STOPPED */
    CTL_STATS,      /* answered by CTL_DONE with struct ctl_stats */
    CTL_VSOCK_OPEN, /* struct ctl_vsock + fd: connect the fd (stream) to a guest port */
    CTL_BALLOON,    /* struct ctl_balloon: set the target */
    CTL_WORKSET,    /* + fd: writes which pages the machine has touched since its restore */
    CTL_PREPARE,    /* struct ctl_machine + fds: an embryo gets an image's memory beforehand */
    CTL_LAYER,      /* struct ctl_layer + fd: writes a memory layer; needs a paused machine */
    CTL_DISK,       /* struct ctl_disk_order + fds: other files behind a disk; when paused */

    /* VMM -> daemon */
    CTL_READY = 64, /* struct ctl_ready, event */
    CTL_DONE,       /* answer; body depends on the request, may be empty */
    CTL_FAIL,       /* answer; struct ctl_fail */
    CTL_VSOCK,      /* struct ctl_vsock + fd, event: guest connected to a host port */
    CTL_EXITED,     /* struct ctl_exit, event, the last message */
};

#define CTL_DISK_READONLY 1u

struct ctl_disk {
    uint32_t flags;
    uint32_t nlayers; /* fds: base raw file first, then overlay files (snapshot/overlay.h) */
    uint64_t size;    /* bytes seen by the guest, multiple of 4096; 0: base file's size */
    char serial[20];  /* virtio-blk id, NUL-padded */
    uint32_t pad;
    uint64_t limit_bytes; /* per second, 0: none */
    uint64_t limit_ops;
};
/* With no READONLY flag the last layer is written to; it must be an overlay or, when
 * nlayers is 1, the raw file itself. */

struct ctl_machine {
    uint32_t version;
    uint32_t vcpus;
    uint64_t mem_bytes; /* multiple of 2 MiB */
    uint32_t has_net;
    uint32_t ndisks;
    uint8_t mac[6];
    uint8_t pad[2];
    uint32_t has_vsock, has_rng, has_balloon;
    uint32_t watchdog_ms; /* reserved, 0 */
    uint64_t net_limit_bytes, net_limit_ops;
    struct ctl_disk disks[CTL_DISKS_MAX];
    uint8_t vmgenid[16]; /* fresh random bytes from the daemon for every boot and restore */
    char cmdline[CTL_CMDLINE]; /* CTL_BOOT only */
    uint32_t nmem_layers;      /* CTL_RESTORE only: 1 image, or image + session */
    uint32_t start_paused;
    uint32_t has_layer;   /* CTL_RESTORE only: the image's memory layer is there */
    uint32_t has_workset; /* CTL_RESTORE only: and the pages it will touch */
    uint32_t prepared;    /* CTL_RESTORE only: image, layer and working set came before */
};
/* Descriptors in order:
 *   CTL_BOOT:    kernel Image, initrd (cpio), console log (append), [tap], disk 0 layers…
 *   CTL_RESTORE: console log, snapshot files base…top (nmem_layers), [layer], [workset],
 *                [tap], disk 0 layers…
 *   CTL_PREPARE: image, [layer], [workset]. Then a CTL_RESTORE with `prepared` and without
 * them. Kernel and snapshot files are mapped: while the machine lives they may be renamed,
 * replaced or unlinked, but never changed in place or truncated (the VMM would die of SIGBUS).
 */

#define CTL_SAVE_FULL  1u /* else: difference to the machine's image layer */
#define CTL_SAVE_LAYER 2u /* with FULL: the second fd is a memory layer to save over */

struct ctl_save {
    uint32_t flags;
    uint32_t pad;
    uint8_t parent_id[16]; /* filled in by the VMM from its image layer; ignored */
};
/* fd: the new snapshot file, empty, read-write. The VMM writes it whole and does not
 * fsync or rename: publishing is the store's work. CTL_DONE body: struct ctl_saved. */

struct ctl_saved {
    uint64_t file_bytes;   /* apparent size */
    uint64_t pages_stored; /* 4 KiB pages with content */
    uint64_t pages_zero;
    uint64_t pages_same;  /* dirty but equal to the image */
    uint64_t pause_ns;    /* vCPUs stopped until saved */
    uint8_t id[16];       /* the new snapshot's id */
    uint64_t layer_same;  /* pages that are in the layer */
    uint64_t layer_other; /* pages of its place that had to be stored all the same */
    uint64_t pages_free;  /* left out: the guest's kernel has no use for what they hold */
};

/* fd: the new layer file, empty, read-write. Its id is zeros: naming and publishing it is the
 * daemon's work. */
struct ctl_layer {
    uint64_t gpa, len; /* whole pages of memory */
    uint64_t kernel;   /* goes into the file's header */
};

/* fds: all layers of the disk, base first, as with CTL_RESTORE. They hold what the old ones
 * held: the old top frozen, and an empty one over it. After an error the old ones stay. */
struct ctl_disk_order {
    uint32_t disk;
    uint32_t nlayers;
};

struct ctl_vsock {
    uint32_t port; /* CTL_VSOCK: host port the guest asked for; _OPEN: guest port */
    uint32_t peer_port;
};

struct ctl_balloon {
    uint64_t target_bytes;
};

enum ctl_state { CTL_EMBRYO, CTL_RUNNING, CTL_PAUSED };

struct ctl_ready {
    uint32_t version;
    uint32_t vcpus;
    uint32_t gic;   /* 2 or 3 */
    uint32_t state; /* enum ctl_state */
};

struct ctl_fail {
    int32_t num; /* positive errno */
    char msg[400];
    char hint[200];
};

enum ctl_exit_reason {
    CTL_EXIT_STOPPED = 1, /* CTL_STOP */
    CTL_EXIT_POWEROFF,    /* guest PSCI SYSTEM_OFF */
    CTL_EXIT_RESET,       /* guest PSCI SYSTEM_RESET */
    CTL_EXIT_GUEST_FAULT, /* the guest did what cannot be emulated; text says what */
    CTL_EXIT_ERROR,       /* the VMM itself failed */
};

struct ctl_exit {
    uint32_t reason;
    uint32_t pad;
    char text[240];
    char console[1024]; /* last console bytes, NUL-terminated */
};

struct ctl_stats {
    uint64_t run_exits, mmio_exits, bus_misses;
    uint64_t blk_read_bytes, blk_write_bytes, net_rx_bytes, net_tx_bytes;
    uint64_t balloon_bytes, reported_bytes;
    /* How long the phases of the restore took: read files, map memory, make devices, vCPU
     * registers, GIC, load devices, start. */
    uint64_t restore_ns[8];
};

#endif
