// SPDX-License-Identifier: Apache-2.0
/*
 * What a device is to the machine. A device is one file that fills a
 * `struct dev_ops`; machine.c lists them all. Registers, the device tree,
 * save and restore are loops over the configured devices. Every op may be NULL;
 * a device without `quiesce` is always quiet. Devices live as long as the process
 * (a failed order ends it, too): only tests free them.
 *
 * Threads: `read` and `write` run on vCPU threads; everything that touches
 * queues runs in the I/O thread. A device guards what both touch with its own
 * mutex. The bus is filled before the first guest instruction and constant
 * afterwards, so it has no lock.
 */
#ifndef DORMOUSE_DEV_H
#define DORMOUSE_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/ring.h"
#include "mem.h"

struct dstate_writer; /* snapshot/devstate.h */
struct dstate_reader;
struct ctl_stats; /* ctl.h */
struct dev_order; /* devices.h */
struct dev;

#define DEV_NO_SPI UINT16_MAX

struct dev_ops {
    const char *name;   /* e.g. "virtio-blk"; also names it in the state file */
    uint32_t tag;       /* device-state tag, unique per device kind */
    size_t size;        /* of the device's struct, which begins with its struct dev */
    uint64_t base, len; /* its registers */
    uint16_t spi;       /* its interrupt, or DEV_NO_SPI */
    /* Its node in the device tree: node@base with one reg and one edge-triggered interrupt.
     * `compatible` may hold several strings: DEV_NODE("pl011", "arm,pl011\0arm,primecell"). */
    const char *node, *compatible;
    size_t compatible_len;
    uint32_t periphid; /* of ARM's own, which want a clock, too: or drivers read it in bytes */
    /* Fills in a zeroed device, whose members of struct dev are set. When it fails it has
     * released what it held. */
    int (*make)(struct dev *d, struct dev_order *o, struct err *e);
    /* Its registers, on a vCPU thread; off < len of the device; size is 1, 2, 4 or 8, and
     * off+size does not cross the end. A write that was refused returns false, a read counts
     * itself in bus->misses. No write: read-only; no read: not on the bus. */
    uint64_t (*read)(struct dev *d, uint64_t off, unsigned size);
    bool (*write)(struct dev *d, uint64_t off, unsigned size, uint64_t val);
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
#define DEV_NODE(n, strings) \
    .node = (n), .compatible = (strings), .compatible_len = sizeof(strings)

#define BUS_DEVS_MAX 32u

/* The devices that have registers, by address. */
struct bus {
    struct dev *devs[BUS_DEVS_MAX];
    unsigned n;
    _Atomic uint64_t misses; /* accesses that no device took */
};

/* What a device gets from the machine at its making. */
struct dev_env {
    const struct guest_mem *mem;
    struct bus *bus;
    struct ring *ring;
    int vm_fd;           /* for kvm.c only */
    struct arena *arena; /* where devices are made; NULL (tests): the heap */
};

struct dev {
    const struct dev_ops *ops;
    struct dev_env env;
    uint64_t base;     /* as in ops, unless make() says otherwise */
    uint16_t spi;      /* the same */
    bool quiet;        /* set by dev_quiesced */
    unsigned instance; /* counts devices of the same kind */
    void (*on_quiet)(void *ctx);
    void *on_quiet_ctx;
};

/* Makes a device and puts its registers on the bus. */
int dev_make(struct dev **ret, const struct dev_ops *ops, struct dev_order *o, struct err *e);

static inline void dev_quiesced(struct dev *d)
{
    d->quiet = true;
    if (d->on_quiet)
        d->on_quiet(d->on_quiet_ctx);
}

uint64_t bus_read(struct bus *b, uint64_t gpa, unsigned size);
void bus_write(struct bus *b, uint64_t gpa, unsigned size, uint64_t val);

/* kvm.c. Raises the device's interrupt, an edge. Any thread. Pending before this returns: a
 * vCPU that is entered next takes it first. */
void dev_interrupt(const struct dev *d);
/* An eventfd that KVM signals when the guest writes `val` (32 bit) to gpa, without
 * an exit to user space (KVM_IOEVENTFD with datamatch). */
int doorbell_open(int vm_fd, uint64_t gpa, uint32_t val, int *ret_fd, struct err *e);

#endif
