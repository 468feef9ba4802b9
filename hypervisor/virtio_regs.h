// SPDX-License-Identifier: Apache-2.0
/* What the two halves of the transport share: virtio_mmio.c has the registers as the guest
 * sees them, virtio_dev.c the device's life in the I/O thread. */
#ifndef DORMOUSE_VIRTIO_REGS_H
#define DORMOUSE_VIRTIO_REGS_H

#include "virtio_mmio.h"

#define VIRTIO_REG_NOTIFY 0x050u
#define VIRTIO_REG_END    0x200u

enum {
    ST_ACKNOWLEDGE = 1,
    ST_DRIVER = 2,
    ST_DRIVER_OK = 4,
    ST_FEATURES_OK = 8,
    ST_NEEDS_RESET = 64,
    ST_FAILED = 128,
    ST_BY_DRIVER = ST_ACKNOWLEDGE | ST_DRIVER | ST_DRIVER_OK | ST_FEATURES_OK | ST_FAILED,
};

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

enum { F_INDIRECT_DESC = 28, F_EVENT_IDX = 29, F_VERSION_1 = 32 };

extern const struct bus_ops virtio_mmio_ops;

/* With the lock held. Adds what a driver may add in this state, like its register. */
void virtio_add_status(struct virtio *v, uint32_t val);
void virtio_clear_registers(struct virtio *v);
/* Size and addresses could be those of a live queue. */
bool virtio_queue_ok(const struct virtio *v, const struct virtio_regs *q);

#endif
