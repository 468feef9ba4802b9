// SPDX-License-Identifier: Apache-2.0
/*
 * The file of a device trace: a head and a ring of fixed-size records, written
 * by the debug twin through a shared mapping, read by tools/vmmtrace.c also
 * while the machine runs. Little-endian.
 */
#ifndef DORMOUSE_DEBUG_TRACE_FORMAT_H
#define DORMOUSE_DEBUG_TRACE_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC   0x3143415254524d44ull /* "DMRTRAC1" */
#define TRACE_RECORDS (1u << 18)
#define TRACE_DEVICES 24u
#define TRACE_IO      0xffu /* `cpu` of the I/O thread */

enum trace_kind {
    TRACE_READ = 1, /* a = address, b = value, n = bytes */
    TRACE_WRITE,    /* the same */
    TRACE_NOTIFY,   /* a = address of the device, b = queue; by its doorbell */
    TRACE_IRQ,      /* a = SPI */
    TRACE_CHAIN,    /* a = address of the device, b = queue, more: struct virtq_chain */
    TRACE_KINDS
};

struct trace_record {
    uint64_t seq; /* 1 + its number since the start, written last */
    uint64_t ns;  /* CLOCK_MONOTONIC */
    uint64_t a, b;
    uint32_t out_len, in_len; /* TRACE_CHAIN: bytes the device reads and writes */
    uint16_t head, n_out, n_in;
    uint8_t kind, cpu;
    uint8_t n, reserved[7];
};

struct trace_head {
    uint64_t magic;
    uint32_t record_size, records;
    uint64_t next; /* number of the next record */
    struct trace_device {
        uint64_t base, len;
        uint32_t spi, reserved;
        char name[24];
    } devices[TRACE_DEVICES];
    uint32_t ndevices, reserved;
};

#endif
