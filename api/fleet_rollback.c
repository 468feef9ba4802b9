// SPDX-License-Identifier: Apache-2.0
/*
 * The way back to a checkpoint; see fleet_checkpoint.h. One transaction makes
 * of the microVM a suspended session with the checkpoint's memory and disk,
 * while a machine may still run; then that machine goes, and the session is
 * resumed as any other. So whenever the host fails, it is the one or the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "cpfiles.h"
#include "fleet_checkpoint.h"
#include "fleet_take.h"

struct back {
    struct store_vm row;
    struct store_disk disk;
};

/* Files of the session it will be; the old ones stay untouched. */
static int make_files(struct fleet *f, struct fvm *vm, const struct store_checkpoint *c,
                      const struct back *b, struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_name(name, b->row.generation);
    int r = cpfiles_top(&snap_io_host, vm->dir, b->disk.serial, vm->image->disk_bytes, true,
                        NULL, e);
    /* Its sync of the directory covers both names. */
    if (r == 0)
        r = cpfiles_share(&snap_io_host, f->checkpoints_dir, c->id + strlen("checkpoint-"),
                          vm->dir, name, e);
    if (r == 0 && vm->new_dir && fsync(f->vms_dir) < 0)
        r = err_sys(e, errno, "make the session's directory durable");
    return r;
}

static void drop_files(struct fvm *vm, const struct back *b)
{
    char name[SNAPFILES_NAME];
    snapfiles_name(name, b->row.generation);
    snap_io_host.unlink(NULL, vm->dir, name, false);
    snapfiles_disk(name, b->disk.serial);
    snap_io_host.unlink(NULL, vm->dir, name, false);
}

static int commit(struct fleet *f, const struct back *b, struct err *e)
{
    int r = store_begin(f->store, e);
    if (r < 0)
        return r;
    r = store_vm_set(f->store, &b->row, NULL, e);
    if (r == 0)
        r = store_disk_set(f->store, b->row.id, &b->disk, e);
    if (r == 0)
        return store_commit(f->store, e);
    store_rollback(f->store);
    return r;
}

static int go_back(struct fleet *f, struct fvm *vm, const char *which, struct err *e)
{
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    struct back b = {.row = vm->row}; /* its strings are not written */
    int r = store_checkpoint_find(f->store, vm->row.id, which, &c, e);
    if (r == 0)
        r = take_prepare(f, vm, e);
    if (r == 0)
        r = store_disk_get(f->store, c.id, &b.disk, e);
    if (r < 0)
        return r;
    vm_settle(vm);
    b.disk.serial = vm->disk.serial + 1;
    b.row.generation = MAX(vm->row.generation, c.generation) + 1;
    b.row.suspended_at = realtime_s();
    snprintf(b.row.state, sizeof b.row.state, "%s", fsm_name(VM_SUSPENDED));
    r = make_files(f, vm, &c, &b, e);
    if (r == 0)
        r = commit(f, &b, e);
    if (r < 0) {
        drop_files(vm, &b);
        return r;
    }
    vm->row = b.row;
    vm->disk = b.disk;
    vm->new_dir = false;
    vm->cut = true;
    return 0;
}

/* The machine of the time that did not happen, and its files. */
static void end_machine(struct fleet *f, struct fvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    struct vmm *v = vm->vmm;
    vm->vmm = NULL; /* it stays admitted: the next one comes at once */
    pthread_mutex_unlock(&vm->lock);
    if (v)
        table_end(f, v->slot);
    vmm_free(v);
    fleet_cut(vm);
    snapfiles_clean(&snap_io_host, vm->dir, vm->disk.serial, vm->row.generation);
    disk_collect(f);
}

static int rollback(struct fleet *f, struct fvm *vm, const char *which, struct err *e)
{
    bool ran = vm->vmm != NULL;
    uint64_t begin = now_ns();
    int r = go_back(f, vm, which, e);
    if (r < 0) {
        if (!ran)
            vm_close_dir(vm);
        fleet_step(vm, ran ? EV_RESUMED : EV_ROLLED_BACK);
        return r;
    }
    uint64_t committed = now_ns();
    end_machine(f, vm);
    uint64_t ended = now_ns();
    if (ran) {
        r = vm_resume(f, vm, true, e);
        if (r < 0)
            err_wrap(e, "it was rolled back, but could not be resumed");
    } else {
        vm_close_dir(vm);
        fleet_step(vm, EV_ROLLED_BACK);
    }
    log_info("%s rolled back to %s in %.2f ms (files and row %.2f, old machine %.2f)",
             vm->row.id, which, (double)(now_ns() - begin) / 1e6,
             (double)(committed - begin) / 1e6, (double)(ended - committed) / 1e6);
    return r;
}

int fleet_rollback(struct fleet *f, const char *vm_id, const char *which, struct err *e)
{
    struct fvm *vm = fleet_vm_find(f, vm_id);
    if (!vm)
        return err_set(e, EINVAL, "MicroVM %s has ended", vm_id);
    int r = fleet_begin(vm, EV_ROLLBACK, e);
    if (r == 0) {
        r = rollback(f, vm, which, e);
        fleet_end(vm);
    }
    fleet_vm_put(f, vm);
    return r;
}
