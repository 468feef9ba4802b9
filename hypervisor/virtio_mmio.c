// SPDX-License-Identifier: Apache-2.0
/*
 * The registers of a virtio-mmio device as the guest's CPUs see them; see
 * virtio_mmio.h. Everything here runs on vCPU threads with the device's lock
 * held; what needs the I/O thread is left for it and it is kicked.
 */
#include <string.h>

#include "base/mem.h"
#include "virtio_regs.h"

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
    REG_QUEUE_DESC_LOW = 0x080,
    REG_QUEUE_DESC_HIGH = 0x084,
    REG_QUEUE_DRIVER_LOW = 0x090,
    REG_QUEUE_DRIVER_HIGH = 0x094,
    REG_QUEUE_DEVICE_LOW = 0x0a0,
    REG_QUEUE_DEVICE_HIGH = 0x0a4,
    REG_SHM_LEN_LOW = 0x0b0,
    REG_SHM_LEN_HIGH = 0x0b4,
    REG_SHM_BASE_LOW = 0x0b8,
    REG_SHM_BASE_HIGH = 0x0bc,
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
    struct virtq_conf c = {.size = q->num, .desc = q->desc, .avail = q->avail, .used = q->used};
    return virtq_init(&probe, v->dev.env.mem, &c) == 0;
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

static void set_low(uint64_t *reg, uint32_t val)
{
    *reg = (*reg & ~0xffffffffull) | val;
}

static void set_high(uint64_t *reg, uint32_t val)
{
    *reg = (*reg & 0xffffffffull) | (uint64_t)val << 32;
}

static void write_queue(struct virtio *v, uint64_t off, uint32_t val)
{
    if (v->queue_sel >= v->ops->nqueues) {
        v->bad_accesses++;
        return;
    }
    struct virtio_regs *q = &v->regs[v->queue_sel];
    if (off == REG_QUEUE_READY) {
        if (val == 0 && !(v->status & ST_DRIVER_OK))
            q->ready = false;
        else if (val == 1 && (v->status & ST_FEATURES_OK) && !(v->status & ST_DRIVER_OK))
            q->ready = virtio_queue_ok(v, q);
        return;
    }
    if (q->ready || (v->status & ST_DRIVER_OK)) {
        v->bad_accesses++; /* a live queue does not change */
        return;
    }
    if (off == REG_QUEUE_NUM) {
        q->num = val <= v->ops->queue_size[v->queue_sel] ? (uint16_t)val : 0;
        return;
    }
    uint64_t *area = off < REG_QUEUE_DRIVER_LOW   ? &q->desc
                     : off < REG_QUEUE_DEVICE_LOW ? &q->avail
                                                  : &q->used;
    if (off & 4)
        set_high(area, val);
    else
        set_low(area, val);
}

static void write_register(struct virtio *v, uint64_t off, uint32_t val)
{
    switch (off) {
    case REG_DEVICE_FEATURES_SEL:
        v->device_sel = val;
        break;
    case REG_DRIVER_FEATURES:
        /* Fixed once agreed on. */
        if (v->driver_sel > 1 || (v->status & ST_FEATURES_OK))
            v->bad_accesses++;
        else if (v->driver_sel == 0)
            set_low(&v->accepted, val);
        else
            set_high(&v->accepted, val);
        break;
    case REG_DRIVER_FEATURES_SEL:
        v->driver_sel = val;
        break;
    case REG_QUEUE_SEL:
        v->queue_sel = val;
        break;
    case REG_QUEUE_NUM:
    case REG_QUEUE_READY:
    case REG_QUEUE_DESC_LOW:
    case REG_QUEUE_DESC_HIGH:
    case REG_QUEUE_DRIVER_LOW:
    case REG_QUEUE_DRIVER_HIGH:
    case REG_QUEUE_DEVICE_LOW:
    case REG_QUEUE_DEVICE_HIGH:
        write_queue(v, off, val);
        break;
    case VIRTIO_REG_NOTIFY:
        if (val < v->ops->nqueues && (v->status & ST_DRIVER_OK)) {
            atomic_fetch_or(&v->rung, 1u << val);
            ring_kick(v->dev.env.ring);
        } else {
            v->bad_accesses++;
        }
        break;
    case REG_INTERRUPT_ACK:
        atomic_fetch_and(&v->isr, ~val);
        break;
    case REG_STATUS:
        if (val == 0)
            reset_and_wait(v);
        else
            virtio_add_status(v, val);
        if (atomic_load(&v->attention))
            ring_kick(v->dev.env.ring);
        break;
    default:
        v->bad_accesses++;
        break;
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
    case REG_SHM_LEN_LOW:
    case REG_SHM_LEN_HIGH:
    case REG_SHM_BASE_LOW:
    case REG_SHM_BASE_HIGH:
        return UINT32_MAX; /* no shared memory */
    case REG_CONFIG_GENERATION:
        return v->config_gen;
    default:
        v->bad_accesses++;
        return 0;
    }
}

static uint64_t bus_read_op(void *ctx, uint64_t off, unsigned len)
{
    struct virtio *v = ctx;
    uint64_t val = 0;
    pthread_mutex_lock(&v->lock);
    if (off >= REG_CONFIG) {
        if (len <= 4 && range_ok(off - REG_CONFIG, len, v->config_len))
            memcpy(&val, v->config + (off - REG_CONFIG), len);
        else
            v->bad_accesses++;
    } else if (len == 4 && off % 4 == 0) {
        val = read_register(v, off);
    } else {
        v->bad_accesses++;
    }
    pthread_mutex_unlock(&v->lock);
    return val;
}

static void bus_write_op(void *ctx, uint64_t off, unsigned len, uint64_t val)
{
    struct virtio *v = ctx;
    pthread_mutex_lock(&v->lock);
    if (off >= REG_CONFIG) {
        if (v->ops->config_write && len <= 4 && range_ok(off - REG_CONFIG, len, v->config_len))
            v->ops->config_write(v, (unsigned)(off - REG_CONFIG), len, (uint32_t)val);
        else
            v->bad_accesses++;
    } else if (len == 4 && off % 4 == 0) {
        write_register(v, off, (uint32_t)val);
    } else {
        v->bad_accesses++;
    }
    pthread_mutex_unlock(&v->lock);
}

const struct bus_ops virtio_mmio_ops = {.read = bus_read_op, .write = bus_write_op};
