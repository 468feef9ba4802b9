// SPDX-License-Identifier: Apache-2.0
/*
 * From an embryo and one or two snapshot files to a running machine; see
 * machine.h. The order is KVM's: memory, vCPU registers, GIC, counter, devices,
 * and at last the generation id, whose interrupt a GIC restore would undo. Then
 * the first vCPU runs, and the others get their registers while it does. The
 * files may be forged: nothing of them is used that snapshot/ has not checked,
 * and what reaches KVM or a device is checked there again.
 */
#include <errno.h>
#include <string.h>

#include "../snapshot/devstate.h"
#include "../snapshot/snapfile.h"
#include "../snapshot/snapmem.h"
#include "../snapshot/snapstate.h"
#include "../snapshot/workset.h"
#include "arm64_gic.h"
#include "base/fd.h"
#include "base/mem.h"
#include "machine.h"
#include "vm_prepare.h"

enum phase {
    PHASE_FILES,
    PHASE_MEMORY,
    PHASE_DEVS,
    PHASE_VCPUS,
    PHASE_GIC,
    PHASE_LOAD,
    PHASE_START
};

/* By the counter: it costs nothing, a system call on some hosts would cost a microsecond. */
static uint64_t ticks(void)
{
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
}

static void phase_done(struct vm *vm, enum phase phase, uint64_t *since)
{
    uint64_t now = ticks();
    vm->restore_ticks[phase] = now - *since;
    *since = now;
}

static int check_host(struct vm *vm, const struct snap_info *s, struct err *e)
{
    const struct host_facts *facts = &vm->regs.facts;
    const struct snap_host host = {
        .gic = vm->gic, .midr = facts->midr, .cntfrq = facts->cntfrq};
    return snap_check_host(s, &host, e);
}

int machine_check_image(struct vm *vm, const struct ctl_machine *m, const struct snap_info *s,
                        struct err *e)
{
    if (s->vcpus != vm->nvcpus || m->vcpus != vm->nvcpus)
        return err_set(e, EINVAL, "the snapshot has %u vCPUs, the VMM was started with %u",
                       s->vcpus, vm->nvcpus);
    if (s->mem_base != MEM_BASE || s->mem_bytes != m->mem_bytes || s->mem_bytes < MEM_MIN ||
        s->mem_bytes > MEM_MAX)
        return err_set(e, EINVAL, "the snapshot has %llu MiB of memory, %llu were asked for",
                       (unsigned long long)(s->mem_bytes >> 20),
                       (unsigned long long)(m->mem_bytes >> 20));
    return check_host(vm, s, e);
}

static int map_image(struct vm *vm, const struct snap_file *image,
                     const struct machine_fds *fds, struct err *e)
{
    if (vm->prepared)
        return 0;
    int r = memory_map(image, fds->snapshots[0], fds->layer, vm->place, &vm->mem.host, e);
    if (r < 0)
        return r;
    vm->mem.size = image->info.mem_bytes;
    vm->mem.image = true;
    return fds->workset < 0 ? 0 : workset_prefetch(fds->workset, &image->info, vm->mem.host, e);
}

/* The image, or what CTL_PREPARE left of it. */
static int open_image(struct vm *vm, const struct machine_fds *fds, struct snap_file *ret,
                      struct err *e)
{
    if (!vm->prepared)
        return snap_open(ret, fds->snapshots[0], vm->scratch[0], e);
    *ret = vm->prepared->image;
    vm->prepared->image = (struct snap_file)SNAP_FILE_INIT;
    return 0;
}

