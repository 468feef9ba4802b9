// SPDX-License-Identifier: Apache-2.0
/* Checkpoints; see fleet_checkpoint.h. */
#include "fleet_checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "cpfiles.h"
#include "fleet_take.h"

#define ALL_MAX 4096u /* checkpoints on one host */

static struct fvm *find(struct fleet *f, const char *vm_id, struct err *e)
{
    struct fvm *vm = fleet_vm_find(f, vm_id);
    if (!vm)
        err_set(e, EINVAL, "MicroVM %s has ended", vm_id);
    return vm;
}

/* ---- limits ---- */

/* `more`: bytes that would come to what is there. */
static int check_limits(struct fleet *f, const char *vm, uint64_t more, struct err *e)
{
    const struct checkpoint_limits *l = &f->c.checkpoints;
    uint64_t own, own_bytes, all, all_bytes;
    int r = store_checkpoint_sum(f->store, vm, &own, &own_bytes, e);
    if (r == 0)
        r = store_checkpoint_sum(f->store, NULL, &all, &all_bytes, e);
    if (r < 0)
        return r;
    if (own >= l->per_vm)
        return err_set(e, EDQUOT,
                       "The limit of %u checkpoints of a microVM has been reached; delete one",
                       l->per_vm);
    if (own_bytes + more >= l->vm_bytes)
        return err_set(e, EDQUOT,
                       "The checkpoints of the microVM would take more than %llu MiB; delete "
                       "some",
                       (unsigned long long)(l->vm_bytes >> 20));
    if (all >= ALL_MAX || all_bytes + more >= l->all_bytes)
        return err_set(e, EDQUOT,
                       "All checkpoints together would be more than %u or take more than %llu "
                       "MiB; delete some",
                       ALL_MAX, (unsigned long long)(l->all_bytes >> 20));
    return 0;
}

static int check_name(struct fleet *f, const struct store_checkpoint *c, struct err *e)
{
    AUTO(store_checkpoint_free) struct store_checkpoint other = {.tags = NULL};
    if (!c->name[0])
        return 0;
    int r = store_checkpoint_find(f->store, c->vm, c->name, &other, e);
    if (r == -ENOENT)
        return 0;
    return r < 0 ? r
                 : err_set(e, EEXIST, "MicroVM %s already has a checkpoint named %s", c->vm,
                           c->name);
}

/* ---- taking one ---- */

static const char *uuid_of(const struct store_checkpoint *c)
{
    return c->id + strlen("checkpoint-");
}

static int commit(struct fleet *f, const struct take *t, const struct store_checkpoint *c,
                  struct err *e)
{
    struct store_disk d = t->disk;
    d.serial = 0;
    int r = store_begin(f->store, e);
    if (r < 0)
        return r;
    if (!t->running)
        r = take_rows(f, t, e);
    if (r == 0)
        r = store_checkpoint_add(f->store, c, &d, e);
    if (r == 0)
        return store_commit(f->store, e);
    store_rollback(f->store);
    return r;
}

/* The memory of a running one is made durable while it runs on. */
static int of_running(struct fleet *f, struct take *t, struct store_checkpoint *c,
                      struct err *e)
{
    const char *id = uuid_of(c);
    AUTO_CLOSE int mem = -1;
    int r = cpfiles_memory(&snap_io_host, f->checkpoints_dir, id, &mem, e);
    if (r < 0) {
        take_undo(f, t);
        return r;
    }
    r = take_machine(f, t, mem, e);
    if (r < 0) {
        cpfiles_drop(&snap_io_host, f->checkpoints_dir, id);
        return r;
    }
    r = cpfiles_publish(&snap_io_host, f->seal, f->checkpoints_dir, id, mem, &c->memory_bytes,
                        e);
    if (r < 0)
        return r;
    c->disk_bytes = t->layer_bytes;
    r = check_limits(f, c->vm, c->memory_bytes + c->disk_bytes, e);
    if (r == 0)
        r = commit(f, t, c, e);
    if (r < 0)
        cpfiles_remove(&snap_io_host, f->checkpoints_dir, id);
    return r;
}

