// SPDX-License-Identifier: Apache-2.0
/* Memory layers; see layers.h. What they are on the disk is in snapfiles.c. */
#include "layers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "digest.h"
#include "durable.h"
#include "fleet_priv.h"

#define HUGE        (2ull << 20)
#define SHMEM_HUGE  "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define LIMIT_MS    60000
#define UNLIKE_PART 8u /* one page in so many differs: not the same kernel any more */

struct layer {
    struct layer *next;
    unsigned refs;
    struct layer_info info;
    int fd;
    bool huge;
};

struct layers {
    pthread_mutex_t lock;
    int dir, images_dir;
    uint64_t kernel; /* name of the guest kernel */
    uint64_t text;   /* bytes from its start that stay as they are; 0: not known */
    bool huge;
    struct layer *open;
    uint8_t newest[SNAP_LAYER_ID];
    bool has_newest;
};

void layers_allow_huge(void)
{
    AUTO_CLOSE int fd = open(SHMEM_HUGE, O_RDWR | O_CLOEXEC);
    char text[128];
    ssize_t n = fd >= 0 ? pread(fd, text, sizeof text - 1, 0) : -1;
    if (n <= 0)
        return;
    text[n] = '\0';
    /* What else an operator has chosen stays. */
    if (strstr(text, "[never]") && pwrite(fd, "advise", 6, 0) < 0)
        log_info("no huge pages for memory layers: %s", strerror(errno));
}

bool layers_have_huge(void)
{
    AUTO_FREE char *text = NULL;
    return fd_read_file(AT_FDCWD, SHMEM_HUGE, 128, &text, NULL, NULL) == 0 &&
           !strstr(text, "[never]") && !strstr(text, "[deny]");
}

/* ---- the kernel ---- */

/* Not a cryptographic name: a wrong one costs space, as pages are compared. */
static int name_kernel(struct layers *ls, int fd, struct err *e)
{
    AUTO_FREE uint8_t *buf = malloc(1 << 20);
    struct stat st;
    uint32_t crc = 0;
    if (!buf || fstat(fd, &st) < 0)
        return err_sys(e, errno, "look at the guest kernel");
    for (off_t at = 0; at < st.st_size;) {
        ssize_t n = pread(fd, buf, 1 << 20, at);
        if (n <= 0)
            return err_sys(e, n < 0 ? errno : EIO, "read the guest kernel");
        crc = crc32c(crc, buf, (size_t)n);
        at += n;
    }
    ls->kernel = (uint64_t)crc << 32 | ((uint64_t)st.st_size & UINT32_MAX);
    return 0;
}

/* ---- files ---- */

