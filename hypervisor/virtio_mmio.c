// SPDX-License-Identifier: Apache-2.0
/*
 * The registers of a virtio-mmio device as the guest's CPUs see them; see
 * virtio_mmio.h. Everything here runs on vCPU threads with the device's lock
 * held; what needs the I/O thread is left for it and it is kicked.
 */
#include <string.h>

#include "base/mem.h"
#include "virtio_mmio.h"

enum {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_VENDOR_ID = 0x00c,
    REG_DEVICE_FEATURES = 0x010,
    REG_DEVICE_FEATURES_SEL = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_NUM_MAX = 0x034,
    REG_QUEUE_NUM = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_AREA = 0x080, /* descriptors, driver, device: 16 bytes each, low and high half */
    REG_QUEUE_AREA_END = 0x0b0,
    REG_SHM = 0x0b0, /* four words */
    REG_SHM_END = 0x0c0,
    REG_CONFIG_GENERATION = 0x0fc,
    REG_CONFIG = 0x100,
};

static bool features_ok(const struct virtio *v)
{
    return !(v->accepted & ~v->offered) && (v->accepted & VIRTIO_F(F_VERSION_1));
}

bool virtio_queue_ok(const struct virtio *v, const struct virtio_regs *q)
{
    struct virtq probe;
    return virtq_init(&probe, v->dev.env.mem, &q->c) == 0;
}

/* Status bits only ever get added, in their order; what is refused stays unset, which is
 * how the driver learns about it (virtio 1.2, 3.1.1). */
void virtio_add_status(struct virtio *v, uint32_t val)
{
    uint32_t add = val & ST_BY_DRIVER & ~v->status;
    if ((v->status | add) & ST_FAILED) {
        v->status |= add & ST_FAILED;
        return;
    }
    v->status |= add & (ST_ACKNOWLEDGE | ST_DRIVER);
    if ((add & ST_FEATURES_OK) && (v->status & ST_DRIVER) && features_ok(v))
        v->status |= ST_FEATURES_OK;
    if ((add & ST_DRIVER_OK) && (v->status & ST_FEATURES_OK)) {
        v->status |= ST_DRIVER_OK;
        atomic_store(&v->attention, true);
    }
}

void virtio_clear_registers(struct virtio *v)
{
    v->status = v->device_sel = v->driver_sel = v->queue_sel = 0;
    v->accepted = 0;
    memset(v->regs, 0, sizeof v->regs);
    atomic_store(&v->isr, 0);
    atomic_store(&v->rung, 0);
}

/* The guest's CPU waits here until the I/O thread has let go of guest memory. */
static void reset_and_wait(struct virtio *v)
{
    if (v->status == 0) {
        virtio_clear_registers(v);
        return;
    }
    v->resetting = true;
    atomic_store(&v->attention, true);
    ring_kick(v->dev.env.ring);
    while (v->resetting)
        pthread_cond_wait(&v->reset_done, &v->lock);
}

static void set_half(uint64_t *reg, bool high, uint32_t val)
{
    unsigned shift = high ? 32 : 0;
    *reg = (*reg & ~(0xffffffffull << shift)) | (uint64_t)val << shift;
}

static bool write_queue(struct virtio *v, uint64_t off, uint32_t val)
{
    if (v->queue_sel >= v->ops->nqueues)
        return false;
    struct virtio_regs *q = &v->regs[v->queue_sel];
    uint64_t *const areas[] = {&q->c.desc, &q->c.avail, &q->c.used};
    bool live = v->status & ST_DRIVER_OK;
    if (off == REG_QUEUE_READY) {
        if (val == 0 && !live)
            q->ready = false;
        else if (val == 1 && !live && (v->status & ST_FEATURES_OK))
            q->ready = virtio_queue_ok(v, q);
        return true;
    }
    if (q->ready || live) /* does not change any more */
        return false;
    if (off == REG_QUEUE_NUM)
        q->c.size = val <= v->ops->queue_size[v->queue_sel] ? (uint16_t)val : 0;
    else if (off & 8)
        return false;
    else
        set_half(areas[(off - REG_QUEUE_AREA) / 16], off & 4, val);
    return true;
}

