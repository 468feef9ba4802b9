// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio device's life in the I/O thread: activation, notifications,
 * interrupts, reset, pause, save and load; see virtio_mmio.h. What a snapshot
 * says goes through the same checks as what a driver writes.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "../snapshot/devstate.h"
#include "base/mem.h"
#include "debug/trace.h"
#include "virtio_mmio.h"

static const struct dstate_field registers[] = {
    DSTATE_FIELD(1, struct virtio, status),     DSTATE_FIELD(2, struct virtio, accepted),
    DSTATE_FIELD(3, struct virtio, isr),        DSTATE_FIELD(4, struct virtio, config_gen),
    DSTATE_FIELD(5, struct virtio, device_sel), DSTATE_FIELD(6, struct virtio, driver_sel),
    DSTATE_FIELD(7, struct virtio, queue_sel),
};
#define DS_QUEUE  8u /* + queue number: a row */
#define QUEUE_ROW 32u
static const struct dstate_field queue_row[] = {
    DSTATE_FIELD(0, struct virtio_regs, c.size),   DSTATE_FIELD(2, struct virtio_regs, ready),
    DSTATE_FIELD(4, struct virtio_regs, c.next),   DSTATE_FIELD(8, struct virtio_regs, c.desc),
    DSTATE_FIELD(16, struct virtio_regs, c.avail), DSTATE_FIELD(24, struct virtio_regs, c.used),
};

static void interrupt(struct virtio *v, uint32_t bit)
{
    /* While the bit is still set the guest has not begun to look: one edge is enough. */
    if (!(atomic_fetch_or(&v->isr, bit) & bit))
        dev_interrupt(&v->dev);
}

void virtio_signal(struct virtio *v, unsigned queue)
{
    if (virtq_signal(&v->vq[queue]))
        interrupt(v, ISR_QUEUE);
}

void virtio_break(struct virtio *v, const char *what)
{
    v->breaks++;
    /* The first, second, fourth, eighth: a guest that does nothing else writes few lines. */
    if ((v->breaks & (v->breaks - 1)) == 0)
        log_warn("%s %u: the guest's driver %s; the device needs a reset (%llu so far)",
                 v->dev.ops->name, v->dev.instance, what, (unsigned long long)v->breaks);
    v->broken = true;
    pthread_mutex_lock(&v->lock);
    v->status |= ST_NEEDS_RESET;
    pthread_mutex_unlock(&v->lock);
    interrupt(v, ISR_CONFIG);
}

static const char *queue_error(int r)
{
    switch (r) {
    case -ELOOP:
        return "made a descriptor loop";
    case -EFAULT:
        return "gave an address outside RAM";
    case -E2BIG:
        return "made too long a descriptor chain";
    case -EBADMSG:
        return "gave a ring or descriptor index out of range";
    default:
        return "made a malformed descriptor chain";
    }
}

bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_chain *c, struct iovec *iov,
                unsigned max)
{
    struct virtq *q = &v->vq[queue];
    int r = 0;
    if (!virtio_running(v) || q->size == 0)
        return false;
    do {
        r = virtq_pop(q, c, iov, max);
    } while (r == 0 && virtq_enable_notify(q));
    if (r < 0)
        virtio_break(v, queue_error(r));
    else if (r > 0)
        trace_chain(v->dev.base, queue, c);
    return r > 0;
}

void virtio_set_config(struct virtio *v, unsigned off, const void *data, unsigned len)
{
    pthread_mutex_lock(&v->lock);
    memcpy(v->config + off, data, len);
    v->config_gen++;
    bool live = v->status & ST_DRIVER_OK;
    pthread_mutex_unlock(&v->lock);
    if (live)
        interrupt(v, ISR_CONFIG);
}

static void look_at_all(struct virtio *v)
{
    for (unsigned i = 0; i < v->ops->nqueues && virtio_running(v); i++) {
        if (v->vq[i].size)
            v->ops->queue(v, i);
    }
}

static void wake_done(struct ring_op *op, int res)
{
    (void)res;
    look_at_all(container_of(op, struct virtio, wake));
}

void virtio_after(struct virtio *v, uint64_t ns)
{
    if (!v->wake.armed && ns)
        ring_timer(v->dev.env.ring, &v->wake, ns);
    else if (!v->wake.armed)
        ring_soon(v->dev.env.ring, &v->wake);
}

