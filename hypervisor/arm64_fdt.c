// SPDX-License-Identifier: Apache-2.0
/* The device tree; see arm64_fdt.h. Written into guest memory before the guest runs. */
#include "arm64_fdt.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "vm.h"

#define PHANDLE_GIC 1u
#define PHANDLE_CLK 2u
#define CLK_HZ      24000000u
#define IRQ_SPI     0u
#define IRQ_PPI     1u
#define IRQ_EDGE    1u
#define IRQ_LEVEL   4u
#define SEED_BYTES  64u

static int finish(int r, struct err *e)
{
    return r < 0 ? err_set(e, EINVAL, "write the device tree: %s", fdt_strerror(r)) : 0;
}

static int put_string(void *fdt, const char *name, const char *value)
{
    return fdt_property(fdt, name, value, (int)strlen(value) + 1);
}

static int put_cells(void *fdt, const char *name, const uint32_t *cells, unsigned n)
{
    fdt32_t be[16];
    for (unsigned i = 0; i < n && i < ARRAY_LEN(be); i++)
        be[i] = cpu_to_fdt32(cells[i]);
    return fdt_property(fdt, name, be, (int)(n * sizeof be[0]));
}
#define CELLS(fdt, name, ...)                                 \
    put_cells((fdt), (name), (const uint32_t[]){__VA_ARGS__}, \
              (unsigned)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))
#define CELLS64(v) (uint32_t)((v) >> 32), (uint32_t)(v)

int fdt_dev_begin(void *fdt, const char *name, const char *compatible, size_t n, uint64_t base,
                  uint64_t len, uint32_t spi, struct err *e)
{
    char node[48];
    snprintf(node, sizeof node, "%s@%llx", name, (unsigned long long)base);
    int r = fdt_begin_node(fdt, node);
    if (r == 0)
        r = fdt_property(fdt, "compatible", compatible, (int)n);
    if (r == 0)
        r = CELLS(fdt, "reg", CELLS64(base), CELLS64(len));
    if (r == 0 && spi != UINT32_MAX)
        r = CELLS(fdt, "interrupts", IRQ_SPI, spi, IRQ_EDGE);
    return finish(r, e);
}

int fdt_dev_node(void *fdt, const char *name, const char *compatible, size_t n, uint64_t base,
                 uint64_t len, uint32_t spi, struct err *e)
{
    int r = fdt_dev_begin(fdt, name, compatible, n, base, len, spi, e);
    return r < 0 ? r : finish(fdt_end_node(fdt), e);
}

int fdt_primecell(void *fdt, const char *name, const char *compatible, size_t n, uint64_t base,
                  uint32_t spi, struct err *e)
{
    int r = fdt_dev_begin(fdt, name, compatible, n, base, 0x1000, spi, e);
    if (r < 0)
        return r;
    r = fdt_property_u32(fdt, "clocks", PHANDLE_CLK);
    if (r == 0)
        r = put_string(fdt, "clock-names", "apb_pclk");
    if (r == 0)
        r = fdt_end_node(fdt);
    return finish(r, e);
}

static int put_clock(void *fdt)
{
    int r = fdt_begin_node(fdt, "apb-pclk");
    if (r == 0)
        r = put_string(fdt, "compatible", "fixed-clock");
    if (r == 0)
        r = fdt_property_u32(fdt, "#clock-cells", 0);
    if (r == 0)
        r = fdt_property_u32(fdt, "clock-frequency", CLK_HZ);
    if (r == 0)
        r = fdt_property_u32(fdt, "phandle", PHANDLE_CLK);
    return r ? r : fdt_end_node(fdt);
}

static int put_chosen(void *fdt, const struct fdt_boot *boot)
{
    uint8_t seed[SEED_BYTES];
    uint64_t kaslr;
    if (getrandom(seed, sizeof seed, 0) != sizeof seed ||
        getrandom(&kaslr, sizeof kaslr, 0) != sizeof kaslr)
        return -FDT_ERR_INTERNAL;
    int r = fdt_begin_node(fdt, "chosen");
    if (r == 0)
        r = put_string(fdt, "bootargs", boot->cmdline);
    if (r == 0)
        r = put_string(fdt, "stdout-path", "/pl011@9000000");
    if (r == 0)
        r = fdt_property(fdt, "rng-seed", seed, sizeof seed);
    if (r == 0)
        r = fdt_property_u64(fdt, "kaslr-seed", kaslr);
    if (r == 0 && boot->initrd_len) {
        r = fdt_property_u64(fdt, "linux,initrd-start", boot->initrd);
        if (r == 0)
            r = fdt_property_u64(fdt, "linux,initrd-end", boot->initrd + boot->initrd_len);
    }
    return r ? r : fdt_end_node(fdt);
}

