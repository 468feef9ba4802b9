// SPDX-License-Identifier: Apache-2.0
/*
 * A disk that loses power. It stands behind snapshot/io.h and keeps two states:
 * what a program sees, and what is durable. A write, a length or a name becomes
 * durable when its file or directory is synced; until then any subset of them,
 * with writes torn at sectors, may survive a cut. It can also fail: any one call
 * with any error, or with a short count; after a failed sync the writes that it
 * should have covered are lost for good, as on Linux.
 */
#ifndef DORMOUSE_TESTS_FAULT_DISK_H
#define DORMOUSE_TESTS_FAULT_DISK_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "../../snapshot/io.h"

#define DISK_INODES 64u
#define DISK_NAMES  16u
#define DISK_NAME   80u
#define DISK_FDS    128
#define DISK_EVENTS 256u
#define DISK_SECTOR 512u
#define DISK_ROOT   0u

struct disk_names {
    char name[DISK_NAMES][DISK_NAME];
    unsigned inode[DISK_NAMES];
    unsigned n;
};

struct disk_inode {
    bool used, is_dir;
    int memfd;        /* what programs see of a file */
    uint8_t *durable; /* and what would be left of it */
    uint64_t durable_len;
    struct disk_names now, kept; /* the same of a directory */
};

enum disk_kind { DISK_WRITE, DISK_LENGTH, DISK_LINK, DISK_UNLINK, DISK_RENAME };

struct disk_event { /* seen by programs, not yet durable */
    enum disk_kind kind;
    unsigned inode; /* whose sync makes it durable */
    uint64_t off, len;
    uint8_t *data;
    char name[DISK_NAME], to[DISK_NAME];
    unsigned target;
};

struct disk {
    struct snap_io io;
    struct disk_inode inodes[DISK_INODES];
    int fd_inode[DISK_FDS]; /* -1: not open */
    struct disk_event events[DISK_EVENTS];
    unsigned nevents;
    unsigned calls;   /* so far, but for close and list */
    unsigned cut_at;  /* no call from this one on happens; 0: never */
    unsigned fail_at; /* this call fails; 0: none */
    int fail_with;    /* -errno; 1: a short count */
    bool dead, failed;
};

/* ---- names ---- */

static inline int names_find(const struct disk_names *d, const char *name)
{
    for (unsigned i = 0; i < d->n; i++) {
        if (strcmp(d->name[i], name) == 0)
            return (int)i;
    }
    return -1;
}

static inline void names_remove(struct disk_names *d, const char *name)
{
    int i = names_find(d, name);
    if (i < 0)
        return;
    d->n--;
    memmove(d->name[i], d->name[d->n], DISK_NAME);
    d->inode[i] = d->inode[d->n];
}

static inline void names_put(struct disk_names *d, const char *name, unsigned inode)
{
    names_remove(d, name);
    if (d->n == DISK_NAMES)
        abort();
    strncpy(d->name[d->n], name, DISK_NAME - 1);
    d->inode[d->n++] = inode;
}

/* ---- durability ---- */

static inline void event_free(struct disk_event *ev)
{
    free(ev->data);
    ev->data = NULL;
}

static inline struct disk_event *event_add(struct disk *d, enum disk_kind kind, unsigned inode)
{
    if (d->nevents == DISK_EVENTS)
        abort();
    struct disk_event *ev = &d->events[d->nevents++];
    memset(ev, 0, sizeof *ev);
    ev->kind = kind;
    ev->inode = inode;
    return ev;
}

static inline void durable_grow(struct disk_inode *n, uint64_t len)
{
    if (len <= n->durable_len)
        return;
    n->durable = realloc(n->durable, len);
    memset(n->durable + n->durable_len, 0, len - n->durable_len);
    n->durable_len = len;
}

static inline void event_apply(struct disk *d, const struct disk_event *ev,
                               uint64_t (*torn)(void *), void *arg)
{
    struct disk_inode *n = &d->inodes[ev->inode];
    switch (ev->kind) {
    case DISK_WRITE:
        durable_grow(n, ev->off + ev->len);
        for (uint64_t at = 0; at < ev->len; at += DISK_SECTOR) {
            if (!torn || torn(arg) % 2)
                memcpy(n->durable + ev->off + at, ev->data + at,
                       MIN(ev->len - at, (uint64_t)DISK_SECTOR));
        }
        break;
    case DISK_LENGTH:
        durable_grow(n, ev->len);
        n->durable_len = ev->len;
        break;
    case DISK_LINK:
        names_put(&n->kept, ev->name, ev->target);
        break;
    case DISK_UNLINK:
        names_remove(&n->kept, ev->name);
        break;
    case DISK_RENAME:
        names_remove(&n->kept, ev->name);
        names_put(&n->kept, ev->to, ev->target);
        break;
    }
}

