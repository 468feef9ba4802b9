// SPDX-License-Identifier: Apache-2.0
/* The trace ring; see trace.h. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "../base/mem.h"
#include "trace_format.h"

static struct trace_head *head;
static _Thread_local uint8_t this_cpu = TRACE_IO;

int trace_open(const char *path, struct err *e)
{
    uint64_t size = sizeof *head + (uint64_t)TRACE_RECORDS * sizeof(struct trace_record);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(e, errno, "open '%s'", path);
    if (ftruncate(fd, (off_t)size) < 0)
        return err_sys(e, errno, "make room for the trace in '%s'", path);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(e, errno, "map '%s'", path);
    head = p;
    head->record_size = sizeof(struct trace_record);
    head->records = TRACE_RECORDS;
    head->magic = TRACE_MAGIC;
    return 0;
}

void trace_cpu(unsigned index)
{
    this_cpu = (uint8_t)index;
}

void trace_device(const char *name, uint64_t base, uint64_t len, uint32_t spi)
{
    if (!head || head->ndevices == TRACE_DEVICES)
        return;
    struct trace_device *d = &head->devices[head->ndevices++];
    *d = (struct trace_device){.base = base, .len = len, .spi = spi};
    for (size_t i = 0; i < sizeof d->name - 1 && name[i]; i++)
        d->name[i] = name[i];
}

static void add(const struct trace_record *r)
{
    struct timespec ts;
    if (!head)
        return;
    uint64_t n = __atomic_fetch_add(&head->next, 1, __ATOMIC_RELAXED);
    struct trace_record *to = (struct trace_record *)(head + 1) + n % TRACE_RECORDS;
    __atomic_store_n(&to->seq, 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    *to = *r;
    to->ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    to->cpu = this_cpu;
    __atomic_store_n(&to->seq, n + 1, __ATOMIC_RELEASE);
}

void trace_access(bool write, uint64_t gpa, unsigned len, uint64_t val)
{
    add(&(struct trace_record){
        .kind = write ? TRACE_WRITE : TRACE_READ, .a = gpa, .b = val, .n = (uint8_t)len});
}

void trace_notify(uint64_t base, unsigned queue)
{
    add(&(struct trace_record){.kind = TRACE_NOTIFY, .a = base, .b = queue});
}

void trace_irq(uint32_t spi)
{
    add(&(struct trace_record){.kind = TRACE_IRQ, .a = spi});
}

void trace_chain(uint64_t base, unsigned queue, const struct virtq_chain *c)
{
    add(&(struct trace_record){.kind = TRACE_CHAIN,
                               .a = base,
                               .b = queue,
                               .head = c->head,
                               .n_out = c->n_out,
                               .n_in = c->n_in,
                               .out_len = c->out_len,
                               .in_len = c->in_len});
}
