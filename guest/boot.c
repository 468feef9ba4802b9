// SPDX-License-Identifier: Apache-2.0
/*
 * The first steps of PID 1 and the very last one: kernel file systems, the
 * files shown to applications, control groups, power off.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>

#include "init.h"

int boot_mounts(void)
{
    static const struct {
        const char *type, *dir, *options;
        unsigned long flags;
    } mounts[] = {
        {"devtmpfs", "/dev", "mode=755", MS_NOSUID},
        {"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"tmpfs", "/run", "mode=755,size=1m", MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"cgroup2", "/sys/fs/cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    };
    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        if (mount(mounts[i].type, mounts[i].dir, mounts[i].type, mounts[i].flags,
                  mounts[i].options) < 0 &&
            errno != EBUSY) {
            complain("mount %s on %s: %s", mounts[i].type, mounts[i].dir, strerror(errno));
            return -errno;
        }
    }
    return 0;
}

int boot_files(struct init *in)
{
    static const char *const names[IDENT_COUNT] = {
        [IDENT_GENERATION] = RUN_DIR "/public/generation",
        [IDENT_VM_ID] = RUN_DIR "/public/microvm-id",
        [IDENT_ENDPOINT] = RUN_DIR "/public/endpoint",
        [IDENT_HOSTNAME] = RUN_DIR "/hostname",
        [IDENT_HOSTS] = RUN_DIR "/hosts",
        [IDENT_RESOLV] = RUN_DIR "/resolv.conf",
        [IDENT_MACHINE_ID] = RUN_DIR "/machine-id",
        [IDENT_BOOT_ID] = RUN_DIR "/boot-id",
    };
    mkdir(RUN_DIR, 0755);
    mkdir(RUN_DIR "/public", 0755);
    umask(022);
    for (size_t i = 0; i < IDENT_COUNT; i++) {
        in->ident[i] = open(names[i], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (in->ident[i] < 0)
            return -errno;
    }
    in->random = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (in->random < 0)
        return -errno;
    ident_put(in, IDENT_GENERATION, "0\n");
    ident_fresh(in);
    return 0;
}

static int open_control(const char *name, int flags)
{
    char path[128];
    text_put(path, sizeof(path), CGROUP_DIR "/%s", name);
    return open(path, flags | O_CLOEXEC);
}

/* All controllers in one write: the kernel has all of them (initrd/kernel.config). */
static void enable_controllers(const char *path)
{
    write_file(path, "+cpu +cpuset +io +memory +pids");
}

/* /app is frozen and killed as a whole. Inside, /app/main is what the application sees as its
 * root group, so that it may divide it, and /app/exec holds commands run beside it: it is made
 * when the application runs, as it takes as long as a fork. */
int boot_cgroups(struct init *in)
{
    struct freezer *fr = &in->freezer;
    enable_controllers("/sys/fs/cgroup/cgroup.subtree_control");
    if (mkdir(CGROUP_DIR, 0755) < 0 && errno != EEXIST)
        return -errno;
    enable_controllers(CGROUP_DIR "/cgroup.subtree_control");
    if (mkdir(CGROUP_DIR "/main", 0755) < 0 && errno != EEXIST)
        return -errno;
    fr->freeze = open_control("cgroup.freeze", O_WRONLY);
    fr->kill = open_control("cgroup.kill", O_WRONLY);
    fr->events_fd = open_control("cgroup.events", O_RDONLY);
    fr->main_dir = open_control("main", O_RDONLY | O_DIRECTORY);
    return fr->freeze < 0 || fr->kill < 0 || fr->events_fd < 0 || fr->main_dir < 0 ? -ENOENT
                                                                                   : 0;
}

void boot_exec_cgroup(struct init *in)
{
    struct freezer *fr = &in->freezer;
    if (fr->exec_dir > 0)
        return;
    mkdir(CGROUP_DIR "/exec", 0755);
    fr->exec_dir = open_control("exec", O_RDONLY | O_DIRECTORY); /* -1: told by the exec */
}

_Noreturn void power_off(void)
{
    sync();
    umount2(ROOT_DIR, 0);
    reboot(RB_POWER_OFF);
    for (;;)
        pause(); /* PID 1 must not end, even when the machine does not */
}