static void activate(struct virtio *v)
{
    struct virtio_regs regs[VIRTIO_QUEUES_MAX];
    pthread_mutex_lock(&v->lock);
    memcpy(regs, v->regs, sizeof regs);
    v->features = v->accepted;
    v->broken = v->status & (ST_NEEDS_RESET | ST_FAILED);
    pthread_mutex_unlock(&v->lock);

    v->active = true;
    memset(v->vq, 0, sizeof v->vq);
    for (unsigned i = 0; i < v->ops->nqueues; i++) {
        regs[i].c.event_idx = virtio_has(v, F_EVENT_IDX);
        regs[i].c.indirect = virtio_has(v, F_INDIRECT_DESC);
        /* Checked when the register said ready; what fails now stays an absent queue. */
        if (regs[i].ready && virtq_init(&v->vq[i], v->dev.env.mem, &regs[i].c) < 0)
            virtio_break(v, "set up a queue wrongly");
    }
    if (v->ops->activate && !v->broken)
        v->ops->activate(v);
}

static void finish_reset(struct virtio *v)
{
    v->active = v->broken = false;
    v->features = 0;
    memset(v->vq, 0, sizeof v->vq);
    if (v->ops->reset)
        v->ops->reset(v);
    pthread_mutex_lock(&v->lock);
    virtio_clear_registers(v);
    v->resetting = false;
    pthread_cond_broadcast(&v->reset_done);
    pthread_mutex_unlock(&v->lock);
}

/* Nothing is in flight any more. */
static void drained(struct virtio *v)
{
    if (v->resetting) {
        v->stopped = v->dev.quiet;
        finish_reset(v);
    } else if (v->stopped && !v->dev.quiet) {
        dev_quiesced(&v->dev);
    }
}

static void stop(struct virtio *v)
{
    v->stopped = true;
    if (v->active && v->ops->stop)
        v->ops->stop(v);
    if (v->inflight == 0)
        drained(v);
}

void virtio_put(struct virtio *v)
{
    if (--v->inflight == 0 && v->stopped)
        drained(v);
}

void virtio_dev_kicked(struct dev *d)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    if (!v->started)
        return;
    if (atomic_exchange(&v->attention, false)) {
        pthread_mutex_lock(&v->lock);
        bool resetting = v->resetting;
        bool go = !resetting && !v->active && (v->status & ST_DRIVER_OK);
        pthread_mutex_unlock(&v->lock);
        if (resetting) {
            stop(v);
        } else if (go) {
            activate(v);
            look_at_all(v);
        }
    }
    uint32_t rung = atomic_exchange(&v->rung, 0);
    for (unsigned i = 0; rung && i < v->ops->nqueues; i++) {
        if ((rung & 1u << i) && virtio_running(v) && v->vq[i].size)
            v->ops->queue(v, i);
    }
}

static void bell_done(struct ring_op *op, int res)
{
    struct virtio_bell *b = container_of(op, struct virtio_bell, op);
    struct virtio *v = b->v;
    /* Registering an ioeventfd makes KVM wait for all vCPUs' readers of the bus: too long for
     * a restore, so it is done after the start. Until then (or if it fails) notifications
     * come through the registers. */
    if (b->fd < 0 && doorbell_open(v->dev.env.vm_fd, v->dev.base + VIRTIO_REG_NOTIFY, b->queue,
                                   &b->fd, NULL) < 0)
        return;
    if (op->armed)
        trace_notify(v->dev.base, b->queue);
    else if (res >= 0)
        ring_watch(v->dev.env.ring, op, b->fd, POLLIN);
    if (virtio_running(v) && v->vq[b->queue].size)
        v->ops->queue(v, b->queue);
}

int virtio_dev_start(struct dev *d, struct err *e)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    if (v->ops->start) {
        int r = v->ops->start(v, e);
        if (r < 0)
            return r;
    }
    v->started = true;
    for (unsigned i = 0; i < v->ops->ndoorbells; i++)
        ring_soon(d->env.ring, &v->bells[i].op);
    if (atomic_load(&v->isr))
        dev_interrupt(&v->dev);
    virtio_dev_kicked(d);
    return 0;
}

void virtio_dev_quiesce(struct dev *d)
{
    d->quiet = false;
    stop(container_of(d, struct virtio, dev));
}

void virtio_dev_resume(struct dev *d)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    d->quiet = false;
    v->stopped = false;
    if (atomic_load(&v->isr))
        dev_interrupt(&v->dev);
    look_at_all(v); /* a doorbell may have rung meanwhile */
    virtio_dev_kicked(d);
}

/* ---- making, saving, loading ----------------------------------------------------------- */

