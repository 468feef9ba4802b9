// SPDX-License-Identifier: Apache-2.0
/*
 * A restored guest spends most of its first milliseconds in page faults: each
 * page it touches has to be found by the host and mapped by KVM, one exit each.
 * So an embryo may get its image beforehand: its memory is mapped, pages that
 * will be written are copied, and the first vCPU runs twelve instructions, with
 * its MMU off, which load from each page of the working set, or call a `ret` in
 * it. KVM then has them all. They stand, with their list, in the system area of
 * memory, which is not the guest's and is given back afterwards; the registers
 * they change get the values of a fresh vCPU again. The working set may be
 * forged: then the wrong pages are touched, or the embryo ends.
 */
#include "vm_prepare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../snapshot/snapmem.h"
#include "../snapshot/workset.h"
#include "arm64_gic.h"
#include "arm64_vcpu.h"
#include "base/fd.h"
#include "base/mem.h"

#define TOUCH_AT   0x100000u /* in the system area, behind the device tree */
#define TOUCH_LIST 64u       /* behind the instructions */
#define TOUCH_SIZE (TOUCH_LIST + (WORKSET_MAX + 1) * 16u)
_Static_assert(TOUCH_AT + TOUCH_SIZE <= MEM_SYSTEM_SIZE, "the list fits into the system area");

/* x0: list of address, count; x9: VCPU_TOUCHED. Count 0: call the address. Address 0: end. */
static const uint32_t touch[] = {
    0xa8c10c02, /* 1: ldp x2, x3, [x0], #16  */
    0xb4000122, /*    cbz x2, 4f             */
    0xb5000063, /*    cbnz x3, 2f            */
    0xd63f0040, /*    blr x2                 */
    0x17fffffc, /*    b 1b                   */
    0xb9400044, /* 2: ldr w4, [x2]           */
    0x91400442, /*    add x2, x2, #1, lsl 12 */
    0xd1000463, /*    sub x3, x3, #1         */
    0xb5ffffa3, /*    cbnz x3, 2b            */
    0x17fffff7, /*    b 1b                   */
    0xb9000124, /* 4: str w4, [x9]           */
    0x17ffffff, /*    b 4b                   */
};
_Static_assert(sizeof touch <= TOUCH_LIST, "the instructions fit before the list");

static void write_list(struct vm *vm, const struct workset *w)
{
    uint8_t *p = vm->mem.host + TOUCH_AT, *list = p + TOUCH_LIST;
    for (size_t i = 0; i < ARRAY_LEN(touch); i++)
        put_le32(p + 4 * i, touch[i]);
    for (uint32_t i = 0; i < w->nruns; i++) {
        struct workset_run r = workset_run_at(w, i);
        uint64_t off = (uint64_t)r.page * SNAP_PAGE, count = r.count;
        unsigned insn = r.flags & WORKSET_RETURN;
        /* Only where the machine's memory has it: else the page is loaded from. */
        if (insn && get_le32(vm->mem.host + off + (insn - 1) * 4) == WORKSET_INSN_RET) {
            off += (insn - 1) * 4;
            count = 0;
        }
        put_le64(list, MEM_BASE + off);
        put_le64(list + 8, count);
        list += 16;
    }
    memset(list, 0, 16);
}

static int set_registers(struct vm *vm, bool fresh, struct err *e)
{
    static const unsigned changed[] = {0, 2, 3, 4, 9, 30, 31};
    struct vcpu *v = &vm->vcpus[0];
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(changed) && r == 0; i++)
        r = vcpu_set_x(v, changed[i], 0, e);
    if (r == 0 && !fresh)
        r = vcpu_set_x(v, 0, MEM_BASE + TOUCH_AT + TOUCH_LIST, e);
    if (r == 0 && !fresh)
        r = vcpu_set_x(v, 9, VCPU_TOUCHED, e);
    if (r == 0 && !fresh)
        r = vcpu_set_x(v, 31, MEM_BASE + TOUCH_AT, e);
    return r;
}

static void finish(struct vm *vm)
{
    struct prepared *p = vm->prepared;
    if (!vm->primed) /* the GIC cannot be reached while a vCPU runs */
        gic_prime(vm);
    p->ready = true;
    p->done(vm, p->ctx);
}