static int apply_session(struct vm *vm, const struct snap_file *f, int fd, struct err *e)
{
    for (size_t i = 0; i < f->nruns;) {
        struct snap_run run = snap_run_joined(f, &i);
        uint64_t off = (uint64_t)run.page * SNAP_PAGE, len = (uint64_t)run.count * SNAP_PAGE;
        uint8_t *p = mem_at(&vm->mem, MEM_BASE + off, len);
        bool zero = run.flags & SNAP_RUN_ZERO;
        int r = 0;
        if (!p)
            return err_set(e, EBADMSG, "the session has pages outside memory");
        if (run.count >= MEMORY_MAP_RUN)
            r = vm_overlay(vm, off, len, zero ? -1 : fd, run.off, e);
        else if (zero)
            memset(p, 0, len);
        else if ((r = fd_pread_full(fd, p, len, run.off)) < 0)
            r = err_sys(e, -r, "read pages of the session");
        if (r < 0)
            return r;
    }
    return snap_deltas_apply(f, vm->mem.host, vm->mem.size, e);
}

/* The devices in the snapshot must be the devices of the machine. */
static int check_devs(struct vm *vm, struct dstate_reader *machine, struct err *e)
{
    const void *data;
    size_t len, n = 0;
    int r = dr_bytes(machine, SNAP_MACHINE_DEVS, &data, &len, e);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < vm->ndevs; i++) {
        const struct dev *d = vm->devs[i];
        if (!d->ops->save)
            continue;
        const uint8_t *p = (const uint8_t *)data + n;
        if (!range_ok(n, 8, len) || get_le32(p) != d->ops->tag ||
            get_le32(p + 4) != d->instance)
            return err_set(e, EINVAL, "the snapshot has no %s %u in that place", d->ops->name,
                           d->instance);
        n += 8;
    }
    if (n != len)
        return err_set(e, EINVAL, "the snapshot has devices the machine was not given");
    return 0;
}

/* One vCPU: whether it is on, or its registers. Those of one that is off come with the former:
 * another that runs may switch it on, and then it has new ones. */
static int load_vcpu(struct vm *vm, const struct snap_file *f, unsigned i, bool power,
                     struct err *e)
{
    struct vcpu *v = &vm->vcpus[i];
    struct dstate_reader block;
    int r = dr_find(f->state, f->state_len, SNAP_TAG_VCPU, (uint16_t)i, &block, e);
    if (r == 0 && power)
        r = regs_load_power(v, &block, &v->on, e);
    return r == 0 && power != v->on ? regs_load(&vm->regs, v, &block, e) : r;
}

/* The first vCPU, and of the others what it can see. */
static int load_vcpus(struct vm *vm, const struct snap_file *f, struct err *e)
{
    int r = 0;
    for (unsigned i = 0; i < vm->nvcpus && r == 0; i++)
        r = load_vcpu(vm, f, i, true, e);
    return r == 0 && vm->vcpus[0].on ? load_vcpu(vm, f, 0, false, e) : r;
}

/* The registers of the others, each of which then runs if the machine does. They are its own:
 * until it runs, nobody else sees them. */
static int load_others(struct vm *vm, const struct snap_file *f, struct err *e)
{
    for (unsigned i = 1; i < vm->nvcpus; i++) {
        int r = load_vcpu(vm, f, i, false, e);
        if (r < 0) {
            vm_end(vm, CTL_EXIT_ERROR, -1, "%s", e->msg);
            return r;
        }
        vm_admit(vm, i + 1);
    }
    return 0;
}

static int load_devs(struct vm *vm, const struct snap_file *f, struct err *e)
{
    for (unsigned i = 0; i < vm->ndevs; i++) {
        struct dev *d = vm->devs[i];
        struct dstate_reader block;
        if (!d->ops->load)
            continue;
        int r = dr_find(f->state, f->state_len, d->ops->tag, (uint16_t)d->instance, &block, e);
        if (r == 0)
            r = d->ops->load(d, &block, e);
        if (r < 0)
            return err_wrap(e, "load %s", d->ops->name);
    }
    return 0;
}

struct layers {
    struct snap_file image, session;
    struct snap_file *top; /* whose device state counts */
};

