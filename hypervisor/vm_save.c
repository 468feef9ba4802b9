// SPDX-License-Identifier: Apache-2.0
/*
 * Writing a paused machine to a snapshot file; see machine.h. A difference is
 * always against the image layer: pages of an older session count as changed.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "../snapshot/devstate.h"
#include "../snapshot/freemap.h"
#include "../snapshot/memscan.h"
#include "../snapshot/snapbase.h"
#include "../snapshot/snapstate.h"
#include "arm64_gic.h"
#include "base/mem.h"
#include "machine.h"

static void add_dev_list(struct vm *vm, struct dstate_writer *w)
{
    uint8_t list[VM_DEVS_MAX * 8];
    size_t n = 0;
    for (unsigned i = 0; i < vm->ndevs; i++) {
        if (!vm->devs[i]->ops->save)
            continue;
        put_le32(list + n, vm->devs[i]->ops->tag);
        put_le32(list + n + 4, vm->devs[i]->instance);
        n += 8;
    }
    dw_bytes(w, SNAP_MACHINE_DEVS, list, n);
}

static int save_state(struct vm *vm, struct dstate_writer *w, struct err *e)
{
    int r = 0;
    dw_begin(w, SNAP_TAG_MACHINE, 1, 0);
    dw_u64(w, SNAP_MACHINE_COUNTER, vm->counter);
    add_dev_list(vm, w);
    dw_end(w);
    for (unsigned i = 0; i < vm->nvcpus && r == 0; i++) {
        dw_begin(w, SNAP_TAG_VCPU, 1, (uint16_t)i);
        r = regs_save(&vm->regs, &vm->vcpus[i], w, e);
        dw_end(w);
    }
    if (r == 0) {
        dw_begin(w, SNAP_TAG_GIC, 1, 0);
        r = gic_save(vm, w, e);
        dw_end(w);
    }
    for (unsigned i = 0; i < vm->ndevs && r == 0; i++) {
        struct dev *d = vm->devs[i];
        if (!d->ops->save)
            continue;
        dw_begin(w, d->ops->tag, 1, (uint16_t)d->instance);
        r = d->ops->save(d, w, e);
        dw_end(w);
        if (r < 0)
            err_wrap(e, "save %s", d->ops->name);
    }
    if (r == 0 && (w->b.bad || w->b.len > SNAP_STATE_MAX))
        r = err_set(e, E2BIG, "the device state does not fit");
    return r;
}

/* Pages that may have to be stored: written ones, those mapped from other files than the
 * image, and for a whole snapshot of a restored machine those of the image. None that are free.
 */
static int find_candidates(struct vm *vm, const struct snap_base *base, bool full,
                           uint64_t *candidates, uint64_t *ret_free, struct err *e)
{
    int r = memscan_anonymous(vm->pagemap_fd, vm->mem.host, vm->mem.size, candidates, e);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < vm->mem.noverlays; i++) {
        const struct mem_overlay *o = &vm->mem.overlays[i];
        snap_mark(candidates, o->off, o->len);
    }
    if (full)
        snap_base_mark(base, candidates);
    *ret_free =
        freemap_clear(vm->mem.host, vm->mem.size, MEM_BASE, MEM_SYSTEM_SIZE, candidates);
    return 0;
}

static void fill_info(struct vm *vm, struct snap_info *info)
{
    const struct host_facts *facts = &vm->regs.facts;
    info->mem_base = MEM_BASE;
    info->mem_bytes = vm->mem.size;
    info->vcpus = vm->nvcpus;
    info->gic = vm->gic;
    info->midr = facts->midr;
    info->cntfrq = facts->cntfrq;
    info->fingerprint = facts->fingerprint;
}

int machine_save_layer(struct vm *vm, int fd, const struct ctl_layer *order, struct err *e)
{
    struct layer_info l = {.kernel = order->kernel, .midr = vm->regs.facts.midr};
    if (vm->state != VM_PAUSED)
        return err_set(e, EBUSY, "only a paused machine can be saved");
    l.is.off = order->gpa - MEM_BASE;
    l.is.len = order->len;
    if (order->gpa < MEM_BASE || !snap_layer_ok(&l.is, vm->mem.size))
        return err_set(e, EINVAL, "a layer of %llu bytes at 0x%llx is not in memory",
                       (unsigned long long)order->len, (unsigned long long)order->gpa);
    return layer_write(&snap_io_host, fd, &l, vm->mem.host, e);
}

int machine_save(struct vm *vm, int fd, bool full, int layer_fd, struct ctl_saved *ret,
                 struct err *e)
{
    struct dstate_writer w = {.b = BUF_INIT};
    struct snap_base base = {.file = SNAP_FILE_INIT};
    struct snap_lower lower = {.map = NULL};
    struct snap_info info = {.flags = full ? SNAP_FULL : 0};
    struct snap_result result = {0};
    AUTO_FREE uint64_t *candidates = NULL;
    uint64_t pages_free = 0;
    int r = 0;
    if (vm->state != VM_PAUSED)
        return err_set(e, EBUSY, "only a paused machine can be saved");
    if (!full && vm->image_fd < 0) {
        err_set(e, EINVAL, "a machine that was booted has no image to differ from");
        return err_hint(e, "save it whole");
    }
    if (vm->pagemap_fd < 0)
        return err_set(e, ENOTSUP, "/proc/self/pagemap could not be opened at the start");
    fill_info(vm, &info);
    if (getrandom(info.id, sizeof info.id, 0) != sizeof info.id)
        return err_sys(e, errno, "make a snapshot id");
    if (!full)
        memcpy(info.parent, vm->image_id, SNAP_ID);
    candidates = snap_bitmap_new(vm->mem.size);
    if (!candidates)
        r = err_sys(e, ENOMEM, "list the pages to save");
    if (r == 0 && vm->image_fd >= 0)
        r = snap_base_open(&base, vm->image_fd, vm->layer_fd, vm->image_id, vm->mem.size, e);
    if (r == 0 && layer_fd >= 0)
        r = full ? snap_lower_open(&lower, layer_fd, vm->mem.size, e)
                 : err_set(e, EINVAL, "a difference is not saved over a memory layer");
    if (r == 0 && lower.map) {
        info.flags |= SNAP_LAYERED;
        info.layer = lower.info.is;
        snap_mark(candidates, info.layer.off, info.layer.len);
    }
    if (r == 0)
        r = save_state(vm, &w, e);
    if (r == 0)
        r = find_candidates(vm, &base, full, candidates, &pages_free, e);
    struct snap_source src = {.mem = vm->mem.host,
                              .candidates = candidates,
                              .base = full ? NULL : base.map,
                              .base_stored = full ? NULL : base.stored,
                              .deltas = true,
                              .layer = lower.map};
    if (r == 0)
        r = snap_write(fd, &info, w.b.data, w.b.len, &src, &result, e);
    if (r == 0) {
        *ret = (struct ctl_saved){.file_bytes = info.file_len,
                                  .pages_stored = info.pages_stored + result.pages_delta,
                                  .pages_zero = info.pages_zero,
                                  .pages_same = result.pages_same,
                                  .layer_same = result.layer_same,
                                  .layer_other = result.layer_other,
                                  .pages_free = pages_free,
                                  .pause_ns = vm_now_ns() - vm->paused_at_ns};
        memcpy(ret->id, info.id, SNAP_ID);
    }
    snap_base_close(&base);
    snap_lower_close(&lower);
    buf_free(&w.b);
    return r;
}
