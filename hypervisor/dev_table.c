// SPDX-License-Identifier: Apache-2.0
/*
 * The devices of a machine; see dev_table.h. The order here is the order of
 * slots, interrupts and blocks in a snapshot: disks, net, vsock, rng, balloon.
 */
#include "dev_table.h"

#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev_rtc.h"
#include "dev_vmgenid.h"
#include "virtio_balloon.h"
#include "virtio_blk.h"
#include "virtio_net.h"
#include "virtio_rng.h"
#include "virtio_vsock.h"

#ifndef CONSOLE_LIMIT /* a test of the limit sets a small one */
#define CONSOLE_LIMIT (1ull << 20)
#endif

void machine_fds_init(struct machine_fds *fds)
{
    /* Nothing but descriptors in it. */
    int *p = (int *)fds;
    for (size_t i = 0; i < sizeof *fds / sizeof *p; i++)
        p[i] = -1;
}

void machine_fds_close(struct machine_fds *fds)
{
    int *p = (int *)fds;
    for (size_t i = 0; i < sizeof *fds / sizeof *p; i++) {
        if (p[i] > 2)
            close(p[i]);
        p[i] = -1;
    }
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

static int add(struct vm *vm, int made, struct dev **d, struct err *e)
{
    return made < 0 ? made : vm_add_dev(vm, *d, e);
}

static int basic(struct vm *vm, const struct dev_env *env, struct machine_fds *fds,
                 const struct machine_hooks *hooks, struct err *e)
{
    struct uart_config uart = {.log_fd = fds->console,
                               .input_fd = hooks->input_fd,
                               .log_limit = hooks->interactive ? 0 : CONSOLE_LIMIT,
                               .interactive = hooks->interactive,
                               .watch = hooks->watch,
                               .seen = hooks->seen,
                               .seen_ctx = hooks->ctx};
    struct dev *rtc;
    int r = dev_uart_new(&vm->uart, env, &uart, e);
    if (r < 0)
        return r;
    fds->console = -1;
    r = vm_add_dev(vm, vm->uart, e);
    if (r == 0)
        r = add(vm, dev_rtc_new(&rtc, env, e), &rtc, e);
    if (r == 0)
        r = add(vm, dev_vmgenid_new(&vm->vmgenid, env, e), &vm->vmgenid, e);
    return r;
}

static int vsock(struct vm *vm, const struct dev_env *env, unsigned slot,
                 const struct machine_hooks *hooks, struct err *e)
{
    struct virtio_vsock_config c = {
        .cid = CTL_CID, .on_connect = hooks->vsock_connect, .ctx = hooks->ctx};
    return add(vm, virtio_vsock_new(&vm->vsock, env, slot, &c, e), &vm->vsock, e);
}

static int disk(struct vm *vm, const struct dev_env *env, unsigned slot,
                const struct ctl_machine *m, unsigned i, struct machine_fds *fds, struct err *e)
{
    const struct ctl_disk *d = &m->disks[i];
    struct virtio_blk_config c = {.nlayers = d->nlayers,
                                  .size = d->size,
                                  .readonly = d->flags & CTL_DISK_READONLY,
                                  .limit_bytes = d->limit_bytes,
                                  .limit_ops = d->limit_ops};
    for (unsigned k = 0; k < d->nlayers; k++)
        c.fds[k] = take_fd(&fds->layers[i][k]);
    memcpy(c.serial, d->serial, sizeof c.serial);
    int r = virtio_blk_new(&vm->disks[i], env, slot, &c, e);
    return r < 0 ? err_wrap(e, "disk %u", i) : add(vm, r, &vm->disks[i], e);
}

static int net(struct vm *vm, const struct dev_env *env, unsigned slot,
               const struct ctl_machine *m, struct machine_fds *fds, struct err *e)
{
    struct virtio_net_config c = {.fd = take_fd(&fds->tap),
                                  .limit_bytes = m->net_limit_bytes,
                                  .limit_ops = m->net_limit_ops};
    memcpy(c.mac, m->mac, sizeof c.mac);
    int r = virtio_net_new(&vm->net, env, slot, &c, e);
    return r < 0 ? err_wrap(e, "network") : add(vm, r, &vm->net, e);
}

int dev_table_make(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                   const struct machine_hooks *hooks, struct err *e)
{
    struct dev_env env = {.mem = &vm->mem, .bus = &vm->bus, .ring = vm->ring, .vm_fd = vm->fd};
    int r = basic(vm, &env, fds, hooks, e);
    struct dev *d = NULL;
    unsigned slot = 0;
    for (unsigned i = 0; i < m->ndisks && r == 0; i++)
        r = disk(vm, &env, slot++, m, i, fds, e);
    if (r == 0 && m->has_net)
        r = net(vm, &env, slot++, m, fds, e);
    if (r == 0 && m->has_vsock)
        r = vsock(vm, &env, slot++, hooks, e);
    if (r == 0 && m->has_rng)
        r = add(vm, virtio_rng_new(&d, &env, slot++, e), &d, e);
    if (r == 0 && m->has_balloon)
        r = add(vm, virtio_balloon_new(&vm->balloon, &env, slot++, e), &vm->balloon, e);
    return r;
}
