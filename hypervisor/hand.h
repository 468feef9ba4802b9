// SPDX-License-Identifier: Apache-2.0
/* One machine by hand, without the daemon: `dormouse-vmm --run` and `--restore`. */
#ifndef DORMOUSE_HAND_H
#define DORMOUSE_HAND_H

#include "machine.h"

struct hand_options {
    const char *kernel, *initrd, *cmdline; /* --run */
    const char *restore;                   /* --restore IMAGE[,SESSION] */
    const char *layer;                     /* the image's memory layer; NULL: it has none */
    uint64_t mem_bytes;
    unsigned vcpus;
    const char *disks[CTL_DISKS_MAX]; /* base[,overlay...][:ro] */
    unsigned ndisks;
    const char *console; /* "-" or a file; NULL: none */
    const char *tap;
    bool rng, balloon;
    const char *save, *save_after; /* write a snapshot when the console prints this */
    bool diff;                     /* ...as a difference to the restored image */
};

struct hand {
    struct hand_options o;
    struct vm *vm;
    struct ctl_machine m;
    struct machine_fds fds;
    struct machine_hooks hooks;
    int save_fd;
    int status; /* exit status when the loop ends */
    _Atomic bool seen;
};

/* Before the jail: opens all files. */
int hand_open(struct hand *h, struct err *e);
/* After the jail: boots or restores. */
int hand_start(struct hand *h, struct err *e);

#endif
