// SPDX-License-Identifier: Apache-2.0
/* Giving up all privileges; see confine.h. What needs privilege comes first. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"

/* The kernel's headers of the build machine may be older than the kernel that runs this. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif
#define ACCESS_IOCTL_DEV (1ull << 15)
#define ACCESS_ALL_FS    (ACCESS_IOCTL_DEV * 2 - 1)
#define ACCESS_BIND_TCP  (1ull << 0)
#define SCOPE_ABSTRACT   (1ull << 0)
#define SCOPE_SIGNAL     (1ull << 1)

#define ACCESS_READ      (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_STATE                                                             \
    (ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |              \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)

#define PLACES 4u

struct place {
    const char *from, *name; /* name: without the slash */
    bool writable;
    int tree;
};

static void places_of(const struct confine *c, struct place ret[PLACES])
{
    const struct place all[PLACES] = {
        {c->state, &CONFINE_STATE[1], true, -1},
        {c->run, &CONFINE_RUN[1], true, -1},
        {c->bases, &CONFINE_BASES[1], false, -1},
        {c->cgroup, &CONFINE_CGROUP[1], false, -1},
    };
    for (unsigned i = 0; i < PLACES; i++)
        ret[i] = all[i];
}

/* A copy of the mounts at and below a directory, not attached anywhere yet. */
static int take_tree(struct place *p, struct err *e)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                          MOUNT_ATTR_NOSUID |
                                          (p->writable ? 0 : MOUNT_ATTR_RDONLY)};
    p->tree = open_tree(AT_FDCWD, p->from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (p->tree < 0)
        return err_sys(e, errno, "take '%s' along", p->from);
    if (mount_setattr(p->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0)
        return err_sys(e, errno, "restrict the mounts of '%s'", p->from);
    return 0;
}

static int attach_tree(const struct place *p, struct err *e)
{
    if (mkdir(p->name, 0755) < 0 ||
        move_mount(p->tree, "", AT_FDCWD, p->name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(e, errno, "mount '%s' in the new root", p->from);
    return 0;
}

/* A fresh tmpfs on a directory that exists, with the places in it, then pivoted to. */
static int build_root(struct place *places, struct err *e)
{
    int r = 0;
    for (unsigned i = 0; i < PLACES && r == 0; i++)
        r = places[i].from ? take_tree(&places[i], e) : 0;
    if (r < 0)
        return r;
    if (mount("none", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=4k,nr_inodes=8,mode=0755") < 0 ||
        chdir("/proc") < 0)
        return err_sys(e, errno, "mount an empty root");
    for (unsigned i = 0; i < PLACES && r == 0; i++)
        r = places[i].from ? attach_tree(&places[i], e) : 0;
    if (r < 0)
        return r;
    if (syscall(SYS_pivot_root, ".", ".") < 0) {
        err_sys(e, errno, "make the empty directory the root");
        return err_hint(e, "the host's root file system cannot be an initramfs; move it to a "
                           "bind mount of itself first");
    }
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_sys(e, errno, "leave the old root");
    if (mount(NULL, "/", NULL,
              MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_sys(e, errno, "make the empty root read-only");
    return 0;
}

static int own_root(struct place *places, struct err *e)
{
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return err_sys(e, errno, "enter own namespaces");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, errno, "make mounts private");
    int r = build_root(places, e);
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i].tree >= 0)
            close(places[i].tree);
    }
    return r;
}

static int limits(const struct confine *c, struct err *e)
{
    const struct {
        __rlimit_resource_t what;
        rlim_t value;
    } table[] = {
        {RLIMIT_CORE, 0},           /* a core file would hold keys */
        {RLIMIT_NPROC, c->threads}, /* of this user; connections have a thread each */
        {RLIMIT_MSGQUEUE, 0},       /* no use for these */
        {RLIMIT_MEMLOCK, 0},        {RLIMIT_RTPRIO, 0},
    };
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        struct rlimit l = {table[i].value, table[i].value};
        if (setrlimit(table[i].what, &l) < 0)
            return err_sys(e, errno, "limit resource %d", (int)table[i].what);
    }
    return 0;
}

static int become(uint32_t uid, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_sys(e, errno, "become user %u", uid);
    if (syscall(SYS_capset, &head, none) < 0)
        return err_sys(e, errno, "drop capabilities");
    /* Changing the user had made it dumpable again, and it must not outlive the parent: the
     * next one starts another. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(e, errno, "give up privileges for good");
    return 0;
}

static int allow_below(int rules, const struct place *p, uint64_t handled, struct err *e)
{
    char path[16] = "/";
    for (unsigned i = 0; p->name[i] && i + 2 < sizeof path; i++)
        path[i + 1] = p->name[i];
    AUTO_CLOSE int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct landlock_path_beneath_attr below = {
        .allowed_access = (p->writable ? ACCESS_STATE : ACCESS_READ) & handled,
        .parent_fd = dir,
    };
    if (dir < 0 ||
        syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0)
        return err_sys(e, errno, "allow '%s' in landlock", path);
    return 0;
}

/* Landlock: a fence of another make behind the root. Nothing is executed, linked or made into a
 * device even in the state directory; no port is bound, no other process gets a signal. */
static int fence(const struct place *places, struct err *e)
{
    struct {
        uint64_t fs, net, scoped;
    } all = {ACCESS_ALL_FS, ACCESS_BIND_TCP, SCOPE_ABSTRACT | SCOPE_SIGNAL};
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 2) /* not there, or unable to let files move between directories */
        return 0;
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8; /* what this kernel knows */
    if (abi < 5)
        all.fs &= ~ACCESS_IOCTL_DEV;
    if (abi < 3)
        all.fs &= ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
    AUTO_CLOSE int rules = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
    if (rules < 0)
        return err_sys(e, errno, "make a landlock ruleset");
    int r = 0;
    for (unsigned i = 0; i < PLACES && r == 0; i++)
        r = places[i].from ? allow_below(rules, &places[i], all.fs, e) : 0;
    if (r == 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
        r = err_sys(e, errno, "restrict with landlock");
    return r;
}

int confine_enter(const struct confine *c, struct err *e)
{
    struct place places[PLACES];
    places_of(c, places);
    int r = own_root(places, e);
    if (r == 0)
        r = limits(c, e);
    if (r == 0)
        r = become(c->uid, e);
    if (r == 0)
        r = fence(places, e);
    if (r == 0 && !c->no_filter)
        r = confine_calls(e);
    return r < 0 ? err_wrap(e, "give up privileges") : 0;
}
