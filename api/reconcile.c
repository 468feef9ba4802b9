// SPDX-License-Identifier: Apache-2.0
/*
 * At start: the database, the files, the processes that run and what a crash
 * left of them are brought to agree. Control groups, sockets and taps without
 * a process were removed by the privileged parent before. Everything removed
 * is counted and told.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "fleet_take.h"

#define RESTARTED  "The host restarted while the microVM was not suspended"
#define ENDED_AWAY "The microVM ended while the daemon was being started again"
/* One that could not be started for so long is not tried again. */
#define START_AGAIN_S 900.0
#define CUT_BUILD     "INTERNAL_PLATFORM_ERROR: the host restarted during the build"

struct names {
    char (*v)[ID_CAP];
    size_t n, cap;
    bool bad;
};

static void add(struct names *l, const char *s)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        char(*v)[ID_CAP] = reallocarray(l->v, cap, sizeof *v);
        if (!v) {
            l->bad = true;
            return;
        }
        l->v = v;
        l->cap = cap;
    }
    snprintf(l->v[l->n++], ID_CAP, "%s", s);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool has(const struct names *l, const char *s)
{
    return l->n && bsearch(s, l->v, l->n, sizeof *l->v, by_name);
}

struct counts {
    unsigned running, started, ended, kept, builds, dirs, files;
};

/* ---- microVMs ---- */

struct vm_lists {
    struct names live, all, pending;
    struct found_list found;
};

static bool on_vm(void *ctx, const struct store_vm_brief *vm)
{
    struct vm_lists *l = ctx;
    add(&l->all, vm->id);
    if (strcmp(vm->state, "PENDING") == 0)
        add(&l->pending, vm->id);
    else if (strcmp(vm->state, "TERMINATED") != 0)
        add(&l->live, vm->id);
    return !l->all.bad && !l->live.bad && !l->pending.bad;
}

static void end_row(struct fleet *f, struct store_vm *row, const char *reason, struct counts *c)
{
    struct err e = ERR_INIT;
    snprintf(row->state, sizeof row->state, "TERMINATED");
    if (!row->reason[0])
        snprintf(row->reason, sizeof row->reason, "%s", reason);
    row->terminated_at = realtime_s();
    row->suspended_at = 0;
    row->ip = 0;
    if (store_vm_set(f->store, row, NULL, &e) < 0)
        log_err(LOG_ERROR, &e, row->id);
    c->ended++;
}

/* known: it ran when this host was up already. */
static const char *why_ended(const struct store_vm *row, bool known)
{
    if (strcmp(row->state, "TERMINATING") == 0)
        return ""; /* as it was asked for */
    if (strcmp(row->state, "SUSPENDED") == 0)
        return "The host restarted and the files of the suspended microVM are not all there";
    return known ? ENDED_AWAY : RESTARTED;
}

/* What the row says, the table, and the processes that are there, decide together. */
enum fate { FATE_END, FATE_SLEEPS, FATE_RUNS, FATE_WOKE };

static enum fate fate_of(struct fleet *f, const struct store_vm *row,
                         const struct store_disk *d, int dir, struct found_list *l,
                         struct found **ret, struct table_entry *t)
{
    struct err e = ERR_INIT;
    bool asleep = strcmp(row->state, "SUSPENDED") == 0;
    bool known = table_find(f, row->ip, t);
    *ret = known ? adopt_find(l, t->slot) : NULL;
    if (dir < 0)
        return FATE_END;
    if (*ret && asleep && t->generation == row->generation + 1)
        return FATE_WOKE; /* its row was still to be written */
    if (*ret && t->generation == row->generation && strcmp(row->state, "TERMINATING") != 0 &&
        !asleep)
        return FATE_RUNS;
    if (!asleep)
        return FATE_END;
    if (known && !*ret && !t->loaded && t->generation == row->generation + 1) {
        /* Marked as used, but no process ever got the order to load it. */
        char name[SNAPFILES_NAME];
        snapfiles_disk(name, d->serial);
        AUTO_CLOSE int disk = openat(dir, name, O_RDWR | O_CLOEXEC);
        if (disk >= 0 && snapfiles_use(&snap_io_host, disk, row->generation, &e) < 0)
            log_err(LOG_WARN, &e, row->id);
    }
    return snapfiles_intact(&snap_io_host, dir, d->serial, row->generation) ? FATE_SLEEPS
                                                                            : FATE_END;
}

