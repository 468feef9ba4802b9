// SPDX-License-Identifier: Apache-2.0
/*
 * The layers of a session's disk: over those of the image up to DISK_FROZEN_MAX
 * frozen ones, which checkpoints and forks share, and the one it writes to. The
 * store counts who has a layer; a file goes when nobody has it any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "cpfiles.h"
#include "fleet_priv.h"

#define COLLECT 16u /* layers forgotten in one go */

uint64_t fleet_allocated(int dir, const char *path)
{
    struct stat st;
    return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

void disk_close(struct open_disk *l)
{
    for (unsigned i = 0; i < l->n; i++)
        close(l->fd[i]);
    l->n = 0;
}

int disk_open(struct fleet *f, const struct store_disk *d, struct open_disk *ret, struct err *e)
{
    ret->n = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        int fd = openat(f->disks_dir, d->layers[i], O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            int num = errno;
            disk_close(ret);
            return err_sys(e, num, "open a layer of the microVM's disk");
        }
        ret->fd[ret->n++] = fd;
    }
    return 0;
}

int vm_disk_layers(struct fvm *vm, struct open_disk *ret, struct err *e)
{
    for (;;) {
        pthread_mutex_lock(&vm->lock);
        struct store_disk d = vm->disk;
        pthread_mutex_unlock(&vm->lock);
        int r = disk_open(vm->f, &d, ret, e);
        if (r != -ENOENT)
            return r;
        /* Files go after the chain was changed, so when one is not there it was, or never will
         * be. */
        pthread_mutex_lock(&vm->lock);
        bool same = d.n == vm->disk.n;
        pthread_mutex_unlock(&vm->lock);
        if (same)
            return r;
    }
}

bool disk_there(struct fleet *f, const struct store_disk *d)
{
    AUTO(disk_close) struct open_disk l;
    return disk_open(f, d, &l, NULL) == 0;
}

int vm_disk_open(const struct fvm *vm, struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, vm->disk.serial);
    int fd = openat(vm->dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "open the microVM's disk") : fd;
}

int disk_switch(struct fvm *vm, const struct open_disk *l, int top, struct err *e)
{
    const struct image *img = vm->image;
    int fds[CTL_LAYERS_MAX];
    uint32_t n = 0;
    fds[n++] = img->base;
    fds[n++] = img->disk;
    fds[n++] = img->boot;
    for (unsigned i = 0; i < l->n; i++)
        fds[n++] = l->fd[i];
    fds[n++] = top;
    const struct ctl_disk_order order = {.disk = 0, .nlayers = n};
    return vmm_call(vm->vmm, CTL_DISK, &order, sizeof order, fds, n,
                    deadline_ms(RESTORE_LIMIT_MS), NULL, e);
}

void disk_collect(struct fleet *f)
{
    char ids[COLLECT][LAYER_CAP];
    struct err e = ERR_INIT;
    size_t n = COLLECT;
    while (n == COLLECT) {
        if (store_layers_unused(f->store, ids, COLLECT, &n, &e) < 0) {
            log_err(LOG_WARN, &e, "remove disk layers nobody has"); /* the next start does */
            return;
        }
        for (size_t i = 0; i < n; i++)
            cpfiles_remove(&snap_io_host, f->disks_dir, ids[i]);
    }
}

/* ---- the end ---- */

static void remove_memory(void *ctx, const char *id)
{
    const struct fleet *f = ctx;
    const char *uuid = strchr(id, '-');
    if (uuid) /* checkpoint-<uuid> */
        cpfiles_remove(&snap_io_host, f->checkpoints_dir, uuid + 1);
}

struct ids {
    char (*v)[LAYER_CAP];
    size_t n, cap;
    bool bad;
};

static void add_id(void *ctx, const char *id)
{
    struct ids *l = ctx;
    const char *uuid = strncmp(id, "checkpoint-", 11) == 0 ? id + 11
                       : strncmp(id, "fork-", 5) == 0      ? id + 5
                                                           : id;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        char(*v)[LAYER_CAP] = reallocarray(l->v, cap, sizeof *v);
        if (!v) {
            l->bad = true;
            return;
        }
        l->v = v;
        l->cap = cap;
    }
    snprintf(l->v[l->n++], LAYER_CAP, "%s", uuid);
}

static bool known(void *ctx, const char *name)
{
    const struct ids *l = ctx;
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->v[i], name) == 0)
            return true;
    }
    return false;
}

/* Files without a row. */
static unsigned clean_files(struct fleet *f, bool layers)
{
    struct ids l = {.v = NULL};
    struct err e = ERR_INIT;
    unsigned n = 0;
    if (store_checkpoint_ids(f->store, layers, add_id, &l, &e) < 0 || l.bad)
        log_err(LOG_WARN, &e, "list checkpoints and layers");
    else
        n = cpfiles_clean(&snap_io_host, layers ? f->disks_dir : f->checkpoints_dir, known, &l);
    free(l.v);
    return n;
}

void checkpoints_end(struct fleet *f, const char *vm_id, bool keep)
{
    struct err e = ERR_INIT;
    struct store_disk d;
    uint64_t count = 0, bytes = 0;
    int r = store_disk_get(f->store, vm_id, &d, &e);
    if (r == 0 && !keep)
        r = store_checkpoint_sum(f->store, vm_id, &count, &bytes, &e);
    if (r == 0 && count == 0 && d.n == 0 && d.serial == 0)
        return; /* most have neither, and are spared the write */
    if (r == 0)
        r = keep ? store_disk_drop(f->store, vm_id, &e)
                 : store_checkpoint_drop(f->store, vm_id, remove_memory, f, &e);
    if (r < 0)
        log_err(LOG_WARN, &e, "forget checkpoints");
    disk_collect(f);
}

void checkpoints_forget(struct fleet *f)
{
    struct err e = ERR_INIT;
    pthread_mutex_lock(&f->ended_lock);
    if (store_checkpoint_drop(f->store, NULL, remove_memory, f, &e) < 0)
        log_err(LOG_WARN, &e, "forget checkpoints");
    disk_collect(f);
    pthread_mutex_unlock(&f->ended_lock);
}

unsigned checkpoints_clean(struct fleet *f)
{
    checkpoints_forget(f);
    return clean_files(f, false) + clean_files(f, true);
}
