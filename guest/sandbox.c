// SPDX-License-Identifier: Apache-2.0
/*
 * What a container sees: its own root, /proc, /sys, /dev and the files init
 * provides. Runs in the child, in its new namespaces, before the application's
 * program. After the change of root every path is resolved inside the image,
 * so the image's symbolic links lead nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "proc.h"

#define BINDS_MAX 12

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

/* The initramfs cannot be the old root of pivot_root(): the new root is moved over it. */
static int change_root(struct fail *f)
{
    static const char *const own[] = {"/proc", "/sys", "/dev", "/run"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        umount2(own[i], MNT_DETACH);
    if (chdir(ROOT_DIR) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return fail_sys(f, errno, "change to the application's root");
    return 0;
}

static int mount_at(const char *type, const char *dir, unsigned long flags, const char *options,
                    struct fail *f)
{
    make_dirs(dir, 0755); /* may be there, or the root read-only: the mount tells */
    if (mount(type, dir, type, flags, options) < 0)
        return fail_sys(f, errno, "mount %s on %s", type, dir);
    return 0;
}

static void read_only(const char *path, unsigned long flags)
{
    mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL);
}

static void make_loops(void)
{
    char path[] = "/dev/loop0";
    for (unsigned i = 0; i < 8; i++) {
        path[sizeof(path) - 2] = (char)('0' + i);
        mknod(path, S_IFBLK | 0660, makedev(7, i));
    }
}

static int make_dev(const struct plan *plan, struct fail *f)
{
    static const struct {
        const char *name;
        unsigned mode, maj, min;
        bool all; /* only with every capability */
    } nodes[] = {
        {"/dev/null", 0666, 1, 3, false},      {"/dev/zero", 0666, 1, 5, false},
        {"/dev/full", 0666, 1, 7, false},      {"/dev/random", 0666, 1, 8, false},
        {"/dev/urandom", 0666, 1, 9, false},   {"/dev/tty", 0666, 5, 0, false},
        {"/dev/kmsg", 0600, 1, 11, true},      {"/dev/fuse", 0666, 10, 229, true},
        {"/dev/net/tun", 0666, 10, 200, true}, {"/dev/loop-control", 0660, 10, 237, true},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},       {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
        {"pts/ptmx", "/dev/ptmx"},
    };
    int r = mount_at("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=64k", f);
    if (r < 0)
        return r;
    if (plan->caps_all) {
        mkdir("/dev/net", 0755);
        make_loops();
    }
    umask(0); /* as it is until plan_exec() goes on */
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        if (!nodes[i].all || plan->caps_all)
            mknod(nodes[i].name, S_IFCHR | nodes[i].mode, makedev(nodes[i].maj, nodes[i].min));
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlink(links[i][0], links[i][1]) < 0)
            return fail_sys(f, errno, "make %s", links[i][1]);
    r = mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                 "newinstance,ptmxmode=0666,mode=0620,gid=5", f);
    if (r < 0)
        return r;
    r = mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777", f);
    if (r < 0)
        return r;
    struct fail ignored;
    mount_at("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, &ignored);
    return 0;
}

static void mask_paths(void)
{
    static const char *const hidden[] = {
        "/proc/acpi",       "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
        "/proc/timer_list", "/proc/scsi",       "/proc/sched_debug", "/proc/interrupts",
        "/sys/firmware",    "/proc/kpagecount", "/proc/kpageflags",  "/sys/kernel/debug",
    };
    static const char *const fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
        struct stat st;
        if (lstat(hidden[i], &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            mount("tmpfs", hidden[i], "tmpfs", MS_RDONLY, "size=0,mode=755");
        else
            mount("/dev/null", hidden[i], NULL, MS_BIND, NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (mount(fixed[i], fixed[i], NULL, MS_BIND, NULL) == 0)
            read_only(fixed[i], MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

static int mount_kernel(const struct plan *plan, struct fail *f)
{
    const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    int r = mount_at("proc", "/proc", safe, NULL, f);
    if (r < 0 || (r = mount_at("sysfs", "/sys", safe, NULL, f)) < 0 ||
        (r = make_dev(plan, f)) < 0)
        return r;
    /* a fresh view: the process's own group is the root of what it sees */
    if (unshare(CLONE_NEWCGROUP) < 0)
        return fail_sys(f, errno, "make a cgroup namespace");
    if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", safe, "nsdelegate") < 0 && plan->caps_all)
        return fail_sys(f, errno, "mount cgroup2 on /sys/fs/cgroup");
    if (plan->caps_all) {
        /* A group with processes in it cannot be divided: the root of the view is left empty,
         * so that a container engine finds it as on a host. */
        mkdir("/sys/fs/cgroup/app", 0755);
        write_file("/sys/fs/cgroup/app/cgroup.procs", "0");
    } else {
        read_only("/sys/fs/cgroup", safe);
        read_only("/sys", safe);
        mask_paths();
    }
    return 0;
}

/* Makes the place a file is to appear at; a dangling link of the image's gives way. */
bool sandbox_place(const struct bind *b)
{
    const char *path = b->to;
    char parent[256];
    text_put(parent, sizeof(parent), "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent) {
        *slash = '\0';
        make_dirs(parent, 0755);
    }
    if (b->dir)
        return mkdir(path, 0755) == 0 || errno == EEXIST;
    for (int attempt = 0; attempt < 2; attempt++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
        if (fd >= 0 || errno == EACCES || errno == EPERM || errno == EROFS) {
            if (fd >= 0)
                close(fd);
            return access(path, F_OK) == 0;
        }
        unlink(path);
    }
    return false;
}

static void show_binds(const struct plan *plan, const int *trees)
{
    for (size_t i = 0; i < plan->nbinds; i++) {
        const struct bind *b = &plan->binds[i];
        if (trees[i] < 0 || !sandbox_place(b))
            continue; /* a read-only image without the place: it lives without the file */
        if (syscall(SYS_move_mount, trees[i], "", AT_FDCWD, b->to, MOVE_MOUNT_F_EMPTY_PATH) ==
                0 &&
            b->read_only)
            read_only(b->to, MS_NOSUID | MS_NODEV);
        close(trees[i]);
    }
}

int sandbox_enter(const struct plan *plan, struct fail *f)
{
    int trees[BINDS_MAX];
    if (plan->nbinds > BINDS_MAX)
        return fail_set(f, E2BIG, "too many files to show");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return fail_sys(f, errno, "make the mounts private");
    for (size_t i = 0; i < plan->nbinds; i++)
        trees[i] = (int)syscall(SYS_open_tree, AT_FDCWD, plan->binds[i].from,
                                OPEN_TREE_CLONE | O_CLOEXEC);
    if (plan->hostname && *plan->hostname &&
        sethostname(plan->hostname, strlen(plan->hostname)) < 0)
        return fail_sys(f, errno, "set the hostname");
    int r = change_root(f);
    if (r < 0 || (r = mount_kernel(plan, f)) < 0)
        return r;
    show_binds(plan, trees);
    return 0;
}