static bool newest_first(void *arg, const char *name)
{
    struct layers *ls = arg;
    struct layer_info l;
    AUTO_CLOSE int fd = openat(ls->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st, best;
    char have[SNAPFILES_LAYER];
    if (fd < 0 || layer_read(fd, &l, NULL) < 0 || l.kernel != ls->kernel ||
        l.is.len != ls->text || fstat(fd, &st) < 0)
        return true;
    snapfiles_layer_name(have, ls->newest);
    if (!ls->has_newest || fstatat(ls->dir, have, &best, 0) < 0 ||
        st.st_mtim.tv_sec > best.st_mtim.tv_sec) {
        memcpy(ls->newest, l.is.id, SNAP_LAYER_ID);
        ls->has_newest = true;
    }
    return true;
}

static void layer_id(const uint8_t *file, uint64_t len, uint8_t ret[SNAP_LAYER_ID])
{
    static const char what[] = "dormouse memory layer 1";
    struct digest d;
    digest_begin(&d, DIGEST_SHA256);
    digest_add(&d, what, sizeof what);
    digest_add(&d, file + LAYER_MANIFEST_AT, LAYER_MANIFEST);
    digest_add(&d, file + LAYER_DATA, len);
    digest_end(&d, ret);
}

/* ---- for VMMs ---- */

static int seal_memory(int fd)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

/* The file's copy in huge pages, checked against its id there; or the file itself. */
static int load(struct layer *l, int file, struct err *e)
{
    uint64_t size = LAYER_DATA + l->info.is.len;
    uint8_t id[SNAP_LAYER_ID];
    AUTO_CLOSE int mem =
        l->huge ? memfd_create("dormouse-layer", MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
    bool copy = mem >= 0 && ftruncate(mem, (off_t)size) == 0;
    uint8_t *p = mmap(NULL, size, copy ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                      copy ? mem : file, 0);
    if (p == MAP_FAILED)
        return err_sys(e, errno, "map the memory layer");
    int r = 0;
    if (copy) {
        madvise(p + LAYER_DATA, align_down(l->info.is.len, HUGE), MADV_HUGEPAGE);
        r = fd_pread_full(file, p, SNAP_PAGE, 0);
        if (r == 0)
            r = fd_pread_full(file, p + LAYER_DATA, l->info.is.len, LAYER_DATA);
        if (r < 0)
            err_sys(e, -r, "read the memory layer");
    }
    layer_id(p, l->info.is.len, id);
    if (r == 0 && memcmp(id, l->info.is.id, sizeof id) != 0)
        r = err_set(e, EBADMSG, "the memory layer is damaged");
    munmap(p, size);
    if (r == 0 && copy && seal_memory(mem) < 0)
        r = err_sys(e, errno, "seal the memory layer");
    if (r == 0)
        l->fd = copy ? take_fd(&mem) : fcntl(file, F_DUPFD_CLOEXEC, 0);
    if (r == 0 && l->fd < 0)
        r = err_sys(e, errno, "open the memory layer");
    l->huge = copy;
    return r;
}

static int open_layer(struct layers *ls, const uint8_t id[SNAP_LAYER_ID], struct layer **ret,
                      struct err *e)
{
    char name[SNAPFILES_LAYER];
    snapfiles_layer_name(name, id);
    AUTO_CLOSE int fd = openat(ls->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open the memory layer '%s'", name);
    struct layer *l = calloc(1, sizeof *l);
    if (!l)
        return err_sys(e, ENOMEM, "open the memory layer");
    l->fd = -1;
    l->huge = ls->huge;
    int r = layer_read(fd, &l->info, e);
    if (r == 0 && memcmp(l->info.is.id, id, SNAP_LAYER_ID) != 0)
        r = err_set(e, EBADMSG, "the memory layer's name is not its own");
    if (r == 0)
        r = load(l, fd, e);
    if (r < 0) {
        free(l);
        return err_wrap(e, "layer %.8s", name);
    }
    *ret = l;
    return 0;
}

/* With the lock held: opened under it, as two copies would cost twice the memory. */
static int get(struct layers *ls, const uint8_t id[SNAP_LAYER_ID], struct layer **ret,
               struct err *e)
{
    struct layer *l = ls->open;
    while (l && memcmp(l->info.is.id, id, SNAP_LAYER_ID) != 0)
        l = l->next;
    if (!l) {
        int r = open_layer(ls, id, &l, e);
        if (r < 0)
            return r;
        l->next = ls->open;
        ls->open = l;
    }
    l->refs++;
    *ret = l;
    return 0;
}

int layer_get(struct layers *ls, const uint8_t id[SNAP_LAYER_ID], struct layer **ret,
              struct err *e)
{
    pthread_mutex_lock(&ls->lock);
    int r = get(ls, id, ret, e);
    pthread_mutex_unlock(&ls->lock);
    return r;
}

void layer_put(struct layers *ls, struct layer *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&ls->lock);
    l->refs--; /* kept open for the next; layers_collect() closes it */
    pthread_mutex_unlock(&ls->lock);
}

int layer_fd(const struct layer *l)
{
    return l->fd;
}

bool layer_is_huge(const struct layer *l)
{
    return l->huge;
}

/* ---- making one ---- */

struct making {
    struct layers *ls;
    struct vmm *v;
    uint8_t id[SNAP_LAYER_ID];
};

static int fill(void *ctx, int fd, char ret_name[SNAPFILES_LAYER], struct err *e)
{
    struct making *m = ctx;
    struct layer_info l;
    const struct ctl_layer order = {
        .gpa = CTL_KERNEL, .len = m->ls->text, .kernel = m->ls->kernel};
    uint64_t size = LAYER_DATA + order.len;
    int r =
        vmm_call(m->v, CTL_LAYER, &order, sizeof order, &fd, 1, deadline_ms(LIMIT_MS), NULL, e);
    if (r == 0)
        r = layer_read(fd, &l, e);
    if (r < 0)
        return r;
    if (l.is.len != order.len)
        return err_set(e, EBADMSG, "the VMM wrote another layer than was asked for");
    uint8_t head[SNAP_PAGE];
    uint8_t *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(e, errno, "map the memory layer");
    layer_id(p, order.len, l.is.id);
    munmap(p, size);
    memcpy(m->id, l.is.id, sizeof m->id);
    layer_build(&l, head);
    snapfiles_layer_name(ret_name, m->id);
    r = fd_pwrite_full(fd, head, sizeof head, 0);
    return r < 0 ? err_sys(e, -r, "name the memory layer") : 0;
}

int layer_choose(struct layers *ls, struct vmm *v, bool fresh, struct layer **ret,
                 struct err *e)
{
    struct making m = {.ls = ls, .v = v};
    int r = 0;
    *ret = NULL;
    if (!ls->text)
        return 0;
    pthread_mutex_lock(&ls->lock);
    if (!ls->has_newest || fresh) {
        r = snapfiles_layer(&snap_io_host, ls->dir, fill, &m, e);
        if (r == 0) {
            memcpy(ls->newest, m.id, sizeof m.id);
            ls->has_newest = true;
        }
    }
    if (r == 0)
        r = get(ls, ls->newest, ret, e);
    if (r < 0)
        ls->has_newest = false; /* a damaged one is not tried again */
    pthread_mutex_unlock(&ls->lock);
    return r;
}

bool layer_unlike(const struct layer *l, uint64_t same, uint64_t other)
{
    (void)l;
    return other * UNLIKE_PART > same;
}

/* ---- the end ---- */

struct usage {
    struct layers *ls;
    uint8_t (*ids)[SNAP_LAYER_ID]; /* that images name */
    size_t n, cap;
    bool bad;
    unsigned removed;
};

static bool on_image(void *arg, const char *name)
{
    struct usage *u = arg;
    struct snap_info info;
    char path[80];
    snprintf(path, sizeof path, "%.60s/mem.snap", name);
    AUTO_CLOSE int fd = openat(u->ls->images_dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        u->bad |= errno != ENOENT && errno != ENOTDIR;
        return true;
    }
    if (snap_read_info(fd, &info, NULL) < 0 || !(info.flags & SNAP_LAYERED))
        return true;
    if (u->n == u->cap) {
        size_t cap = u->cap ? u->cap * 2 : 16;
        void *ids = reallocarray(u->ids, cap, sizeof *u->ids);
        if (!ids) {
            u->bad = true;
            return false;
        }
        u->ids = ids;
        u->cap = cap;
    }
    memcpy(u->ids[u->n++], info.layer.id, SNAP_LAYER_ID);
    return true;
}

static bool is_used(const struct usage *u, const char *name)
{
    char used[SNAPFILES_LAYER];
    for (size_t i = 0; i < u->n; i++) {
        snapfiles_layer_name(used, u->ids[i]);
        if (strcmp(used, name) == 0)
            return true;
    }
    for (const struct layer *l = u->ls->open; l; l = l->next) {
        snapfiles_layer_name(used, l->info.is.id);
        if (strcmp(used, name) == 0)
            return true;
    }
    return false;
}

static bool on_layer(void *arg, const char *name)
{
    struct usage *u = arg;
    if (!is_used(u, name)) {
        int r = snapfiles_drop_layer(&snap_io_host, u->ls->dir, name);
        if (r < 0)
            log_warn("cannot remove the memory layer '%s': %s", name, strerror(-r));
        else
            u->removed++;
    }
    return true;
}

static void close_unused(struct layers *ls, bool all)
{
    for (struct layer **at = &ls->open; *at;) {
        struct layer *l = *at;
        if (l->refs && !all) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        close(l->fd);
        free(l);
    }
}

unsigned layers_collect(struct layers *ls)
{
    struct usage u = {.ls = ls};
    pthread_mutex_lock(&ls->lock);
    /* Who has chosen a layer for an image that is not there yet holds it. */
    close_unused(ls, false);
    int r = snap_io_host.list(NULL, ls->images_dir, on_image, &u);
    if (r == 0 && !u.bad)
        snap_io_host.list(NULL, ls->dir, on_layer, &u);
    ls->has_newest = false;
    snap_io_host.list(NULL, ls->dir, newest_first, ls);
    pthread_mutex_unlock(&ls->lock);
    free(u.ids);
    return u.removed;
}

int layers_open(struct layers **ret, const struct layers_config *c, struct err *e)
{
    struct layers *ls = calloc(1, sizeof *ls);
    if (!ls)
        return err_sys(e, ENOMEM, "open the memory layers");
    pthread_mutex_init(&ls->lock, NULL);
    ls->dir = -1;
    ls->images_dir = c->images_dir;
    ls->text = c->kernel_text;
    ls->huge = c->huge;
    *ret = ls;
    int r = durable_dir(c->state_dir, "layers", &ls->dir, e);
    if (r == 0 && fsync(c->state_dir) < 0)
        r = err_sys(e, errno, "make the directory of layers durable");
    if (r == 0)
        r = name_kernel(ls, c->kernel_fd, e);
    if (r == 0)
        snap_io_host.list(NULL, ls->dir, newest_first, ls);
    if (r < 0) {
        layers_close(ls);
        *ret = NULL;
    }
    return r;
}

void layers_close(struct layers *ls)
{
    if (!ls)
        return;
    close_unused(ls, true);
    if (ls->dir >= 0)
        close(ls->dir);
    pthread_mutex_destroy(&ls->lock);
    free(ls);
}
