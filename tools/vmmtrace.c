// SPDX-License-Identifier: Apache-2.0
/*
 * vmmtrace: prints what a guest and its devices told each other, from the file
 * that `dormouse-vmm-debug --trace FILE` writes. For people; the file is not
 * trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../hypervisor/debug/trace_format.h"

static const char usage[] =
    "NAME\n"
    "  vmmtrace - what a guest and its devices told each other\n"
    "\n"
    "SYNOPSIS\n"
    "  vmmtrace [OPTION]... FILE\n"
    "\n"
    "DESCRIPTION\n"
    "  Prints the trace that `dormouse-vmm-debug --trace FILE` writes, also of a machine that\n"
    "  runs. A line has: seconds since the first line, who (a vCPU, or io), the device, and\n"
    "    read, write  a register and its value\n"
    "    notify       a queue's doorbell, seen by the I/O thread\n"
    "    chain        a request taken from a queue: buffers and bytes out (to the device)\n"
    "                 and in (to the guest)\n"
    "    irq          an interrupt raised\n"
    "\n"
    "OPTIONS\n"
    "  --device NAME  lines of devices whose name begins so (virtio-blk, pl011, ...)\n"
    "  --last N       the last N lines only\n"
    "  --help         this text\n"
    "\n"
    "EXIT STATUS\n"
    "  0 good, 1 unreadable, 2 wrong arguments\n";

struct name {
    uint64_t value;
    const char *text;
};

static const struct name virtio_regs[] = {
    {0x000, "MagicValue"},       {0x004, "Version"},
    {0x008, "DeviceID"},         {0x00c, "VendorID"},
    {0x010, "DeviceFeatures"},   {0x014, "DeviceFeaturesSel"},
    {0x020, "DriverFeatures"},   {0x024, "DriverFeaturesSel"},
    {0x030, "QueueSel"},         {0x034, "QueueNumMax"},
    {0x038, "QueueNum"},         {0x044, "QueueReady"},
    {0x050, "QueueNotify"},      {0x060, "InterruptStatus"},
    {0x064, "InterruptACK"},     {0x070, "Status"},
    {0x080, "QueueDescLow"},     {0x084, "QueueDescHigh"},
    {0x090, "QueueDriverLow"},   {0x094, "QueueDriverHigh"},
    {0x0a0, "QueueDeviceLow"},   {0x0a4, "QueueDeviceHigh"},
    {0x0b0, "SHMLenLow"},        {0x0b4, "SHMLenHigh"},
    {0x0b8, "SHMBaseLow"},       {0x0bc, "SHMBaseHigh"},
    {0x0fc, "ConfigGeneration"}, {0, NULL},
};
static const struct name pl011_regs[] = {
    {0x00, "DR"},   {0x04, "RSR"}, {0x18, "FR"},   {0x24, "IBRD"}, {0x28, "FBRD"},
    {0x2c, "LCRH"}, {0x30, "CR"},  {0x34, "IFLS"}, {0x38, "IMSC"}, {0x3c, "RIS"},
    {0x40, "MIS"},  {0x44, "ICR"}, {0, NULL},
};
static const struct name pl031_regs[] = {{0x00, "DR"}, {0x08, "LR"}, {0x0c, "CR"}, {0, NULL}};
static const struct name status_bits[] = {
    {1, "ACKNOWLEDGE"},  {2, "DRIVER"},   {4, "DRIVER_OK"}, {8, "FEATURES_OK"},
    {64, "NEEDS_RESET"}, {128, "FAILED"}, {0, NULL},
};

#define STATUS 0x070u
#define CONFIG 0x100u

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static const struct trace_device *device_of(const struct trace_head *h,
                                            const struct trace_record *r)
{
    for (unsigned i = 0; i < MIN(h->ndevices, TRACE_DEVICES); i++) {
        const struct trace_device *d = &h->devices[i];
        if (r->kind == TRACE_IRQ ? d->spi == r->a : r->a >= d->base && r->a - d->base < d->len)
            return d;
    }
    return NULL;
}

static void print_register(const struct trace_device *d, uint64_t off)
{
    const struct name *n = starts(d->name, "virtio")       ? virtio_regs
                           : strcmp(d->name, "pl011") == 0 ? pl011_regs
                           : strcmp(d->name, "pl031") == 0 ? pl031_regs
                                                           : NULL;
    if (n == virtio_regs && off >= CONFIG) {
        printf("config[%llu]", (unsigned long long)(off - CONFIG));
        return;
    }
    for (; n && n->text; n++) {
        if (n->value == off) {
            fputs(n->text, stdout);
            return;
        }
    }
    printf("+0x%03llx", (unsigned long long)off);
}

static void print_access(const struct trace_device *d, const struct trace_record *r)
{
    uint64_t off = d ? r->a - d->base : 0;
    printf("%s ", r->kind == TRACE_READ ? "read " : "write");
    if (d)
        print_register(d, off);
    else
        printf("0x%llx", (unsigned long long)r->a);
    printf(" %s 0x%llx", r->kind == TRACE_READ ? "->" : "<-", (unsigned long long)r->b);
    if (r->n != 4)
        printf(" (%u bytes)", r->n);
    if (d && starts(d->name, "virtio") && off == STATUS) {
        const char *between = " =";
        for (const struct name *b = status_bits; b->text; b++) {
            if (r->b & b->value) {
                printf("%s %s", between, b->text);
                between = " |";
            }
        }
    } else if (d && strcmp(d->name, "pl011") == 0 && off == 0 && r->b >= ' ' && r->b <= '~') {
        printf(" '%c'", (char)r->b);
    }
}

static void print_record(const struct trace_head *h, const struct trace_record *r,
                         uint64_t first_ns)
{
    const struct trace_device *d = device_of(h, r);
    char who[8] = "io";
    if (r->cpu != TRACE_IO)
        snprintf(who, sizeof who, "cpu%u", r->cpu);
    printf("%12.6f %-5s ", (double)(int64_t)(r->ns - first_ns) / 1e9, who);
    if (d)
        printf("%-.23s@%llx ", d->name, (unsigned long long)d->base);
    else
        printf("- ");
    switch (r->kind) {
    case TRACE_READ:
    case TRACE_WRITE:
        print_access(d, r);
        break;
    case TRACE_NOTIFY:
        printf("notify queue %llu", (unsigned long long)r->b);
        break;
    case TRACE_IRQ:
        printf("irq SPI %llu", (unsigned long long)r->a);
        break;
    case TRACE_CHAIN:
        printf("chain queue %llu head %u: out %u buffers %u bytes, in %u buffers %u bytes",
               (unsigned long long)r->b, r->head, r->n_out, r->out_len, r->n_in, r->in_len);
        break;
    default:
        printf("record of kind %u", r->kind);
    }
    putchar('\n');
}

static int print_trace(int fd, const char *path, const char *only, uint64_t last)
{
    struct trace_head h;
    int r = fd_pread_full(fd, &h, sizeof h, 0);
    if (r < 0 || h.magic != TRACE_MAGIC || h.record_size != sizeof(struct trace_record) ||
        h.records == 0) {
        fprintf(stderr, "vmmtrace: '%s' is not a trace of this version\n", path);
        return 1;
    }
    uint64_t from = h.next > h.records ? h.next - h.records : 0, first_ns = 0;
    if (h.next - from > last)
        from = h.next - last;
    for (uint64_t i = from; i < h.next; i++) {
        struct trace_record rec;
        r = fd_pread_full(fd, &rec, sizeof rec, sizeof h + i % h.records * sizeof rec);
        if (r < 0) {
            fprintf(stderr, "vmmtrace: '%s' ends early: %s\n", path, strerror(-r));
            return 1;
        }
        /* A running machine may be writing this one, or have come round to it again. */
        if (rec.seq != i + 1)
            continue;
        if (first_ns == 0)
            first_ns = rec.ns;
        const struct trace_device *d = device_of(&h, &rec);
        if (!only || (d && starts(d->name, only)))
            print_record(&h, &rec, first_ns);
    }
    return 0;
}

static int wrong(const char *what)
{
    fprintf(stderr, "vmmtrace: %s; see vmmtrace --help\n", what);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"device", required_argument, NULL, 'd'},
                                          {"last", required_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *only = NULL;
    uint64_t last = UINT64_MAX;
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 'd')
            only = optarg;
        else if (c == 'l' && parse_u64(optarg, 1, UINT64_MAX, &last))
            continue;
        else if (c == 'h')
            return fputs(usage, stdout) < 0;
        else
            return wrong("unknown option or wrong value");
    }
    if (optind + 1 != argc)
        return wrong("one FILE is wanted");
    AUTO_CLOSE int fd = open(argv[optind], O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "vmmtrace: open '%s': %s\n", argv[optind], strerror(errno));
        return 1;
    }
    return print_trace(fd, argv[optind], only, last);
}
