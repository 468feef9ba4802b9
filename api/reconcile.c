// SPDX-License-Identifier: Apache-2.0
/*
 * At start: the database, the files and what a crash left of both are brought
 * to agree. Processes, taps and control groups were ended by the privileged
 * parent before this role was started. Everything removed is counted and told.
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
#include "fleet_priv.h"

#define RESTARTED "The host restarted while the microVM was not suspended"
#define CUT_BUILD "INTERNAL_PLATFORM_ERROR: the host restarted during the build"

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
    unsigned ended, kept, builds, dirs, files;
};

/* ---- microVMs ---- */

struct vm_lists {
    struct names live, all;
};

static bool on_vm(void *ctx, const struct store_vm *vm)
{
    struct vm_lists *l = ctx;
    add(&l->all, vm->id);
    if (strcmp(vm->state, "TERMINATED") != 0)
        add(&l->live, vm->id);
    return !l->all.bad && !l->live.bad;
}

static void settle_vm(struct fleet *f, const char *id, struct counts *c)
{
    struct store_vm row = {.row = 0};
    struct err e = ERR_INIT;
    if (store_vm_get(f->store, id, &row, &e) < 0) {
        log_err(LOG_ERROR, &e, id);
        return;
    }
    AUTO_CLOSE int dir = openat(f->vms_dir, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct image *img = NULL;
    bool asleep = strcmp(row.state, "SUSPENDED") == 0, intact = false;
    if (asleep && dir >= 0 && snapfiles_intact(&snap_io_host, dir, row.generation))
        intact = image_get(f, row.image, row.major, &img, &e) == 0;
    if (dir >= 0)
        c->files += snapfiles_clean(&snap_io_host, dir, intact ? row.generation : 0);
    struct fvm *vm = intact ? fleet_vm_new(f, &row) : NULL;
    if (vm) {
        vm->image = img;
        fleet_vm_put(f, vm);
        c->kept++;
    } else {
        image_put(f, img);
        if (asleep && e.num)
            log_err(LOG_WARN, &e, id);
        snprintf(row.state, sizeof row.state, "TERMINATED");
        snprintf(row.reason, sizeof row.reason, "%s",
                 asleep ? "The host restarted and the files of the suspended microVM are not "
                          "all there"
                        : RESTARTED);
        row.terminated_at = realtime_s();
        row.suspended_at = 0;
        row.ip = 0;
        if (store_vm_set(f->store, &row, NULL, &e) < 0)
            log_err(LOG_ERROR, &e, id);
        c->ended++;
    }
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
    if (store_version_get(f->store, name, major, &v, &e) == 0) {
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

int fleet_reconcile(struct fleet *f, struct err *e)
{
    struct vm_lists vms = {.all = {.n = 0}};
    struct image_lists images = {.ncut = 0};
    struct counts c = {.ended = 0};
    int r = settle_images(f, &images, &c, e);
    if (r == 0)
        r = store_vm_each(f->store, UINT64_MAX, NULL, 0, on_vm, &vms, e);
    if (r == 0 && (vms.all.bad || vms.live.bad))
        r = err_sys(e, ENOMEM, "check the microVMs");
    if (r == 0) {
        for (size_t i = 0; i < vms.live.n; i++)
            settle_vm(f, vms.live.v[i], &c);
        if (vms.all.n)
            qsort(vms.all.v, vms.all.n, sizeof *vms.all.v, by_name);
        if (images.files.n)
            qsort(images.files.v, images.files.n, sizeof *images.files.v, by_name);
        clean_dirs(f->vms_dir, &vms.all, &c);
        clean_dirs(f->images_dir, &images.files, &c);
        log_info(
            "state checked: %u suspended microVMs kept, %u ended by the restart, %u builds "
            "cut short; removed %u directories and %u files nobody owned",
            c.kept, c.ended, c.builds, c.dirs, c.files);
    }
    free(vms.all.v);
    free(vms.live.v);
    free(images.images.v);
    free(images.files.v);
    free(images.cut);
    return r < 0 ? err_wrap(e, "check the state at start") : 0;
}
