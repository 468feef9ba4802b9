// SPDX-License-Identifier: Apache-2.0
/*
 * Forks; see fleet_checkpoint.h. Children begin as sessions over one memory
 * file, which they only map and read, and over their parent's frozen disk
 * layers. All are admitted before the parent is touched; their rows come in one
 * transaction; then each starts on its own, as after RunMicrovm. The file stays
 * until all have started, so that a restart of the host can start them again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "cpfiles.h"
#include "fleet_checkpoint.h"
#include "fleet_take.h"

struct forking {
    struct fleet *f;
    const struct fleet_fork *ask;
    struct fvm *parent;
    bool running;
    struct fvm **children;
    size_t n;
    struct fork_source *source;
    struct store_disk disk; /* the children's */
    char checkpoint[ID_CAP];
    uint64_t generation;
};

/* ---- sources ---- */

static struct fork_source *source_new(struct fleet *f, const char *fork)
{
    struct fork_source *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->refs = 1;
    s->mem = -1;
    snprintf(s->file, sizeof s->file, "%s", fork + strlen("fork-"));
    pthread_mutex_lock(&f->lock);
    s->next = f->sources;
    f->sources = s;
    pthread_mutex_unlock(&f->lock);
    return s;
}

void fork_source_put(struct fleet *f, struct fork_source *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&f->lock);
    bool last = --s->refs == 0;
    struct fork_source **at = &f->sources;
    while (last && *at != s)
        at = &(*at)->next;
    if (last)
        *at = s->next;
    pthread_mutex_unlock(&f->lock);
    if (!last)
        return;
    cpfiles_remove(&snap_io_host, f->checkpoints_dir, s->file);
    if (s->mem >= 0)
        close(s->mem);
    for (unsigned i = 0; i < s->nlayers; i++)
        close(s->layers[i]);
    free(s);
}

