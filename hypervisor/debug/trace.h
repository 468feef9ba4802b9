// SPDX-License-Identifier: Apache-2.0
/*
 * The debug twin's trace of what a guest and its devices tell each other, into a
 * ring in a file. A process has one machine and so one trace, like its log.
 * Any thread. Empty in the lean binary.
 */
#ifndef DORMOUSE_DEBUG_TRACE_H
#define DORMOUSE_DEBUG_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "../base/err.h"
#include "../virtq.h"

#ifdef DORMOUSE_DEBUG

int trace_open(const char *path, struct err *e);
/* This thread is that vCPU. */
void trace_cpu(unsigned index);
/* For the reader: what is there. */
void trace_device(const char *name, uint64_t base, uint64_t len, uint32_t spi);
void trace_access(bool write, uint64_t gpa, unsigned len, uint64_t val);
void trace_notify(uint64_t base, unsigned queue);
void trace_irq(uint32_t spi);
void trace_chain(uint64_t base, unsigned queue, const struct virtq_chain *c);

#else

static inline void trace_device(const char *name, uint64_t base, uint64_t len, uint32_t spi)
{
    (void)name;
    (void)base;
    (void)len;
    (void)spi;
}
static inline void trace_access(bool write, uint64_t gpa, unsigned len, uint64_t val)
{
    (void)write;
    (void)gpa;
    (void)len;
    (void)val;
}
static inline void trace_notify(uint64_t base, unsigned queue)
{
    (void)base;
    (void)queue;
}
static inline void trace_irq(uint32_t spi)
{
    (void)spi;
}
static inline void trace_chain(uint64_t base, unsigned queue, const struct virtq_chain *c)
{
    (void)base;
    (void)queue;
    (void)c;
}

#endif
#endif
