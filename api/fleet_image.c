// SPDX-License-Identifier: Apache-2.0
/*
 * Built image versions: their files under images/<file_id>/, opened once and
 * shared by all microVMs that run from them.
 *     disk.ovl  what the Dockerfile made      boot.ovl  what the start wrote
 *     mem.snap  memory and devices            meta      the machine's shape
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/overlay.h"
#include "durable.h"
#include "fleet_priv.h"

#define META_HEAD "dormouse-image 1"
#define MEM_STEP  (2ull << 20)

int image_meta_write(int dir, const struct image_meta *m, struct err *e)
{
    char text[200];
    int n = snprintf(text, sizeof text, META_HEAD "\nbase %s\nvcpus %u\nmem %llu\n", m->base,
                     m->vcpus, (unsigned long long)m->mem_bytes);
    return durable_write(dir, "meta", text, (size_t)n, 0600, e);
}

int image_meta_read(int dir, struct image_meta *m, struct err *e)
{
    AUTO_FREE char *text = NULL;
    int r = fd_read_file(dir, "meta", 1000, &text, NULL, e);
    if (r < 0)
        return r;
    unsigned long long mem;
    int end = 0;
    if (sscanf(text, META_HEAD " base %15[a-z0-9-] vcpus %u mem %llu %n", m->base, &m->vcpus,
               &mem, &end) != 3 ||
        text[end] || m->vcpus == 0 || m->vcpus > CTL_VCPUS_MAX || mem == 0 || mem % MEM_STEP)
        return err_set(e, EBADMSG, "the image's file 'meta' is damaged");
    m->mem_bytes = mem;
    return 0;
}

int image_base_open(struct fleet *f, const char *base, int *ret_fd, uint64_t *ret_size,
                    struct err *e)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s.img", f->c.bases_dir, base);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_sys(e, errno, "open the base image '%s'", path);
        return err_hint(e, "make the base images and start the daemon with their directory");
    }
    if (fstat(fd, &st) < 0 || st.st_size == 0 || st.st_size % OVERLAY_BLOCK) {
        close(fd);
        return err_set(e, EINVAL, "the base image '%s' is not whole blocks long", path);
    }
    *ret_fd = fd;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

void image_peak(const struct fleet *f, uint32_t mem_mib, uint32_t *vcpus, uint64_t *mem_bytes)
{
    /* 512 MiB: 1 vCPU, 2 GiB at its peak; doubling from there to 8192: 16 vCPUs, 32 GiB. One
     * guest may take half of the host's memory, and no more CPUs than there are. */
    uint32_t cpus = mem_mib / 512;
    uint64_t mem = (uint64_t)mem_mib * 4 << 20;
    *vcpus = MAX(1u, MIN(MIN(cpus, f->host_cpus), CTL_VCPUS_MAX));
    *mem_bytes = align_down(MIN(mem, f->host_mem / 2), MEM_STEP);
}

int overlay_make(int dir, const char *name, uint64_t size, int *ret_fd, struct err *e)
{
    AUTO_CLOSE int fd = openat(dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, errno, "make the disk layer '%s'", name);
    int r = overlay_create(fd, size, e);
    if (r == 0)
        *ret_fd = take_fd(&fd);
    return r;
}

/* ---- the shared ones ---- */

static void image_free(struct fleet *f, struct image *img)
{
    layer_put(f->layers, img->layer);
    drift_reset(&img->drift.seen);
    const int fds[] = {img->base, img->disk, img->boot, img->mem, img->workset};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    image_config_free(&img->config);
    free(img);
}

int image_layer(struct fleet *f, struct image *img, struct err *e)
{
    struct snap_info info;
    int r = snap_read_info(img->mem, &info, e);
    if (r == 0 && info.flags & SNAP_LAYERED)
        r = layer_get(f->layers, info.layer.id, &img->layer, e);
    return r < 0 ? err_wrap(e, "image") : 0;
}

bool image_for_pool(const struct image *img, struct pool_image *ret)
{
    *ret = (struct pool_image){.vcpus = img->vcpus,
                               .mem_bytes = img->mem_bytes,
                               .mem = img->mem,
                               .layer = img->layer ? layer_fd(img->layer) : -1,
                               .workset = img->workset};
    snprintf(ret->id, sizeof ret->id, "%s", img->file_id);
    return img->workset >= 0 && !img->prefetch;
}