static int take_over(struct fleet *f, struct fvm *vm, enum fate fate, struct found *o,
                     const struct table_entry *t, struct counts *c)
{
    vm->state = fate == FATE_WOKE ? VM_RESUMING : VM_RUNNING;
    vm->row.generation = t->generation;
    int r = adopt_begin(f, vm, o, t);
    if (r == 0)
        c->running++;
    return r;
}

static void settle_vm(struct fleet *f, const char *id, struct vm_lists *l, struct counts *c)
{
    struct store_vm row = {.row = 0};
    struct err e = ERR_INIT;
    struct table_entry t = {.slot = PRIV_SLOTS};
    struct found *o;
    if (store_vm_get(f->store, id, &row, &e) < 0) {
        log_err(LOG_ERROR, &e, id);
        return;
    }
    AUTO_CLOSE int dir = openat(f->vms_dir, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct image *img = NULL;
    struct store_disk disk = {.serial = 0};
    enum fate fate = FATE_END;
    if (store_disk_get(f->store, id, &disk, &e) < 0)
        log_err(LOG_ERROR, &e, id);
    else
        fate = fate_of(f, &row, &disk, dir, &l->found, &o, &t);
    if (fate != FATE_END && !disk_there(f, &disk))
        fate = FATE_END;
    if (fate != FATE_END && image_get(f, row.image, row.major, &img, &e) < 0) {
        log_err(LOG_WARN, &e, id);
        fate = FATE_END;
    }
    bool runs = fate == FATE_RUNS || fate == FATE_WOKE;
    /* A machine that was woken reads its snapshot on. */
    uint64_t keep = fate == FATE_END   ? 0
                    : !runs            ? row.generation
                    : t.generation > 1 ? t.generation - 1
                                       : SNAPFILES_RUNS;
    if (dir >= 0)
        c->files += snapfiles_clean(&snap_io_host, dir, disk.serial, keep);
    struct fvm *vm = fate == FATE_END ? NULL : fleet_vm_new(f, &row);
    if (vm) {
        vm->disk = disk;
        vm->image = img;
        if (!runs)
            c->kept++;
        else if (take_over(f, vm, fate, o, &t, c) < 0) {
            fleet_step(vm, EV_TERMINATE);
            vm_terminate(f, vm, false, RESTARTED);
        }
        fleet_vm_put(f, vm);
    } else {
        image_put(f, img);
        end_row(f, &row, why_ended(&row, t.slot < PRIV_SLOTS), c);
    }
    store_vm_free(&row);
}

/* Accepted, but not running yet: it is started (again), on a fresh disk. */
static void start_again(struct fleet *f, const char *id, struct counts *c)
{
    struct store_vm row = {.row = 0};
    struct err e = ERR_INIT;
    struct image *img = NULL;
    int r = store_vm_get(f->store, id, &row, &e);
    if (r < 0) {
        log_err(LOG_ERROR, &e, id);
        return;
    }
    AUTO_CLOSE int dir = openat(f->vms_dir, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        c->files += snapfiles_clean(&snap_io_host, dir, 0, 0);
    if (realtime_s() - row.started_at > START_AGAIN_S)
        r = err_set(&e, ETIMEDOUT, RESTARTED);
    if (r == 0)
        r = image_get(f, row.image, row.major, &img, &e);
    struct fvm *vm = r == 0 ? fleet_vm_new(f, &row) : NULL;
    if (r == 0 && !vm)
        r = err_set(&e, ENOMEM, RESTARTED);
    if (vm) {
        vm->image = img;
        img = NULL;
        vm->busy = true;
        r = fork_source_again(f, vm, &e);
        if (r >= 0 && (r = fleet_admit(f, vm, &e)) == 0) {
            job_push(f, JOB_START, vm, NULL, 0);
            c->started++;
        } else {
            row.ip = 0;
            fleet_vm_forget(f, vm);
            fleet_vm_put(f, vm);
        }
    }
    image_put(f, img);
    store_vm_free(&row);
    if (r < 0 && store_vm_get(f->store, id, &row, NULL) == 0)
        end_row(f, &row, e.msg, c);
    store_vm_free(&row);
}

/* Directories nobody knows. */
static void clean_dirs(int parent, const struct names *known, struct counts *c)
{
    int copy = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (!d) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *de; (de = readdir(d));) {
        if (de->d_name[0] != '.' && strlen(de->d_name) < ID_CAP && !has(known, de->d_name))
            c->dirs += snapfiles_drop_tree(&snap_io_host, parent, de->d_name) == 0;
    }
    closedir(d);
}

/* ---- images ---- */

struct image_lists {
    struct names images, files;
    uint32_t *cut; /* majors of the image at hand whose build was cut short */
    size_t ncut, cap;
    bool bad;
};

static bool on_image(void *ctx, const struct store_image *i)
{
    struct image_lists *l = ctx;
    add(&l->images, i->name);
    return !l->images.bad;
}

static bool on_version(void *ctx, const struct store_version *v)
{
    struct image_lists *l = ctx;
    if (v->file_id[0])
        add(&l->files, v->file_id);
    if (strcmp(v->state, "PENDING") == 0 || strcmp(v->state, "IN_PROGRESS") == 0) {
        if (l->ncut == l->cap) {
            size_t cap = l->cap ? l->cap * 2 : 16;
            uint32_t *cut = reallocarray(l->cut, cap, sizeof *cut);
            if (!cut) {
                l->bad = true;
                return false;
            }
            l->cut = cut;
            l->cap = cap;
        }
        l->cut[l->ncut++] = v->major;
    }
    return true;
}

static void fail_build(struct fleet *f, const char *name, uint32_t major, struct counts *c)
{
    struct store_version v = {.config = NULL};
    struct err e = ERR_INIT;
    int r = store_version_get(f->store, name, major, &v, &e);
    if (r == 0 && strcmp(v.state, "PENDING") == 0) {
        job_push(f, JOB_BUILD, NULL, name, major); /* it had not begun */
    } else if (r == 0) {
        AUTO_CLOSE int dir =
            v.file_id[0] ? openat(f->images_dir, v.file_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                         : -1;
        if (dir >= 0 && snapfiles_drop_image(&snap_io_host, dir, &e) < 0)
            log_err(LOG_WARN, &e, name);
        fleet_build_result(f, &v, CUT_BUILD, &e);
        c->builds++;
    } else {
        log_err(LOG_ERROR, &e, name);
    }
    store_version_free(&v);
}

static int settle_images(struct fleet *f, struct image_lists *l, struct counts *c,
                         struct err *e)
{
    int r = store_image_each(f->store, NULL, on_image, l, e);
    for (size_t i = 0; i < l->images.n && r == 0; i++) {
        l->ncut = 0;
        r = store_version_each(f->store, l->images.v[i], UINT32_MAX, on_version, l, e);
        for (size_t k = 0; k < l->ncut && r == 0; k++)
            fail_build(f, l->images.v[i], l->cut[k], c);
    }
    if (r == 0 && (l->bad || l->images.bad || l->files.bad))
        r = err_sys(e, ENOMEM, "check the images");
    return r;
}

static void sort(struct names *l)
{
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, by_name);
}

static void settle_vms(struct fleet *f, struct vm_lists *l, struct counts *c)
{
    for (size_t i = 0; i < l->live.n; i++)
        settle_vm(f, l->live.v[i], l, c);
    unsigned ended = adopt_end(f, &l->found);
    /* Now that all addresses and slots in use are known: */
    for (size_t i = l->pending.n; i > 0; i--)
        start_again(f, l->pending.v[i - 1], c);
    if (ended)
        log_info("ended %u microVM processes that belong to no running microVM", ended);
}

int fleet_reconcile(struct fleet *f, struct err *e)
{
    struct vm_lists vms = {.all = {.n = 0}};
    struct image_lists images = {.ncut = 0};
    struct counts c = {.ended = 0};
    int r = adopt_list(f, &vms.found, e);
    if (r == 0)
        r = store_vm_each(f->store, UINT64_MAX, NULL, 0, on_vm, &vms, e);
    if (r == 0 && (vms.all.bad || vms.live.bad || vms.pending.bad))
        r = err_sys(e, ENOMEM, "check the microVMs");
    if (r == 0) {
        settle_vms(f, &vms, &c);
        r = settle_images(f, &images, &c, e);
    }
    if (r == 0) {
        sort(&vms.all);
        sort(&images.files);
        clean_dirs(f->vms_dir, &vms.all, &c);
        clean_dirs(f->images_dir, &images.files, &c);
        c.files += checkpoints_clean(f);
        log_info("state checked: %u running microVMs taken over, %u suspended ones kept, %u "
                 "started again, %u ended by the restart, %u builds cut short; removed %u "
                 "directories and %u files nobody owned",
                 c.running, c.kept, c.started, c.ended, c.builds, c.dirs, c.files);
    }
    free(vms.all.v);
    free(vms.live.v);
    free(vms.pending.v);
    free(vms.found.v);
    free(images.images.v);
    free(images.files.v);
    free(images.cut);
    return r < 0 ? err_wrap(e, "check the state at start") : 0;
}
