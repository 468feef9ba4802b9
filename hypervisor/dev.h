// SPDX-License-Identifier: Apache-2.0
/*
 * What a device is to the machine. A device is one file that fills a
 * `struct dev_ops`; dev_table.c lists them all. The device tree, reset, save
 * and restore are loops over the configured devices. Every op may be NULL; a
 * device without `quiesce` is always quiet. Devices live as long as the process
 * (a failed order ends it, too): only tests free them.
 *
 * Threads: `read/write` of the bus run on vCPU threads; everything that
 * touches queues runs in the I/O thread. A device guards what both touch with
 * its own mutex.
 */
#ifndef DORMOUSE_DEV_H
#define DORMOUSE_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ring.h"
#include "bus.h"
#include "mem.h"

struct dstate_writer; /* snapshot/devstate.h */
struct dstate_reader;
struct ctl_stats; /* ctl.h */

/* An interrupt line: an irqfd on an edge-triggered SPI. */
struct irq {
    int fd; /* the VM (a test: an eventfd) */
    unsigned spi;
};

/* What a device gets from the machine at its making. */
struct dev_env {
    const struct guest_mem *mem;
    struct bus *bus;
    struct ring *ring;
    int vm_fd; /* for irqfd and ioeventfd, through irq.h only */
};

struct dev;
struct dev_ops {
    const char *name; /* e.g. "virtio-blk"; also names it in the state file */
    uint32_t tag;     /* device-state tag, unique per device kind */
    /* Adds its node to the device tree (libfdt sequential write, inside "/"); most
     * devices need no more than fdt_dev_node() of arm64_fdt.h. */
    int (*fdt)(struct dev *d, void *fdt, struct err *e);
    /* Start doing I/O (after boot set-up or after load). I/O thread. */
    int (*start)(struct dev *d, struct err *e);
    /* Stop taking new requests and call dev_quiesced(d) once nothing is in flight.
     * I/O thread; vCPUs are already stopped. */
    void (*quiesce)(struct dev *d);
    /* Undo quiesce. */
    void (*resume)(struct dev *d);
    /* Somebody called ring_kick(): look at what vCPU threads left for the I/O thread.
     * Cheap when there is nothing. The machine owns ring_on_kick(). */
    void (*kicked)(struct dev *d);
    /* save and load see the fields of one block only: the machine opens, closes and finds
     * the device's block (tag, instance). A quiet device, I/O thread. */
    int (*save)(struct dev *d, struct dstate_writer *w, struct err *e);
    /* After load and start an interrupt that the guest has not acknowledged must be
     * raised again: its injection may have been under way when the GIC was saved. */
    int (*load)(struct dev *d, struct dstate_reader *r, struct err *e);
    /* Adds its counters. */
    void (*stats)(const struct dev *d, struct ctl_stats *s);
    void (*free)(struct dev *d);
};

struct dev {
    const struct dev_ops *ops;
    unsigned instance; /* counts devices of the same kind */
    struct dev_env env;
    bool quiet; /* set by dev_quiesced */
    void (*on_quiet)(void *ctx);
    void *on_quiet_ctx;
};

static inline void dev_quiesced(struct dev *d)
{
    d->quiet = true;
    if (d->on_quiet)
        d->on_quiet(d->on_quiet_ctx);
}

#endif