static bool write_register(struct virtio *v, uint64_t off, uint32_t val)
{
    switch (off) {
    case REG_DEVICE_FEATURES_SEL:
        v->device_sel = val;
        return true;
    case REG_DRIVER_FEATURES_SEL:
        v->driver_sel = val;
        return true;
    case REG_DRIVER_FEATURES:
        if (v->driver_sel > 1 || (v->status & ST_FEATURES_OK)) /* fixed once agreed on */
            return false;
        set_half(&v->accepted, v->driver_sel, val);
        return true;
    case REG_QUEUE_SEL:
        v->queue_sel = val;
        return true;
    case REG_QUEUE_NUM:
    case REG_QUEUE_READY:
    case REG_QUEUE_AREA ... REG_QUEUE_AREA_END - 1:
        return write_queue(v, off, val);
    case VIRTIO_REG_NOTIFY:
        if (val >= v->ops->nqueues || !(v->status & ST_DRIVER_OK))
            return false;
        atomic_fetch_or(&v->rung, 1u << val);
        ring_kick(v->dev.env.ring);
        return true;
    case REG_INTERRUPT_ACK:
        atomic_fetch_and(&v->isr, ~val);
        return true;
    case REG_STATUS:
        if (val == 0)
            reset_and_wait(v);
        else
            virtio_add_status(v, val);
        if (atomic_load(&v->attention))
            ring_kick(v->dev.env.ring);
        return true;
    default:
        return false;
    }
}

static uint32_t read_register(struct virtio *v, uint64_t off)
{
    bool queue = v->queue_sel < v->ops->nqueues;
    switch (off) {
    case REG_MAGIC:
        return 0x74726976; /* "virt" */
    case REG_VERSION:
        return 2;
    case REG_DEVICE_ID:
        return v->ops->id;
    case REG_VENDOR_ID:
        return 0x534d5244; /* "DRMS" */
    case REG_DEVICE_FEATURES:
        return v->device_sel > 1 ? 0 : (uint32_t)(v->offered >> (32 * v->device_sel));
    case REG_QUEUE_NUM_MAX:
        return queue ? v->ops->queue_size[v->queue_sel] : 0;
    case REG_QUEUE_READY:
        return queue && v->regs[v->queue_sel].ready;
    case REG_INTERRUPT_STATUS:
        return atomic_load(&v->isr);
    case REG_STATUS:
        return v->status;
    case REG_SHM ... REG_SHM_END - 1:
        return UINT32_MAX; /* no shared memory */
    case REG_CONFIG_GENERATION:
        return v->config_gen;
    default:
        v->dev.env.bus->misses++;
        return 0;
    }
}

/* Registers are words; of config space any part can be read. */
static bool access_ok(const struct virtio *v, uint64_t off, unsigned size)
{
    if (off < REG_CONFIG)
        return size == 4 && off % 4 == 0;
    return size <= 4 && range_ok(off - REG_CONFIG, size, v->ops->config_len);
}

uint64_t virtio_dev_read(struct dev *d, uint64_t off, unsigned size)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    uint64_t val = 0;
    pthread_mutex_lock(&v->lock);
    if (!access_ok(v, off, size))
        d->env.bus->misses++;
    else if (off < REG_CONFIG)
        val = read_register(v, off);
    else
        memcpy(&val, v->config + (off - REG_CONFIG), size);
    pthread_mutex_unlock(&v->lock);
    return val;
}

bool virtio_dev_write(struct dev *d, uint64_t off, unsigned size, uint64_t val)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    pthread_mutex_lock(&v->lock);
    bool ok = access_ok(v, off, size);
    if (ok && off < REG_CONFIG)
        ok = write_register(v, off, (uint32_t)val);
    else if (ok)
        ok = v->ops->config_write &&
             v->ops->config_write(v, (unsigned)(off - REG_CONFIG), size, (uint32_t)val);
    pthread_mutex_unlock(&v->lock);
    return ok;
}