static int open_files(struct fleet *f, struct image *img, struct err *e)
{
    struct image_meta meta;
    AUTO_CLOSE int dir =
        openat(f->images_dir, img->file_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, errno, "open the files of the image");
    int r = image_meta_read(dir, &meta, e);
    if (r < 0)
        return r;
    img->vcpus = meta.vcpus;
    img->mem_bytes = meta.mem_bytes;
    if ((r = image_base_open(f, meta.base, &img->base, &img->disk_bytes, e)) < 0)
        return r;
    const struct {
        const char *name;
        int *fd;
    } files[] = {{"disk.ovl", &img->disk}, {"boot.ovl", &img->boot}, {"mem.snap", &img->mem}};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        *files[i].fd = openat(dir, files[i].name, O_RDONLY | O_CLOEXEC);
        if (*files[i].fd < 0)
            return err_sys(e, errno, "open '%s' of the image", files[i].name);
    }
    if (f->seal && (r = seal_check(f->seal, img->mem, e)) < 0)
        return err_wrap(e, "image");
    unlinkat(dir, "workset.tmp", 0);   /* of a daemon that was killed */
    if (f->c.worksets != WORKSETS_OFF) /* need not be there */
        img->workset = openat(dir, "workset", O_RDONLY | O_CLOEXEC);
    img->prefetch = f->c.worksets == WORKSETS_RESTORE;
    return image_layer(f, img, e);
}

static int load(struct fleet *f, const char *name, uint32_t major, struct image **ret,
                struct err *e)
{
    struct store_version v = {.config = NULL};
    int r = store_version_get(f->store, name, major, &v, e);
    if (r < 0)
        return r;
    struct image *img = calloc(1, sizeof *img);
    if (!img) {
        r = err_sys(e, ENOMEM, "open the image");
    } else {
        img->base = img->disk = img->boot = img->mem = img->workset = -1;
        snprintf(img->name, sizeof img->name, "%s", name);
        snprintf(img->file_id, sizeof img->file_id, "%s", v.file_id);
        img->major = major;
        if (!uuid_is(v.file_id, strlen(v.file_id)) || strcmp(v.state, "SUCCESSFUL") != 0)
            r = err_set(e, ENOENT, "version %u.0 of image '%s' is not built", major, name);
        else
            r = image_config_parse(v.config, &img->config, e);
        if (r == 0)
            r = open_files(f, img, e);
        if (r < 0)
            image_free(f, img);
        else
            *ret = img;
    }
    store_version_free(&v);
    return r < 0 ? err_wrap(e, "image '%s' version %u.0", name, major) : 0;
}

static struct image *find(struct fleet *f, const char *name, uint32_t major)
{
    struct image *img = f->images;
    while (img && (img->major != major || strcmp(img->name, name) != 0))
        img = img->next;
    return img;
}

int image_get(struct fleet *f, const char *name, uint32_t major, struct image **ret,
              struct err *e)
{
    pthread_mutex_lock(&f->lock);
    struct image *img = find(f, name, major);
    if (img)
        img->refs++;
    pthread_mutex_unlock(&f->lock);
    if (img) {
        *ret = img;
        return 0;
    }
    struct image *fresh;
    int r = load(f, name, major, &fresh, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&f->lock);
    img = find(f, name, major); /* somebody else may have been faster */
    if (!img) {
        img = fresh;
        img->next = f->images;
        f->images = img;
        fresh = NULL;
    }
    img->refs++;
    pthread_mutex_unlock(&f->lock);
    if (fresh)
        image_free(f, fresh);
    pool_want(f->pool, img->vcpus, img->vcpus == 1 ? 3 : 1);
    *ret = img;
    return 0;
}

void image_put(struct fleet *f, struct image *img)
{
    if (!img)
        return;
    /* Kept open for the next run; fleet_forget_version() closes it. */
    pthread_mutex_lock(&f->lock);
    img->refs--;
    pthread_mutex_unlock(&f->lock);
}

void image_free_all(struct fleet *f)
{
    for (struct image *img = f->images, *next; img; img = next) {
        next = img->next;
        image_free(f, img);
    }
    f->images = NULL;
}

int fleet_forget_version(struct fleet *f, const char *file_id, struct err *e)
{
    if (!uuid_is(file_id, strlen(file_id)))
        return file_id[0] ? err_set(e, EINVAL, "'%.40s' names no image files", file_id) : 0;
    struct image *gone = NULL;
    pthread_mutex_lock(&f->lock);
    for (struct image **at = &f->images; *at; at = &(*at)->next) {
        if (strcmp((*at)->file_id, file_id) == 0) {
            gone = *at;
            if (gone->refs == 0)
                *at = gone->next;
            break;
        }
    }
    bool used = gone && gone->refs > 0;
    pthread_mutex_unlock(&f->lock);
    if (used)
        return err_set(e, EBUSY, "microVMs run from this version; terminate them first");
    pool_forget(f->pool, file_id);
    if (gone)
        image_free(f, gone);
    int r = snapfiles_drop_tree(&snap_io_host, f->images_dir, file_id);
    if (r == 0)
        layers_collect(f->layers);
    return r < 0 ? err_sys(e, -r, "remove the files of an image") : 0;
}
