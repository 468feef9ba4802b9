// SPDX-License-Identifier: Apache-2.0
/*
 * Rings in which every byte is the fuzzer's: what a chain gives out has to lie
 * in RAM, in order and within bounds, and the walk has to end.
 */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"
#include "../../hypervisor/virtq.h"

#define RAM 16384u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_chain(const struct guest_mem *m, const struct virtq *q,
                        const struct virtq_chain *c, const struct iovec *iov, unsigned max)
{
    uint64_t out = 0, in = 0;
    if (c->head >= q->size || c->n_out + c->n_in == 0 || c->n_out + c->n_in > (int)max)
        abort();
    for (unsigned i = 0; i < (unsigned)c->n_out + c->n_in; i++) {
        uint8_t *p = iov[i].iov_base;
        if (p < m->host || iov[i].iov_len == 0 || iov[i].iov_len > RAM ||
            p + iov[i].iov_len > m->host + RAM)
            abort();
        *(i < c->n_out ? &out : &in) += iov[i].iov_len;
    }
    if (out != c->out_len || in != c->in_len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static _Alignas(4096) uint8_t ram[RAM];
    struct guest_mem m = {.host = ram, .size = RAM};
    struct virtq q;
    struct virtq_chain c;
    struct iovec iov[VIRTQ_CHAIN];
    if (len < 16)
        return 0;
    /* Places first, then RAM. */
    struct virtq_conf conf = {.size = (uint16_t)(1u << (data[0] % 10)),
                              .next = get_le16(data + 2),
                              .desc = MEM_BASE + get_le16(data + 4) % (RAM + 64),
                              .avail = MEM_BASE + get_le16(data + 6) % (RAM + 64),
                              .used = MEM_BASE + get_le16(data + 8) % (RAM + 64),
                              .event_idx = data[1] & 1,
                              .indirect = data[1] & 2};
    unsigned max = 1 + data[10] % VIRTQ_CHAIN;
    memset(ram, 0, sizeof ram);
    memcpy(ram, data + 16, MIN(len - 16, RAM));
    if (virtq_init(&q, &m, &conf) < 0)
        return 0;
    for (unsigned i = 0; i < 2 * VIRTQ_SIZE_MAX; i++) {
        int r = virtq_pop(&q, &c, iov, max);
        if (r <= 0)
            break;
        check_chain(&m, &q, &c, iov, max);
        if (i % 7 == 3) {
            virtq_unpop(&q, 1);
            continue;
        }
        virtq_push(&q, c.head, c.in_len);
        virtq_signal(&q);
        virtq_disable_notify(&q);
        virtq_enable_notify(&q);
    }
    return 0;
}