static int of_suspended(struct fleet *f, struct take *t, struct store_checkpoint *c,
                        struct err *e)
{
    struct fvm *vm = t->vm;
    char name[SNAPFILES_NAME];
    struct stat st;
    snapfiles_name(name, vm->row.generation);
    int r = cpfiles_share(&snap_io_host, vm->dir, name, f->checkpoints_dir, uuid_of(c), e);
    if (r == 0 && fstatat(f->checkpoints_dir, uuid_of(c), &st, AT_SYMLINK_NOFOLLOW) == 0)
        c->memory_bytes = (uint64_t)st.st_blocks * 512;
    c->disk_bytes = t->layer_bytes;
    if (r == 0)
        r = check_limits(f, c->vm, c->memory_bytes + c->disk_bytes, e);
    if (r == 0)
        r = commit(f, t, c, e);
    if (r == 0) {
        take_kept(f, t);
    } else {
        cpfiles_remove(&snap_io_host, f->checkpoints_dir, uuid_of(c));
        take_undo(f, t);
    }
    return r;
}

static void tell(const struct take *t, const struct store_checkpoint *c)
{
    log_info("%s checkpoint %s in %.2f ms (stood still %.2f, saved in %.2f), %.1f MiB of "
             "memory, %.1f MiB of disk, %u layers",
             c->vm, c->id, (double)(now_ns() - t->begin) / 1e6,
             (double)(t->thawed - t->frozen) / 1e6, (double)t->saved.pause_ns / 1e6,
             (double)c->memory_bytes / 1048576, (double)c->disk_bytes / 1048576, t->disk.n);
}

static int checkpoint(struct fleet *f, struct fvm *vm, bool running, struct store_checkpoint *c,
                      struct err *e)
{
    struct take t;
    int r = check_limits(f, c->vm, 0, e);
    if (r == 0)
        r = check_name(f, c, e);
    if (r == 0)
        r = take_prepare(f, vm, e);
    if (r < 0)
        return r;
    vm_settle(vm);
    take_init(&t, vm, running);
    c->created_at = realtime_s();
    c->generation = vm->row.generation;
    r = take_begin(f, &t, e);
    if (r == 0)
        r = running ? of_running(f, &t, c, e) : of_suspended(f, &t, c, e);
    if (!running)
        vm_close_dir(vm);
    if (r == 0) {
        tell(&t, c);
        flatten_want(f, vm);
    }
    return r;
}

int fleet_checkpoint(struct fleet *f, struct store_checkpoint *c, struct err *e)
{
    bool running;
    struct fvm *vm = find(f, c->vm, e);
    if (!vm)
        return -EINVAL;
    int r = take_hold(vm, "checkpointed", &running, e);
    if (r == 0) {
        r = checkpoint(f, vm, running, c, e);
        fleet_end(vm);
    }
    fleet_vm_put(f, vm);
    return r;
}

/* ---- deleting one ---- */

static int delete_one(struct fleet *f, const char *vm_id, const char *which, struct err *e)
{
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    int r = store_checkpoint_find(f->store, vm_id, which, &c, e);
    if (r == 0)
        r = store_checkpoint_delete(f->store, c.id, e);
    if (r == 0) {
        cpfiles_remove(&snap_io_host, f->checkpoints_dir, uuid_of(&c));
        disk_collect(f);
    }
    return r;
}

/* Nobody reads its files meanwhile. */
int fleet_checkpoint_delete(struct fleet *f, const char *vm_id, const char *which,
                            struct err *e)
{
    bool running, held = false;
    struct fvm *vm = fleet_vm_find(f, vm_id);
    int r = 0;
    if (vm && !(held = take_hold(vm, "changed", &running, e) == 0) && !take_ended(vm))
        r = -EINVAL;
    if (r == 0 && held) {
        r = delete_one(f, vm_id, which, e);
        fleet_end(vm);
    } else if (r == 0) {
        pthread_mutex_lock(&f->ended_lock);
        r = delete_one(f, vm_id, which, e);
        pthread_mutex_unlock(&f->ended_lock);
    }
    if (vm)
        fleet_vm_put(f, vm);
    return r;
}
