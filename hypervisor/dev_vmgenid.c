// SPDX-License-Identifier: Apache-2.0
/*
 * VMGenID by device tree ("microsoft,vmgenid"): the guest's driver maps the page
 * as a device, reads it at boot, and compares it when the interrupt comes. The
 * page lies outside the memory node, so nothing else in the guest uses it.
 */
#include "dev_vmgenid.h"

#include <errno.h>
#include <stdlib.h>

#include "arm64_fdt.h"
#include "base/mem.h"
#include "irq.h"

static int vmgenid_fdt(struct dev *d, void *fdt, struct err *e)
{
    static const char compatible[] = "microsoft,vmgenid";
    (void)d;
    return fdt_dev_node(fdt, "vmgenid", compatible, sizeof compatible, MEM_VMGENID, 16,
                        SPI_VMGENID, e);
}

static const struct dev_ops vmgenid_ops = {.name = "vmgenid", .fdt = vmgenid_fdt};

int dev_vmgenid_new(struct dev **ret, const struct dev_env *env, struct err *e)
{
    struct dev *d = calloc(1, sizeof *d);
    if (!d)
        return err_sys(e, ENOMEM, "make the generation id");
    d->ops = &vmgenid_ops;
    d->env = *env;
    *ret = d;
    return 0;
}

int dev_vmgenid_set(struct dev *d, const uint8_t id[16], bool notify, struct err *e)
{
    void *p = mem_at(d->env.mem, MEM_VMGENID, 16);
    if (!p)
        return err_set(e, EINVAL, "no memory for the generation id");
    memcpy(p, id, 16);
    /* The guest may read past the caches. */
    __asm__ volatile("dc cvac, %0\n\tdsb ish" : : "r"(p) : "memory");
    if (notify)
        irq_raise(&(struct irq){.fd = d->env.vm_fd, .spi = SPI_VMGENID});
    return 0;
}
