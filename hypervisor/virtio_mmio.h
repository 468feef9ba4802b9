// SPDX-License-Identifier: Apache-2.0
/*
 * The modern virtio-mmio transport (virtio 1.2, 4.2) under every virtio
 * device. Registers are touched by vCPU threads under `lock`; queues, and all
 * of the device behind them, by the I/O thread only. Activation copies the
 * queue registers into `struct virtq` once, so that a later register write
 * cannot change a live queue; a reset holds the guest's CPU until nothing is in
 * flight any more. Guest and snapshot values take the same checks.
 */
#ifndef DORMOUSE_VIRTIO_MMIO_H
#define DORMOUSE_VIRTIO_MMIO_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "devices.h"
#include "virtq.h"

#define VIRTIO_QUEUES_MAX 3u
#define VIRTIO_CONFIG_MAX 64u

#define VIRTIO_F(bit)     (1ull << (bit))
#define VIRTIO_DSTATE_OWN 64u /* first device-state field id that is the device's own */

struct virtio;

/* What one device adds. I/O thread unless said otherwise; all but queue may be NULL. */
struct virtio_ops {
    struct dev_ops dev; /* VIRTIO_DEV() */
    uint32_t id;        /* virtio device type */
    uint32_t nqueues;
    uint32_t ndoorbells; /* the first so many queues are busy enough for an ioeventfd */
    uint16_t queue_size[VIRTIO_QUEUES_MAX];
    uint16_t config_len;
    uint64_t features; /* beside the transport's own; make() may offer more */
    /* Of a zeroed device whose transport is set up. When it fails it holds nothing. */
    int (*make)(struct virtio *v, struct dev_order *o, struct err *e);
    /* The driver is ready: queues are live from here on. */
    void (*activate)(struct virtio *v);
    /* Queue i may hold something new, or the device may go on after a stop. */
    void (*queue)(struct virtio *v, unsigned i);
    /* Take nothing more from the queues; put back what was popped but not begun. May come
     * twice. */
    void (*stop)(struct virtio *v);
    /* The driver is gone and nothing is in flight: back to the state after creation. */
    void (*reset)(struct virtio *v);
    /* vCPU thread, lock held: the guest wrote config space; v->config is unchanged. False:
     * refused. */
    bool (*config_write)(struct virtio *v, unsigned off, unsigned len, uint32_t val);
    int (*start)(struct virtio *v, struct err *e);
    /* What a snapshot has of it: numbers, and what needs more than that. load() checks. */
    const struct dstate_field *fields;
    unsigned nfields;
    int (*save)(struct virtio *v, struct dstate_writer *w, struct err *e);
    int (*load)(struct virtio *v, struct dstate_reader *r, struct err *e);
    void (*free)(struct virtio *v); /* what it holds; not itself */
};

/* The first member of every device. */
struct virtio {
    struct dev dev;
    const struct virtio_ops *ops;
    uint64_t offered; /* features */

    pthread_mutex_t lock; /* the registers, down to the next blank line */
    pthread_cond_t reset_done;
    uint32_t status, device_sel, driver_sel, queue_sel;
    uint32_t config_gen;
    uint64_t accepted; /* features */
    struct virtio_regs {
        struct virtq_conf c; /* next: from a snapshot */
        uint16_t ready;
    } regs[VIRTIO_QUEUES_MAX];
    uint8_t config[VIRTIO_CONFIG_MAX];
    _Atomic bool resetting; /* so far the guest's CPU waits */

    _Atomic uint32_t isr;
    _Atomic uint32_t rung;  /* queues notified without a doorbell, by bit */
    _Atomic bool attention; /* registers changed in a way the I/O thread has to act on */

    struct virtq vq[VIRTIO_QUEUES_MAX]; /* I/O thread from here on */
    uint64_t features;                  /* accepted, once active */
    bool started, active, stopped, broken;
    unsigned inflight;
    uint64_t breaks;
    struct log_limit log;
    struct ring_op wake; /* virtio_after() */
    struct virtio_bell {
        struct ring_op op;
        struct virtio *v;
        unsigned queue;
        int fd;
    } bells[VIRTIO_QUEUES_MAX];
};