/* Events of one inode end: durable, or lost. */
static inline void events_settle(struct disk *d, unsigned inode, bool durable)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < d->nevents; i++) {
        if (d->events[i].inode != inode) {
            d->events[kept++] = d->events[i];
            continue;
        }
        if (durable)
            event_apply(d, &d->events[i], NULL, NULL);
        event_free(&d->events[i]);
    }
    d->nevents = kept;
}

/* ---- calls ---- */

/* What this call is to return instead of doing its work; 0: it works. */
static inline int disk_step(struct disk *d)
{
    d->calls++;
    if (d->dead || (d->cut_at && d->calls >= d->cut_at)) {
        d->dead = true;
        return -EHOSTDOWN;
    }
    if (d->fail_at == d->calls) {
        d->failed = true;
        return d->fail_with;
    }
    return 0;
}

static inline unsigned disk_inode_of(struct disk *d, int fd)
{
    if (fd < 0 || fd >= DISK_FDS || d->fd_inode[fd] < 0)
        abort(); /* a file that is not open */
    return (unsigned)d->fd_inode[fd];
}

static inline unsigned disk_new_inode(struct disk *d, bool is_dir)
{
    for (unsigned i = 0; i < DISK_INODES; i++) {
        struct disk_inode *n = &d->inodes[i];
        if (n->used)
            continue;
        memset(n, 0, sizeof *n);
        n->used = true;
        n->is_dir = is_dir;
        n->memfd = memfd_create("disk", MFD_CLOEXEC);
        if (n->memfd < 0)
            abort();
        return i;
    }
    abort();
}

static inline int disk_fd(struct disk *d, unsigned inode)
{
    int fd = fcntl(d->inodes[inode].memfd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || fd >= DISK_FDS)
        abort();
    d->fd_inode[fd] = (int)inode;
    return fd;
}

static inline int disk_open(void *ctx, int dir, const char *name, int flags, mode_t mode)
{
    struct disk *d = ctx;
    struct disk_names *names = &d->inodes[disk_inode_of(d, dir)].now;
    int at = names_find(names, name);
    (void)mode;
    int r = disk_step(d);
    if (r < 0)
        return r;
    if (at >= 0 && (flags & O_EXCL))
        return -EEXIST;
    if (at < 0 && !(flags & O_CREAT))
        return -ENOENT;
    if (at < 0) {
        unsigned inode = disk_new_inode(d, false), in = disk_inode_of(d, dir);
        struct disk_event *ev = event_add(d, DISK_LINK, in);
        strncpy(ev->name, name, DISK_NAME - 1);
        ev->target = inode;
        names_put(names, name, inode);
        at = names_find(names, name);
    } else if (flags & O_TRUNC) {
        abort(); /* not used by what is tested */
    }
    return disk_fd(d, names->inode[at]);
}

static inline int disk_close(void *ctx, int fd)
{
    struct disk *d = ctx;
    disk_inode_of(d, fd);
    d->fd_inode[fd] = -1;
    return close(fd);
}

static inline ssize_t disk_pwrite(void *ctx, int fd, const void *p, size_t len, uint64_t off)
{
    struct disk *d = ctx;
    unsigned inode = disk_inode_of(d, fd);
    int r = disk_step(d);
    if (r < 0)
        return r;
    if (r > 0)
        len = len / 2 ? len / 2 : len;
    struct disk_event *ev = event_add(d, DISK_WRITE, inode);
    ev->off = off;
    ev->len = len;
    ev->data = malloc(len ? len : 1);
    memcpy(ev->data, p, len);
    if (fd_pwrite_full(fd, p, len, off) < 0)
        abort();
    return (ssize_t)len;
}

static inline int disk_truncate(void *ctx, int fd, uint64_t len)
{
    struct disk *d = ctx;
    unsigned inode = disk_inode_of(d, fd);
    int r = disk_step(d);
    if (r < 0)
        return r;
    event_add(d, DISK_LENGTH, inode)->len = len;
    return ftruncate(fd, (off_t)len);
}

static inline int disk_sync(void *ctx, int fd)
{
    struct disk *d = ctx;
    unsigned inode = disk_inode_of(d, fd);
    int r = disk_step(d);
    if (d->dead)
        return r;
    events_settle(d, inode, r >= 0);
    return r < 0 ? r : 0;
}

static inline int disk_rename(void *ctx, int dir, const char *from, const char *to)
{
    struct disk *d = ctx;
    unsigned in = disk_inode_of(d, dir);
    struct disk_names *names = &d->inodes[in].now;
    int r = disk_step(d), at = names_find(names, from);
    if (r < 0)
        return r;
    if (at < 0)
        return -ENOENT;
    struct disk_event *ev = event_add(d, DISK_RENAME, in);
    ev->target = names->inode[at];
    strncpy(ev->name, from, DISK_NAME - 1);
    strncpy(ev->to, to, DISK_NAME - 1);
    names_remove(names, from);
    names_put(names, to, ev->target);
    return 0;
}