/* Its memory file is there; all of it that children need, open. */
static int source_open(struct fleet *f, struct fork_source *s, const struct store_disk *d,
                       struct err *e)
{
    struct open_disk l;
    s->mem = openat(f->checkpoints_dir, s->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (s->mem < 0)
        return err_sys(e, errno, "open the memory of the microVM");
    if (f->seal && seal_check(f->seal, s->mem, e) < 0)
        return -e->num;
    int r = disk_open(f, d, &l, e);
    if (r < 0)
        return r;
    memcpy(s->layers, l.fd, sizeof l.fd);
    s->nlayers = l.n;
    return 0;
}

int fork_source_again(struct fleet *f, struct fvm *vm, struct err *e)
{
    struct store_lineage l;
    int r = store_lineage_get(f->store, vm->row.id, &l, NULL);
    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = store_disk_get(f->store, vm->row.id, &vm->disk, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&f->lock);
    struct fork_source *s = f->sources;
    while (s && strcmp(s->file, l.fork + strlen("fork-")) != 0)
        s = s->next;
    if (s)
        s->refs++;
    pthread_mutex_unlock(&f->lock);
    if (s) {
        vm->source = s;
        return 1;
    }
    vm->source = source_new(f, l.fork);
    if (!vm->source)
        return err_sys(e, ENOMEM, "start a fork again");
    r = source_open(f, vm->source, &vm->disk, e);
    return r < 0 ? r : 1;
}

/* ---- the children, as long as nobody knows them ---- */

static int make_child(struct forking *k, struct store_vm *row, struct err *e)
{
    struct image *img = NULL;
    int r = image_get(k->f, row->image, row->major, &img, e);
    if (r < 0)
        return r;
    struct fvm *vm = fleet_vm_new(k->f, row);
    if (!vm) {
        image_put(k->f, img);
        return err_set(e, ENOSPC, "no capacity: neither memory nor an address for one more");
    }
    vm->image = img;
    vm->busy = true;
    k->children[k->n++] = vm;
    return fleet_admit_or_make_room(k->f, vm, true, e);
}

static void drop_children(struct forking *k)
{
    for (size_t i = 0; i < k->n; i++) {
        fleet_unadmit(k->f, k->children[i]);
        fleet_vm_forget(k->f, k->children[i]);
        fleet_vm_put(k->f, k->children[i]);
    }
    k->n = 0;
}

static int child_rows(struct forking *k, size_t i, struct err *e)
{
    struct fvm *vm = k->children[i];
    struct store_lineage l = {.number = (uint32_t)i + 1};
    vm->row.generation = k->generation;
    snprintf(l.vm, sizeof l.vm, "%s", vm->row.id);
    snprintf(l.parent, sizeof l.parent, "%s", k->ask->parent);
    snprintf(l.checkpoint, sizeof l.checkpoint, "%s", k->checkpoint);
    snprintf(l.fork, sizeof l.fork, "%s", k->ask->id);
    int r = store_vm_add(k->f->store, &vm->row, e);
    if (r == 0 && k->disk.n)
        r = store_disk_set(k->f->store, vm->row.id, &k->disk, e);
    if (r == 0)
        r = store_lineage_add(k->f->store, &l, e);
    return r;
}

/* t: rows of a suspended parent, which become true with the children's; may be NULL. */
static int commit(struct forking *k, const struct take *t, struct err *e)
{
    int r = store_begin(k->f->store, e);
    if (r < 0)
        return r;
    if (t)
        r = take_rows(k->f, t, e);
    for (size_t i = 0; i < k->n && r == 0; i++)
        r = child_rows(k, i, e);
    if (r == 0 && k->ask->also && k->ask->also(k->ask->ctx) < 0)
        r = err_set(e, ECANCELED, "not wanted any more");
    if (r == 0)
        return store_commit(k->f->store, e);
    store_rollback(k->f->store);
    return r;
}

static void start_children(struct forking *k)
{
    struct fleet *f = k->f;
    pthread_mutex_lock(&f->lock);
    k->source->refs += (unsigned)k->n;
    pthread_mutex_unlock(&f->lock);
    for (size_t i = 0; i < k->n; i++) {
        k->children[i]->disk = k->disk;
        k->children[i]->source = k->source;
        job_push(f, JOB_START, k->children[i], NULL, 0); /* takes our reference */
    }
    k->n = 0;
}

/* ---- what they begin with ---- */

static int open_source(struct forking *k, const struct store_disk *d, struct err *e)
{
    k->disk = *d;
    k->disk.serial = 0;
    return source_open(k->f, k->source, d, e);
}

static int from_checkpoint(struct forking *k, struct err *e)
{
    AUTO(store_checkpoint_free) struct store_checkpoint c = {.tags = NULL};
    struct store_disk d;
    int dir = k->f->checkpoints_dir;
    int r = store_checkpoint_find(k->f->store, k->ask->parent, k->ask->which, &c, e);
    if (r == 0)
        r = store_disk_get(k->f->store, c.id, &d, e);
    if (r == 0)
        r = cpfiles_share(&snap_io_host, dir, c.id + strlen("checkpoint-"), dir,
                          k->source->file, e);
    if (r == 0)
        r = open_source(k, &d, e);
    if (r < 0)
        return r;
    memcpy(k->checkpoint, c.id, sizeof k->checkpoint);
    k->generation = k->parent ? MAX(c.generation, k->parent->row.generation) : c.generation;
    return commit(k, NULL, e);
}

static int from_running(struct forking *k, struct take *t, struct err *e)
{
    int dir = k->f->checkpoints_dir;
    const char *file = k->source->file;
    uint64_t bytes;
    AUTO_CLOSE int mem = -1;
    int r = cpfiles_memory(&snap_io_host, dir, file, &mem, e);
    if (r < 0) {
        take_undo(k->f, t);
        return r;
    }
    if ((r = take_machine(k->f, t, mem, e)) < 0) {
        cpfiles_drop(&snap_io_host, dir, file);
        return r;
    }
    r = cpfiles_publish(&snap_io_host, k->f->seal, dir, file, mem, &bytes, e);
    if (r == 0)
        r = open_source(k, &t->disk, e);
    return r == 0 ? commit(k, NULL, e) : r;
}

static int from_suspended(struct forking *k, struct take *t, struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_name(name, k->parent->row.generation);
    int r = cpfiles_share(&snap_io_host, k->parent->dir, name, k->f->checkpoints_dir,
                          k->source->file, e);
    if (r == 0)
        r = open_source(k, &t->disk, e);
    if (r == 0)
        r = commit(k, t, e);
    if (r == 0)
        take_kept(k->f, t);
    else
        take_undo(k->f, t);
    return r;
}

static int from_now(struct forking *k, struct err *e)
{
    struct take t;
    vm_settle(k->parent);
    take_init(&t, k->parent, k->running);
    k->generation = k->parent->row.generation;
    int r = take_begin(k->f, &t, e);
    if (r == 0)
        r = k->running ? from_running(k, &t, e) : from_suspended(k, &t, e);
    if (r < 0)
        return r;
    flatten_want(k->f, k->parent);
    log_info("%s forked into %zu in %.2f ms (stood still %.2f, saved in %.2f), %.1f MiB of "
             "memory, %.1f MiB of disk, %u layers",
             k->ask->parent, k->n, (double)(now_ns() - t.begin) / 1e6,
             (double)(t.thawed - t.frozen) / 1e6, (double)t.saved.pause_ns / 1e6,
             (double)t.saved.file_bytes / 1048576, (double)t.layer_bytes / 1048576, t.disk.n);
    return r;
}

/* ---- all of it ---- */

static int fork_children(struct forking *k, struct err *e)
{
    int r = k->parent ? take_prepare(k->f, k->parent, e) : 0;
    for (size_t i = 0; i < k->ask->n && r == 0; i++)
        r = make_child(k, &k->ask->children[i], e);
    if (r == 0)
        r = k->ask->which ? from_checkpoint(k, e) : from_now(k, e);
    if (k->parent && !k->running)
        vm_close_dir(k->parent);
    if (r == 0)
        start_children(k);
    else
        drop_children(k);
    return r;
}

/* Of one that has ended by itself, or with its host, the checkpoints are still there. */
static int fork_ended(struct forking *k, struct err *e)
{
    if (!k->ask->which)
        return err_set(e, EINVAL, "MicroVM %s has ended; only its checkpoints can be forked",
                       k->ask->parent);
    pthread_mutex_lock(&k->f->ended_lock);
    int r = fork_children(k, e);
    pthread_mutex_unlock(&k->f->ended_lock);
    return r;
}

static int fork_all(struct forking *k, struct err *e)
{
    struct fvm *parent = fleet_vm_find(k->f, k->ask->parent);
    int r = -ENOENT;
    if (parent && (r = take_hold(parent, "forked", &k->running, e)) == 0) {
        k->parent = parent;
        r = fork_children(k, e);
        fleet_end(parent);
    } else if (!parent || take_ended(parent)) {
        r = fork_ended(k, e);
    }
    if (parent)
        fleet_vm_put(k->f, parent);
    return r;
}

int fleet_fork(struct fleet *f, const struct fleet_fork *ask, struct err *e)
{
    struct forking k = {.f = f, .ask = ask};
    AUTO_FREE struct fvm **children = calloc(ask->n, sizeof *children);
    int r;
    k.children = children;
    k.source = source_new(f, ask->id);
    if (!children || !k.source)
        r = err_sys(e, ENOMEM, "fork a microVM");
    else
        r = fork_all(&k, e);
    fork_source_put(f, k.source);
    for (size_t i = 0; i < ask->n; i++)
        store_vm_free(&ask->children[i]); /* of those that were not taken */
    return r;
}
