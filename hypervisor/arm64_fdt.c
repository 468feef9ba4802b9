// SPDX-License-Identifier: Apache-2.0
/*
 * The device tree; see arm64_boot.h. Written into guest memory before the guest
 * runs, with libfdt's sequential calls; the first error sticks.
 */
#include "arm64_boot.h"

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

struct out {
    void *fdt;
    int r; /* libfdt's, 0: good so far */
};

static void node(struct out *o, const char *name)
{
    if (o->r == 0)
        o->r = fdt_begin_node(o->fdt, name);
}

static void end(struct out *o)
{
    if (o->r == 0)
        o->r = fdt_end_node(o->fdt);
}

static void bytes(struct out *o, const char *name, const void *p, size_t len)
{
    if (o->r == 0)
        o->r = fdt_property(o->fdt, name, p, (int)len);
}

static void text(struct out *o, const char *name, const char *value)
{
    bytes(o, name, value, strlen(value) + 1);
}

/* A node that says what it is: one string, or several. */
#define BEGIN(o, name, compatible) begin((o), (name), (compatible), sizeof(compatible))
static void begin(struct out *o, const char *name, const char *compatible, size_t len)
{
    node(o, name);
    bytes(o, "compatible", compatible, len);
}

static void put_cells(struct out *o, const char *name, const uint32_t *cells, size_t n)
{
    fdt32_t be[16];
    for (size_t i = 0; i < n && i < ARRAY_LEN(be); i++)
        be[i] = cpu_to_fdt32(cells[i]);
    bytes(o, name, be, n * sizeof be[0]);
}
#define CELLS(o, name, ...)                                 \
    put_cells((o), (name), (const uint32_t[]){__VA_ARGS__}, \
              sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
#define CELLS64(v) (uint32_t)((v) >> 32), (uint32_t)(v)

static void put_dev(struct out *o, const struct dev *d)
{
    char name[48];
    snprintf(name, sizeof name, "%s@%llx", d->ops->node, (unsigned long long)d->base);
    begin(o, name, d->ops->compatible, d->ops->compatible_len);
    CELLS(o, "reg", CELLS64(d->base), CELLS64(d->ops->len));
    if (d->spi != DEV_NO_SPI)
        CELLS(o, "interrupts", IRQ_SPI, d->spi, IRQ_EDGE);
    if (d->ops->periphid) { /* it is ARM's own */
        CELLS(o, "arm,primecell-periphid", d->ops->periphid);
        CELLS(o, "clocks", PHANDLE_CLK);
        text(o, "clock-names", "apb_pclk");
    }
    end(o);
}

static void put_chosen(struct out *o, const struct fdt_boot *boot)
{
    uint8_t seed[SEED_BYTES];
    uint64_t kaslr, initrd_end = boot->initrd + boot->initrd_len;
    if (getrandom(seed, sizeof seed, 0) != sizeof seed ||
        getrandom(&kaslr, sizeof kaslr, 0) != sizeof kaslr)
        o->r = -FDT_ERR_INTERNAL;
    node(o, "chosen");
    text(o, "bootargs", boot->cmdline);
    text(o, "stdout-path", "/pl011@9000000");
    bytes(o, "rng-seed", seed, sizeof seed);
    bytes(o, "kaslr-seed", &kaslr, sizeof kaslr);
    if (boot->initrd_len) {
        CELLS(o, "linux,initrd-start", CELLS64(boot->initrd));
        CELLS(o, "linux,initrd-end", CELLS64(initrd_end));
    }
    end(o);
}

static void put_cpus(struct out *o, unsigned n)
{
    node(o, "cpus");
    CELLS(o, "#address-cells", 1);
    CELLS(o, "#size-cells", 0);
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "cpu@%x", i);
        BEGIN(o, name, "arm,armv8");
        text(o, "device_type", "cpu");
        text(o, "enable-method", "psci");
        CELLS(o, "reg", i); /* KVM gives vCPU i the affinity i, up to 16 */
        end(o);
    }
    end(o);
}

static void put_gic(struct out *o, const struct vm *vm)
{
    const char *compatible = vm->gic == 3 ? "arm,gic-v3" : "arm,cortex-a15-gic";
    begin(o, "intc@8000000", compatible, strlen(compatible) + 1);
    CELLS(o, "#interrupt-cells", 3);
    bytes(o, "interrupt-controller", NULL, 0);
    CELLS(o, "phandle", PHANDLE_GIC);
    if (vm->gic == 3)
        CELLS(o, "reg", CELLS64(MAP_GICD), 0, 0x10000, CELLS64(MAP_GICR), 0,
              0x20000 * vm->nvcpus);
    else
        CELLS(o, "reg", CELLS64(MAP_GICD), 0, 0x1000, CELLS64(MAP_GICC), 0, 0x2000);
    end(o);
}

static void put_timer(struct out *o, const struct vm *vm)
{
    /* On GICv2 a PPI's flags also name the CPUs it goes to. */
    uint32_t flags = IRQ_LEVEL;
    if (vm->gic == 2)
        flags |= ((1u << vm->nvcpus) - 1) << 8;
    BEGIN(o, "timer", "arm,armv8-timer");
    CELLS(o, "interrupts", IRQ_PPI, 13, flags, IRQ_PPI, 14, flags, IRQ_PPI, 11, flags, IRQ_PPI,
          10, flags);
    bytes(o, "always-on", NULL, 0);
    end(o);
}

static void put_fixed(struct out *o, const struct vm *vm)
{
    BEGIN(o, "psci", "arm,psci-1.0\0arm,psci-0.2");
    text(o, "method", "hvc");
    end(o);
    BEGIN(o, "apb-pclk", "fixed-clock");
    CELLS(o, "#clock-cells", 0);
    CELLS(o, "clock-frequency", CLK_HZ);
    CELLS(o, "phandle", PHANDLE_CLK);
    end(o);
    node(o, "memory@40200000");
    text(o, "device_type", "memory");
    CELLS(o, "reg", CELLS64(MEM_KERNEL_BASE), CELLS64(vm->mem.size - MEM_SYSTEM_SIZE));
    end(o);
}

int fdt_write(struct vm *vm, const struct fdt_boot *boot, struct err *e)
{
    struct out o = {.fdt = mem_at(&vm->mem, MEM_FDT, MEM_FDT_MAX)};
    /* To look for each name among those before takes longer than to write it again. */
    o.r = fdt_create_with_flags(o.fdt, MEM_FDT_MAX, FDT_CREATE_FLAG_NO_NAME_DEDUP);
    if (o.r == 0)
        o.r = fdt_finish_reservemap(o.fdt);
    BEGIN(&o, "", "dormouse,microvm");
    text(&o, "model", "Dormouse microVM");
    CELLS(&o, "#address-cells", 2);
    CELLS(&o, "#size-cells", 2);
    CELLS(&o, "interrupt-parent", PHANDLE_GIC);
    put_chosen(&o, boot);
    put_cpus(&o, vm->nvcpus);
    put_gic(&o, vm);
    put_timer(&o, vm);
    put_fixed(&o, vm);
    for (unsigned i = 0; i < vm->ndevs; i++)
        put_dev(&o, vm->devs[i]);
    end(&o);
    if (o.r == 0)
        o.r = fdt_finish(o.fdt);
    return o.r < 0 ? err_set(e, EINVAL, "write the device tree: %s", fdt_strerror(o.r)) : 0;
}