static int open_layers(struct vm *vm, const struct ctl_machine *m,
                       const struct machine_fds *fds, struct layers *l, struct err *e)
{
    if (m->nmem_layers < 1 || m->nmem_layers > 2)
        return err_set(e, EINVAL,
                       "%u snapshot layers; it takes an image, or an image and a "
                       "session",
                       m->nmem_layers);
    if (m->prepared ? !vm->prepared || !vm->prepared->ready : vm->prepared != NULL)
        return err_set(e, EINVAL, "the VMM %s prepared", m->prepared ? "is not" : "is");
    int r = open_image(vm, fds, &l->image, e);
    if (r < 0)
        return err_wrap(e, "image");
    l->top = &l->image;
    if (!(l->image.info.flags & SNAP_FULL))
        return err_set(e, EINVAL, "the first snapshot is a session, not an image");
    r = machine_check_image(vm, m, &l->image.info, e);
    if (r == 0 && m->nmem_layers == 2) {
        l->top = &l->session;
        r = snap_open(&l->session, fds->snapshots[1], vm->scratch[1], e);
        if (r == 0)
            r = snap_check_pair(&l->image.info, &l->session.info, e);
        if (r == 0)
            r = check_host(vm, &l->session.info, e);
        if (r < 0)
            return err_wrap(e, "session");
    }
    return r;
}

static int restore(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                   const struct machine_hooks *hooks, struct layers *l, struct err *e)
{
    struct dstate_reader machine, gic;
    uint64_t t = ticks(), counter = 0;
    int r = open_layers(vm, m, fds, l, e);
    if (r < 0)
        return r;
    phase_done(vm, PHASE_FILES, &t);
    r = map_image(vm, &l->image, fds, e);
    if (r == 0 && l->top == &l->session)
        r = apply_session(vm, &l->session, fds->snapshots[1], e);
    if (r == 0 && !vm->prepared)
        r = vm_set_memslot(vm, e);
    phase_done(vm, PHASE_MEMORY, &t);
    if (r == 0)
        r = machine_devs(vm, m, fds, hooks, e);
    phase_done(vm, PHASE_DEVS, &t);
    if (r == 0)
        r = dr_find(l->top->state, l->top->state_len, SNAP_TAG_MACHINE, 0, &machine, e);
    if (r == 0)
        r = dr_u64(&machine, SNAP_MACHINE_COUNTER, &counter, e);
    if (r == 0)
        r = check_devs(vm, &machine, e);
    if (r == 0)
        r = load_vcpus(vm, l->top, e);
    phase_done(vm, PHASE_VCPUS, &t);
    if (r == 0)
        r = dr_find(l->top->state, l->top->state_len, SNAP_TAG_GIC, 0, &gic, e);
    if (r == 0)
        r = gic_load(vm, &gic, e);
    phase_done(vm, PHASE_GIC, &t);
    if (r == 0)
        r = load_devs(vm, l->top, e);
    phase_done(vm, PHASE_LOAD, &t);
    if (r == 0)
        r = dev_vmgenid_set(vm->vmgenid, m->vmgenid, true, e);
    if (r == 0)
        r = regs_counter_set(&vm->vcpus[0], counter, e);
    vm_admit(vm, 1);
    if (r == 0)
        r = vm_start(vm, m->start_paused != 0, e);
    phase_done(vm, PHASE_START, &t);
    return r < 0 ? r : load_others(vm, l->top, e);
}

int machine_restore(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                    const struct machine_hooks *hooks, struct err *e)
{
    struct layers l = {.image = SNAP_FILE_INIT, .session = SNAP_FILE_INIT};
    int r = machine_check(m, e);
    if (r == 0)
        r = restore(vm, m, fds, hooks, &l, e);
    if (r == 0) {
        /* Kept to compare with when the machine is saved. */
        if (!vm->prepared) {
            vm->image_fd = take_fd(&fds->snapshots[0]);
            vm->layer_fd = take_fd(&fds->layer);
        }
        memcpy(vm->image_id, l.image.info.id, SNAP_ID);
    }
    snap_free(&l.image);
    snap_free(&l.session);
    return r;
}