static int put_cpus(void *fdt, unsigned n)
{
    int r = fdt_begin_node(fdt, "cpus");
    if (r == 0)
        r = fdt_property_u32(fdt, "#address-cells", 1);
    if (r == 0)
        r = fdt_property_u32(fdt, "#size-cells", 0);
    for (unsigned i = 0; i < n && r == 0; i++) {
        char node[16];
        snprintf(node, sizeof node, "cpu@%x", i);
        r = fdt_begin_node(fdt, node);
        if (r == 0)
            r = put_string(fdt, "device_type", "cpu");
        if (r == 0)
            r = put_string(fdt, "compatible", "arm,armv8");
        if (r == 0)
            r = put_string(fdt, "enable-method", "psci");
        /* KVM gives vCPU i the affinity i, up to 16. */
        if (r == 0)
            r = fdt_property_u32(fdt, "reg", i);
        if (r == 0)
            r = fdt_end_node(fdt);
    }
    return r ? r : fdt_end_node(fdt);
}

static int put_gic(void *fdt, const struct vm *vm)
{
    int r = fdt_begin_node(fdt, "intc@8000000");
    if (r == 0)
        r = put_string(fdt, "compatible", vm->gic == 3 ? "arm,gic-v3" : "arm,cortex-a15-gic");
    if (r == 0)
        r = fdt_property_u32(fdt, "#interrupt-cells", 3);
    if (r == 0)
        r = fdt_property(fdt, "interrupt-controller", NULL, 0);
    if (r == 0)
        r = fdt_property_u32(fdt, "phandle", PHANDLE_GIC);
    if (r == 0 && vm->gic == 3)
        r = CELLS(fdt, "reg", CELLS64(MAP_GICD), 0, 0x10000, CELLS64(MAP_GICR), 0,
                  0x20000 * vm->nvcpus);
    else if (r == 0)
        r = CELLS(fdt, "reg", CELLS64(MAP_GICD), 0, 0x1000, CELLS64(MAP_GICC), 0, 0x2000);
    return r ? r : fdt_end_node(fdt);
}

static int put_timer(void *fdt, const struct vm *vm)
{
    /* On GICv2 a PPI's flags also name the CPUs it goes to. */
    uint32_t flags = IRQ_LEVEL;
    if (vm->gic == 2)
        flags |= ((1u << vm->nvcpus) - 1) << 8;
    int r = fdt_begin_node(fdt, "timer");
    if (r == 0)
        r = put_string(fdt, "compatible", "arm,armv8-timer");
    if (r == 0)
        r = CELLS(fdt, "interrupts", IRQ_PPI, 13, flags, IRQ_PPI, 14, flags, IRQ_PPI, 11, flags,
                  IRQ_PPI, 10, flags);
    if (r == 0)
        r = fdt_property(fdt, "always-on", NULL, 0);
    return r ? r : fdt_end_node(fdt);
}

static int put_psci(void *fdt)
{
    static const char compatible[] = "arm,psci-1.0\0arm,psci-0.2";
    int r = fdt_begin_node(fdt, "psci");
    if (r == 0)
        r = fdt_property(fdt, "compatible", compatible, sizeof compatible);
    if (r == 0)
        r = put_string(fdt, "method", "hvc");
    return r ? r : fdt_end_node(fdt);
}

static int put_memory(void *fdt, const struct vm *vm)
{
    uint64_t len = vm->mem.size - MEM_SYSTEM_SIZE;
    int r = fdt_begin_node(fdt, "memory@40200000");
    if (r == 0)
        r = put_string(fdt, "device_type", "memory");
    if (r == 0)
        r = CELLS(fdt, "reg", CELLS64(MEM_KERNEL_BASE), CELLS64(len));
    return r ? r : fdt_end_node(fdt);
}

static int put_root(void *fdt)
{
    int r = fdt_begin_node(fdt, "");
    if (r == 0)
        r = put_string(fdt, "compatible", "dormouse,microvm");
    if (r == 0)
        r = put_string(fdt, "model", "Dormouse microVM");
    if (r == 0)
        r = fdt_property_u32(fdt, "#address-cells", 2);
    if (r == 0)
        r = fdt_property_u32(fdt, "#size-cells", 2);
    if (r == 0)
        r = fdt_property_u32(fdt, "interrupt-parent", PHANDLE_GIC);
    return r;
}

int fdt_write(struct vm *vm, const struct fdt_boot *boot, struct err *e)
{
    void *fdt = mem_at(&vm->mem, MEM_FDT, MEM_FDT_MAX);
    int r = fdt_create(fdt, MEM_FDT_MAX);
    if (r == 0)
        r = fdt_finish_reservemap(fdt);
    if (r == 0)
        r = put_root(fdt);
    if (r == 0)
        r = put_chosen(fdt, boot);
    if (r == 0)
        r = put_memory(fdt, vm);
    if (r == 0)
        r = put_cpus(fdt, vm->nvcpus);
    if (r == 0)
        r = put_psci(fdt);
    if (r == 0)
        r = put_gic(fdt, vm);
    if (r == 0)
        r = put_timer(fdt, vm);
    if (r == 0)
        r = put_clock(fdt);
    for (unsigned i = 0; i < vm->ndevs && r == 0; i++) {
        struct dev *d = vm->devs[i];
        r = d->ops->fdt ? d->ops->fdt(d, fdt, e) : 0;
        if (r < 0)
            return r;
    }
    if (r == 0)
        r = fdt_end_node(fdt);
    if (r == 0)
        r = fdt_finish(fdt);
    return finish(r, e);
}