int virtio_dev_make(struct dev *d, struct dev_order *o, struct err *e);
uint64_t virtio_dev_read(struct dev *d, uint64_t off, unsigned size);
bool virtio_dev_write(struct dev *d, uint64_t off, unsigned size, uint64_t val);
int virtio_dev_start(struct dev *d, struct err *e);
void virtio_dev_quiesce(struct dev *d);
void virtio_dev_resume(struct dev *d);
void virtio_dev_kicked(struct dev *d);
int virtio_dev_save(struct dev *d, struct dstate_writer *w, struct err *e);
int virtio_dev_load(struct dev *d, struct dstate_reader *r, struct err *e);
void virtio_dev_free(struct dev *d);

/* Name, tag in snapshots, the device's struct, and what else it has in its dev_ops. */
#define VIRTIO_DEV(n, t, type, ...)                                                    \
    {                                                                                  \
        .name = (n), .tag = (t), .size = sizeof(type), .len = VIRTIO_REG_END,          \
        DEV_NODE("virtio_mmio", "virtio,mmio"), .make = virtio_dev_make,               \
        .read = virtio_dev_read, .write = virtio_dev_write, .start = virtio_dev_start, \
        .quiesce = virtio_dev_quiesce, .resume = virtio_dev_resume,                    \
        .kicked = virtio_dev_kicked, .save = virtio_dev_save, .load = virtio_dev_load, \
        .free = virtio_dev_free, __VA_ARGS__                                           \
    }

/* The following: I/O thread. */

/* May take from queues now. */
static inline bool virtio_running(const struct virtio *v)
{
    return v->active && !v->stopped && !v->broken;
}
/* And there is such a queue, whose turn has come. Doorbells are off until virtio_pop() finds
 * nothing. */
static inline bool virtio_begin(struct virtio *v, unsigned queue)
{
    if (!virtio_running(v) || v->vq[queue].size == 0 || v->wake.armed)
        return false;
    virtq_disable_notify(&v->vq[queue]);
    return true;
}
static inline bool virtio_has(const struct virtio *v, unsigned feature_bit)
{
    return v->features & VIRTIO_F(feature_bit);
}
/* The next chain of at most `max` buffers. False: nothing is there, and the guest will ring; or
 * it broke the queue and the device needs a reset. */
bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_chain *c, struct iovec *iov,
                unsigned max);
/* ops->queue for every queue, after a while (0: at the loop's next turn). Until then
 * virtio_begin() refuses. */
void virtio_after(struct virtio *v, uint64_t ns);
/* After `batch` requests others get their turn, then the device again. */
static inline bool virtio_enough(struct virtio *v, unsigned n, unsigned batch)
{
    if (n < batch)
        return false;
    virtio_after(v, 0);
    return true;
}
/* virtq_signal() and the interrupt. */
void virtio_signal(struct virtio *v, unsigned queue);
/* The driver did what it must not: log, DEVICE_NEEDS_RESET, no more queue work. */
void virtio_break(struct virtio *v, const char *what);
/* Count requests whose guest memory the kernel may still touch. */
static inline void virtio_get(struct virtio *v)
{
    v->inflight++;
}
/* The last thing a completion does: a waiting reset or pause goes on inside. */
void virtio_put(struct virtio *v);
/* Changes config space (any thread but a config_write): generation and interrupt. */
void virtio_set_config(struct virtio *v, unsigned off, const void *data, unsigned len);

/* ---- between virtio_mmio.c, the registers, and virtio_dev.c ---- */

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

/* With the lock held. Adds what a driver may add in this state, like its register. */
void virtio_add_status(struct virtio *v, uint32_t val);
void virtio_clear_registers(struct virtio *v);
/* Size and addresses could be those of a live queue. */
bool virtio_queue_ok(const struct virtio *v, const struct virtio_regs *q);

#endif
