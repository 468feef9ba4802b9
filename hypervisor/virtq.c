// SPDX-License-Identifier: Apache-2.0
/* Split virtqueues; see virtq.h. */
#include "virtq.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "virtqueues are little-endian and read in place"
#endif

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { DESC_SIZE = 16, USED_SIZE = 8, RING_HEAD = 2 /* u16: flags, idx */ };
enum { AVAIL_NO_INTERRUPT = 1, USED_NO_NOTIFY = 1 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
_Static_assert(sizeof(struct desc) == DESC_SIZE, "a descriptor as virtio lays it out");

static uint16_t *used_event(const struct virtq *q)
{
    return q->avail + RING_HEAD + q->size;
}

static uint16_t *avail_event(const struct virtq *q)
{
    return q->used + RING_HEAD + (size_t)q->size * (USED_SIZE / 2);
}

int virtq_init(struct virtq *q, const struct guest_mem *mem, const struct virtq_conf *c)
{
    uint64_t n = c->size;
    if (n == 0 || n > VIRTQ_SIZE_MAX || (n & (n - 1)) || c->desc % 16 || c->avail % 2 ||
        c->used % 4)
        return -EINVAL;
    memset(q, 0, sizeof *q);
    q->mem = mem;
    q->desc = mem_at(mem, c->desc, n * DESC_SIZE);
    q->avail = mem_at(mem, c->avail, 2 * (RING_HEAD + n + 1));
    q->used = mem_at(mem, c->used, 2 * (RING_HEAD + 1) + n * USED_SIZE);
    if (!q->desc || !q->avail || !q->used)
        return -EINVAL;
    q->size = c->size;
    q->event_idx = c->event_idx;
    q->indirect = c->indirect;
    q->next = q->used_next = q->used_seen = c->next;
    return 0;
}

/* One copy of a descriptor, which the guest may be rewriting meanwhile. */
static struct desc fetch(const uint8_t *table, unsigned i)
{
    struct desc d;
    memcpy(&d, table + (size_t)i * DESC_SIZE, sizeof d);
    atomic_signal_fence(memory_order_seq_cst);
    return d;
}

static int add_buffer(const struct virtq *q, struct virtq_chain *c, const struct desc *d,
                      struct iovec *iov, unsigned max)
{
    unsigned n = (unsigned)c->n_out + c->n_in;
    bool in = d->flags & DESC_WRITE;
    uint32_t *total = in ? &c->in_len : &c->out_len;
    if (d->len == 0 || (!in && c->n_in))
        return -EINVAL;
    if (n >= max || __builtin_add_overflow(*total, d->len, total))
        return -E2BIG;
    void *p = mem_at(q->mem, d->addr, d->len);
    if (!p)
        return -EFAULT;
    iov[n] = (struct iovec){p, d->len};
    if (in)
        c->n_in++;
    else
        c->n_out++;
    return 0;
}

static int walk(const struct virtq *q, struct virtq_chain *c, struct iovec *iov, unsigned max)
{
    const uint8_t *table = q->desc;
    unsigned size = q->size, i = c->head;
    bool inside = false; /* an indirect table */
    for (unsigned seen = 0;; seen++) {
        if (i >= size)
            return -EBADMSG;
        if (seen >= size)
            return -ELOOP;
        struct desc d = fetch(table, i);
        if (d.flags & DESC_INDIRECT) {
            if (!q->indirect || inside || (d.flags & DESC_NEXT))
                return -EINVAL;
            if (d.len == 0 || d.len % DESC_SIZE)
                return -EINVAL;
            table = mem_at(q->mem, d.addr, d.len);
            if (!table)
                return -EFAULT;
            size = d.len / DESC_SIZE;
            inside = true;
            i = 0;
            seen = UINT32_MAX; /* counts from 0 in the new table */
            continue;
        }
        int r = add_buffer(q, c, &d, iov, max);
        if (r < 0)
            return r;
        if (!(d.flags & DESC_NEXT))
            return 0;
        i = d.next;
    }
}

int virtq_pop(struct virtq *q, struct virtq_chain *c, struct iovec *iov, unsigned max)
{
    uint16_t ready = (uint16_t)(__atomic_load_n(&q->avail[1], __ATOMIC_ACQUIRE) - q->next);
    if (ready == 0)
        return 0;
    if (ready > q->size)
        return -EBADMSG;
    memset(c, 0, sizeof *c);
    c->head =
        __atomic_load_n(&q->avail[RING_HEAD + (q->next & (q->size - 1))], __ATOMIC_RELAXED);
    int r = walk(q, c, iov, max);
    if (r < 0)
        return r;
    q->next++;
    return 1;
}

void virtq_unpop(struct virtq *q, unsigned n)
{
    q->next = (uint16_t)(q->next - n);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t len)
{
    uint32_t elem[2] = {head, len};
    uint16_t *at =
        q->used + RING_HEAD + (size_t)(q->used_next & (q->size - 1)) * (USED_SIZE / 2);
    memcpy(at, elem, sizeof elem);
    q->used_next++;
}

bool virtq_signal(struct virtq *q)
{
    uint16_t old = q->used_seen, now = q->used_next;
    if (old == now)
        return false;
    __atomic_store_n(&q->used[1], now, __ATOMIC_RELEASE);
    q->used_seen = now;
    /* The index must be visible before we look at what the guest wants (2.7.7.2). */
    atomic_thread_fence(memory_order_seq_cst);
    if (!q->event_idx)
        return !(__atomic_load_n(&q->avail[0], __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
    uint16_t event = __atomic_load_n(used_event(q), __ATOMIC_RELAXED);
    bool first = !q->signalled; /* after a restore: what was signalled last is unknown */
    q->signalled = true;
    return first || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

bool virtq_enable_notify(struct virtq *q)
{
    if (q->event_idx)
        __atomic_store_n(avail_event(q), q->next, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&q->used[0], 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_seq_cst);
    return __atomic_load_n(&q->avail[1], __ATOMIC_RELAXED) != q->next;
}

void virtq_disable_notify(struct virtq *q)
{
    if (!q->event_idx)
        __atomic_store_n(&q->used[0], USED_NO_NOTIFY, __ATOMIC_RELAXED);
}