static inline int disk_unlink(void *ctx, int dir, const char *name, bool is_dir)
{
    struct disk *d = ctx;
    unsigned in = disk_inode_of(d, dir);
    struct disk_names *names = &d->inodes[in].now;
    int r = disk_step(d), at = names_find(names, name);
    if (r < 0)
        return r;
    if (at < 0)
        return -ENOENT;
    if (is_dir && d->inodes[names->inode[at]].now.n)
        return -ENOTEMPTY;
    strncpy(event_add(d, DISK_UNLINK, in)->name, name, DISK_NAME - 1);
    names_remove(names, name);
    return 0;
}

static inline int disk_link(void *ctx, int dir, const char *name, int to_dir, const char *to)
{
    struct disk *d = ctx;
    unsigned in = disk_inode_of(d, to_dir);
    const struct disk_names *from = &d->inodes[disk_inode_of(d, dir)].now;
    int r = disk_step(d), at = names_find(from, name);
    if (r < 0)
        return r;
    if (at < 0)
        return -ENOENT;
    if (names_find(&d->inodes[in].now, to) >= 0)
        return -EEXIST;
    struct disk_event *ev = event_add(d, DISK_LINK, in);
    ev->target = from->inode[at];
    strncpy(ev->name, to, DISK_NAME - 1);
    names_put(&d->inodes[in].now, to, ev->target);
    return 0;
}

static inline int disk_list(void *ctx, int dir, bool (*each)(void *arg, const char *name),
                            void *arg)
{
    struct disk *d = ctx;
    struct disk_names copy = d->inodes[disk_inode_of(d, dir)].now;
    for (unsigned i = 0; i < copy.n; i++) {
        if (!each(arg, copy.name[i]))
            break;
    }
    return 0;
}

/* ---- for the tests ---- */

static inline void disk_init(struct disk *d)
{
    memset(d, 0, sizeof *d);
    d->io = (struct snap_io){disk_open,   disk_close,  disk_pwrite, disk_truncate, disk_sync,
                             disk_rename, disk_unlink, disk_link,   disk_list,     d};
    for (int i = 0; i < DISK_FDS; i++)
        d->fd_inode[i] = -1;
    if (disk_new_inode(d, true) != DISK_ROOT)
        abort();
}

static inline void disk_close_all(struct disk *d)
{
    for (int fd = 0; fd < DISK_FDS; fd++) {
        if (d->fd_inode[fd] >= 0)
            disk_close(d, fd);
    }
}

static inline void disk_free(struct disk *d)
{
    disk_close_all(d);
    for (unsigned i = 0; i < d->nevents; i++)
        event_free(&d->events[i]);
    for (unsigned i = 0; i < DISK_INODES; i++) {
        if (d->inodes[i].used) {
            close(d->inodes[i].memfd);
            free(d->inodes[i].durable);
        }
    }
}

/* A directory, not yet durable. */
static inline void disk_mkdir(struct disk *d, unsigned parent, const char *name)
{
    unsigned inode = disk_new_inode(d, true);
    struct disk_event *ev = event_add(d, DISK_LINK, parent);
    strncpy(ev->name, name, DISK_NAME - 1);
    ev->target = inode;
    names_put(&d->inodes[parent].now, name, inode);
}

/* Opens a directory by path from the root: "" or one name. */
static inline int disk_open_dir(struct disk *d, const char *name)
{
    unsigned inode = DISK_ROOT;
    if (*name) {
        int at = names_find(&d->inodes[DISK_ROOT].now, name);
        if (at < 0)
            return -ENOENT;
        inode = d->inodes[DISK_ROOT].now.inode[at];
    }
    return disk_fd(d, inode);
}

static inline void disk_sync_all(struct disk *d)
{
    for (unsigned i = 0; i < DISK_INODES; i++)
        events_settle(d, i, true);
}

/* The power is cut and comes back: of what was not synced, `keep` says for each event whether
 * it survives, and `torn` (may be NULL) for each sector of a write that does. */
static inline void disk_power_cycle(struct disk *d, bool (*keep)(void *, unsigned event),
                                    uint64_t (*torn)(void *), void *arg)
{
    disk_close_all(d);
    for (unsigned i = 0; i < d->nevents; i++) {
        if (keep(arg, i))
            event_apply(d, &d->events[i], torn, arg);
        event_free(&d->events[i]);
    }
    d->nevents = 0;
    for (unsigned i = 0; i < DISK_INODES; i++) {
        struct disk_inode *n = &d->inodes[i];
        if (!n->used)
            continue;
        n->now = n->kept;
        if (n->is_dir)
            continue;
        if (ftruncate(n->memfd, 0) < 0 || ftruncate(n->memfd, (off_t)n->durable_len) < 0 ||
            fd_pwrite_full(n->memfd, n->durable, n->durable_len, 0) < 0)
            abort();
    }
    d->dead = d->failed = false;
    d->cut_at = d->fail_at = d->calls = 0;
}

#endif
