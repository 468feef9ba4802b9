// SPDX-License-Identifier: Apache-2.0
/*
 * A machine's configuration, devices and cold boot; see machine.h. Restoring is
 * in vm_restore.c, saving in vm_save.c.
 */
#include "machine.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arm64_boot.h"
#include "base/mem.h"
#include "virtio_mmio.h"

#define DEV_HEAD 4096u /* what of a device is written to when it is made */

void machine_fds_init(struct machine_fds *fds)
{
    memset(fds, -1, sizeof *fds); /* nothing but descriptors in it */
}

void machine_fds_close(struct machine_fds *fds)
{
    int *p = (int *)fds;
    for (size_t i = 0; i < sizeof *fds / sizeof *p; i++) {
        if (p[i] > 2)
            close(p[i]);
    }
    machine_fds_init(fds);
}

int machine_check(const struct ctl_machine *m, struct err *e)
{
    if (m->version != CTL_VERSION)
        return err_set(e, EPROTO, "control version %u, this VMM speaks %u", m->version,
                       CTL_VERSION);
    if (m->ndisks > CTL_DISKS_MAX)
        return err_set(e, EINVAL, "%u disks; at most %u", m->ndisks, CTL_DISKS_MAX);
    for (unsigned i = 0; i < m->ndisks; i++) {
        if (m->disks[i].nlayers == 0 || m->disks[i].nlayers > CTL_LAYERS_MAX)
            return err_set(e, EINVAL, "disk %u has %u layers; 1 to %u", i, m->disks[i].nlayers,
                           CTL_LAYERS_MAX);
    }
    if (!memchr(m->cmdline, '\0', sizeof m->cmdline))
        return err_set(e, EINVAL, "the kernel command line is not terminated");
    return 0;
}

/* The order of the table is the order of slots, interrupts and blocks in a snapshot. */
int machine_devs(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                 const struct machine_hooks *hooks, struct err *e)
{
    const struct {
        uint32_t count;
        const struct dev_ops *ops;
        struct dev **keep;
    } table[] = {
        {1, &dev_uart_ops, &vm->uart},
        {1, &dev_rtc_ops, NULL},
        {1, &dev_vmgenid_ops, &vm->vmgenid},
        {m->ndisks, &virtio_blk_ops.dev, vm->disks},
        {m->has_net != 0, &virtio_net_ops.dev, NULL},
        {m->has_vsock != 0, &virtio_vsock_ops.dev, &vm->vsock},
        {m->has_rng != 0, &virtio_rng_ops.dev, NULL},
        {m->has_balloon != 0, &virtio_balloon_ops.dev, &vm->balloon},
    };
    struct dev_order o = {.env = {.mem = &vm->mem,
                                  .bus = &vm->bus,
                                  .ring = vm->ring,
                                  .vm_fd = vm->fd,
                                  .arena = &vm->arena},
                          .m = m,
                          .fds = fds,
                          .hooks = hooks};
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        for (o.index = 0; o.index < table[i].count; o.index++) {
            struct dev *d = NULL;
            int r = dev_make(&d, table[i].ops, &o, e);
            if (r == 0)
                r = vm_add_dev(vm, d, e);
            if (r < 0)
                return r;
            if (table[i].keep)
                table[i].keep[o.index] = d;
        }
    }
    return 0;
}

void machine_warm(struct vm *vm)
{
    static const struct dev_ops *const usual[] = {&dev_uart_ops,       &dev_rtc_ops,
                                                  &dev_vmgenid_ops,    &virtio_blk_ops.dev,
                                                  &virtio_net_ops.dev, &virtio_vsock_ops.dev};
    struct arena a = vm->arena; /* as machine_devs() will find it */
    for (unsigned i = 0; i < ARRAY_LEN(usual); i++) {
        volatile char *p = arena_new(&a, usual[i]->size);
        p[0] = 0;
        p[MIN(usual[i]->size, (size_t)DEV_HEAD) - 1] = 0;
    }
}

int machine_boot(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                 const struct machine_hooks *hooks, struct err *e)
{
    int r = machine_check(m, e);
    if (r < 0)
        return r;
    if (m->vcpus != vm->nvcpus)
        return err_set(e, EINVAL, "%u vCPUs asked for, the VMM was started with %u", m->vcpus,
                       vm->nvcpus);
    struct boot_rest rest;
    r = vm_map_anonymous(vm, m->mem_bytes, e);
    if (r == 0)
        r = machine_devs(vm, m, fds, hooks, e);
    if (r == 0)
        r = boot_load(vm, fds->kernel, fds->initrd, m->cmdline, &rest, e);
    if (r == 0)
        r = vm_set_memslot(vm, e);
    if (r == 0)
        r = dev_vmgenid_set(vm->vmgenid, m->vmgenid, false, e);
    if (r < 0)
        return r;
    vm_loading(vm, true);
    r = vm_start(vm, m->start_paused != 0, e);
    if (r == 0)
        r = boot_finish(vm, &rest, e);
    vm_loading(vm, false);
    return r;
}
