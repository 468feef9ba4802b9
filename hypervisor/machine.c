// SPDX-License-Identifier: Apache-2.0
/* Cold boot of a machine; see machine.h. Restoring is in vm_restore.c, saving in vm_save.c. */
#include "machine.h"

#include <errno.h>

#include "arm64_boot.h"
#include "dev_vmgenid.h"

int machine_boot(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                 const struct machine_hooks *hooks, struct err *e)
{
    int r = machine_check(m, e);
    if (r < 0)
        return r;
    if (m->vcpus != vm->nvcpus)
        return err_set(e, EINVAL, "%u vCPUs asked for, the VMM was started with %u", m->vcpus,
                       vm->nvcpus);
    r = vm_map_anonymous(vm, m->mem_bytes, e);
    if (r == 0)
        r = dev_table_make(vm, m, fds, hooks, e);
    if (r == 0)
        r = boot_load(vm, fds->kernel, fds->initrd, m->cmdline, e);
    if (r == 0)
        r = vm_set_memslot(vm, e);
    if (r == 0)
        r = dev_vmgenid_set(vm->vmgenid, m->vmgenid, false, e);
    if (r == 0)
        r = vm_start(vm, m->start_paused != 0, e);
    return r;
}