/* The first vCPU has parked again. */
static void on_kick(void *ctx)
{
    struct vm *vm = ctx;
    struct err e = ERR_INIT;
    pthread_mutex_lock(&vm->lock);
    bool done = !vm->touching && vm->nparked == vm->nvcpus && !vm->end.reason;
    pthread_mutex_unlock(&vm->lock);
    if (!done)
        return;
    vm->on_kick = NULL;
    madvise(vm->mem.host + TOUCH_AT, align_up(TOUCH_SIZE, SNAP_PAGE), MADV_DONTNEED);
    if (set_registers(vm, true, &e) < 0)
        vm_end(vm, CTL_EXIT_ERROR, -1, "%s", e.msg);
    else
        finish(vm);
}

static int start_touching(struct vm *vm, const struct workset *w, struct err *e)
{
    write_list(vm, w);
    int r = set_registers(vm, false, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&vm->lock);
    vm->go = vm->touching = true;
    pthread_mutex_unlock(&vm->lock);
    vm_wake(vm);
    return 0;
}

int machine_first_fault(struct vm *vm, struct err *e)
{
    const struct workset none = {.nruns = 0};
    int r = vm_map_anonymous(vm, MEM_MIN, e);
    if (r == 0)
        r = vm_set_memslot(vm, e);
    if (r == 0)
        r = start_touching(vm, &none, e);
    if (r < 0)
        return r;
    /* There is no device yet for which the vCPU could wait for this thread. */
    pthread_mutex_lock(&vm->lock);
    while (vm->touching || vm->nparked < vm->nvcpus)
        pthread_cond_wait(&vm->parked, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
    void *p = vm->mem.host;
    vm->mem = (struct guest_mem){.size = 0};
    r = vm_set_memslot(vm, e);
    munmap(p, MEM_MIN);
    return r < 0 ? r : set_registers(vm, true, e);
}

static int prepare(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                   struct err *e)
{
    struct prepared *p = vm->prepared;
    AUTO_FREE uint8_t *space = NULL;
    struct workset w;
    int r = snap_open(&p->image, fds->snapshots[0], vm->scratch[0], e);
    if (r == 0)
        r = machine_check_image(vm, m, &p->image.info, e);
    /* KVM lets some registers be set only before a vCPU has run. */
    if (r == 0 && vm->regs.facts.fingerprint != p->image.info.fingerprint)
        r = err_set(e, ENOTSUP, "the image was made with other CPU features or another kernel");
    if (r == 0)
        r = memory_map(&p->image, fds->snapshots[0], fds->layer, vm->place, &vm->mem.host, e);
    if (r < 0)
        return r;
    vm->mem.size = p->image.info.mem_bytes;
    vm->mem.image = true;
    r = vm_set_memslot(vm, e);
    if (r < 0)
        return r;
    vm->image_fd = take_fd(&fds->snapshots[0]);
    vm->layer_fd = take_fd(&fds->layer);
    if (fds->workset < 0) {
        finish(vm);
        return 0;
    }
    r = workset_read(fds->workset, &p->image.info, &space, &w, e);
    if (r < 0)
        return r;
    workset_populate(&w, vm->mem.host, false);
    vm->on_kick = on_kick;
    vm->kick_ctx = vm;
    return start_touching(vm, &w, e);
}

int machine_prepare(struct vm *vm, const struct ctl_machine *m, struct machine_fds *fds,
                    void (*done)(struct vm *vm, void *ctx), void *ctx, struct err *e)
{
    int r = machine_check(m, e);
    if (r < 0)
        return r;
    if (vm->prepared)
        return err_set(e, EBUSY, "this VMM is prepared already");
    vm->prepared = calloc(1, sizeof *vm->prepared);
    if (!vm->prepared)
        return err_sys(e, ENOMEM, "prepare an image's memory");
    vm->prepared->done = done;
    vm->prepared->ctx = ctx;
    return prepare(vm, m, fds, e);
}

int machine_workset(struct vm *vm, int fd, struct err *e)
{
    if (vm->image_fd < 0 || vm->pagemap_fd < 0)
        return err_set(e, EINVAL, "only a machine restored from an image has a working set");
    return workset_write(fd, vm->image_fd, vm->pagemap_fd, vm->mem.host, vm->mem.size, e);
}