void virtio_dev_free(struct dev *d)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        if (v->bells[i].fd >= 0)
            close(v->bells[i].fd);
    }
    pthread_cond_destroy(&v->reset_done);
    pthread_mutex_destroy(&v->lock);
    if (v->ops->free)
        v->ops->free(v);
    arena_free(v->dev.env.arena, v);
}

int virtio_dev_make(struct dev *d, struct dev_order *o, struct err *e)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    v->ops = container_of((struct dev_ops *)(uintptr_t)d->ops, struct virtio_ops, dev);
    d->base = MAP_VIRTIO + o->slot * MAP_VIRTIO_STEP;
    d->spi = (uint16_t)(SPI_VIRTIO + o->slot++);
    v->offered = v->ops->features | VIRTIO_F(F_VERSION_1) | VIRTIO_F(F_EVENT_IDX) |
                 VIRTIO_F(F_INDIRECT_DESC);
    v->wake.done = wake_done;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        v->bells[i] = (struct virtio_bell){{.done = bell_done}, v, i, -1};
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->reset_done, NULL);
    return v->ops->make ? v->ops->make(v, o, e) : 0;
}

int virtio_dev_save(struct dev *d, struct dstate_writer *w, struct err *e)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    if (!d->quiet)
        return err_set(e, EBUSY, "%s %u is not quiet", d->ops->name, d->instance);
    pthread_mutex_lock(&v->lock);
    dw_fields(w, registers, ARRAY_LEN(registers), v);
    for (unsigned i = 0; i < v->ops->nqueues; i++) {
        struct virtio_regs q = v->regs[i];
        uint8_t row[QUEUE_ROW] = {0};
        /* Quiet: all that was taken has been handed back, one index says it all. */
        if (v->active)
            q.c.next = v->vq[i].next;
        dstate_pack(queue_row, ARRAY_LEN(queue_row), &q, row);
        dw_bytes(w, (uint16_t)(DS_QUEUE + i), row, sizeof row);
    }
    pthread_mutex_unlock(&v->lock);
    dw_fields(w, v->ops->fields, v->ops->nfields, v);
    return v->ops->save ? v->ops->save(v, w, e) : 0;
}

static int load_queue(struct virtio *v, unsigned i, struct dstate_reader *r, struct err *e)
{
    const void *row;
    size_t len;
    struct virtio_regs q = {.ready = 0};
    int rc = dr_bytes(r, (uint16_t)(DS_QUEUE + i), &row, &len, e);
    if (rc < 0)
        return rc;
    if (len != QUEUE_ROW)
        return err_set(e, EBADMSG, "queue %u has %zu bytes of state", i, len);
    dstate_unpack(queue_row, ARRAY_LEN(queue_row), row, &q);
    if (q.c.size > v->ops->queue_size[i] || q.ready > 1 || (q.ready && !virtio_queue_ok(v, &q)))
        return err_set(e, EBADMSG, "queue %u of the saved device is not valid", i);
    v->regs[i] = q;
    return 0;
}

static int load_registers(struct virtio *v, struct dstate_reader *r, struct err *e)
{
    int rc = dr_fields(r, registers, ARRAY_LEN(registers), v, e);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < v->ops->nqueues; i++) {
        rc = load_queue(v, i, r, e);
        if (rc < 0)
            return rc;
    }
    atomic_fetch_and(&v->isr, ISR_QUEUE | ISR_CONFIG);
    /* The same steps as a driver takes, so the same is refused. */
    uint32_t status = v->status;
    v->status = 0;
    virtio_add_status(v, status & ~(uint32_t)ST_FAILED);
    virtio_add_status(v, status);
    v->status |= status & ST_NEEDS_RESET;
    if (v->status != status)
        return err_set(e, EBADMSG,
                       "the saved device status 0x%x or features 0x%llx are not "
                       "ones this device can have",
                       status, (unsigned long long)v->accepted);
    return 0;
}

int virtio_dev_load(struct dev *d, struct dstate_reader *r, struct err *e)
{
    struct virtio *v = container_of(d, struct virtio, dev);
    pthread_mutex_lock(&v->lock);
    int rc = load_registers(v, r, e);
    pthread_mutex_unlock(&v->lock);
    if (rc == 0)
        rc = dr_fields(r, v->ops->fields, v->ops->nfields, v, e);
    if (rc == 0 && v->ops->load)
        rc = v->ops->load(v, r, e);
    return rc < 0 ? err_wrap(e, "instance %u", d->instance) : 0;
}
