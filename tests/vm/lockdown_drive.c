// SPDX-License-Identifier: Apache-2.0
/*
 * From inside a locked-down VMM: each fault verb (hypervisor/debug/verbs.h) is tried in a
 * process of its own, first in the jail alone, then with the system call filter as well. And:
 * microVMs that start and stop leave nothing behind. lockdown_drive VMM VMM-DEBUG KERNEL DIR
 * KERNEL: the hostile guest
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/debug/verbs.h"
#include "../tap.h"
#include "hostile_vmm.h"

#define CYCLES         200
#define WARM_UP        20
#define REFUSED_STATUS (128 + SIGSYS)

enum with {
    ANY,    /* may succeed: only the other layer is against it */
    FAILS,  /* answers with an errno */
    DENIED, /* with EACCES */
    KILLED, /* the process ends and its log names the call */
};

static const struct attempt {
    const char *name;
    enum debug_verb verb;
    enum with jail, filter;
} attempts[] = {
    {"open a file", DEBUG_OPEN_FILE, FAILS, KILLED},
    {"open /proc", DEBUG_OPEN_PROC, FAILS, KILLED},
    {"open another VM's memory in /proc", DEBUG_OPEN_PROC_MEM, FAILS, KILLED},
    {"open the root directory", DEBUG_OPEN_ROOT, FAILS, KILLED},
    {"create a file", DEBUG_CREATE, FAILS, KILLED},
    {"unlink", DEBUG_UNLINK, FAILS, KILLED},
    {"connect over TCP", DEBUG_CONNECT_TCP, FAILS, KILLED},
    {"connect to a unix socket", DEBUG_CONNECT_UNIX, FAILS, KILLED},
    {"ptrace another VM", DEBUG_PTRACE, FAILS, KILLED},
    {"read another VM's memory", DEBUG_READ_PROCESS, FAILS, KILLED},
    {"pidfd_open of another VM", DEBUG_PIDFD, FAILS, KILLED},
    {"kill another VM", DEBUG_KILL, FAILS, KILLED},
    {"tkill another VM", DEBUG_TKILL, FAILS, FAILS},
    {"mount", DEBUG_MOUNT, FAILS, KILLED},
    {"unshare", DEBUG_UNSHARE, FAILS, KILLED},
    {"make a user namespace", DEBUG_USER_NAMESPACE, ANY, KILLED},
    {"chroot", DEBUG_CHROOT, FAILS, KILLED},
    {"execve", DEBUG_EXECVE, FAILS, KILLED},
    {"fork", DEBUG_FORK, ANY, KILLED},
    {"become root", DEBUG_SETUID, FAILS, KILLED},
    {"load a BPF program", DEBUG_BPF, FAILS, KILLED},
    {"open a performance counter", DEBUG_PERF, FAILS, KILLED},
    {"userfaultfd", DEBUG_USERFAULT, ANY, KILLED},
    {"load a kernel module", DEBUG_MODULE, FAILS, KILLED},
    {"reboot the host", DEBUG_REBOOT, FAILS, KILLED},
    {"map executable memory", DEBUG_MMAP_EXEC, ANY, KILLED},
    {"make memory executable", DEBUG_MPROTECT_EXEC, ANY, KILLED},
    {"set up an I/O ring", DEBUG_URING_SETUP, ANY, KILLED},
    {"push input into a terminal", DEBUG_IOCTL_TTY, FAILS, KILLED},
    {"make another virtual machine", DEBUG_IOCTL_KVM, ANY, KILLED},
    {"open through the I/O ring", DEBUG_RING_OPEN, DENIED, DENIED},
    {"socket through the I/O ring", DEBUG_RING_SOCKET, DENIED, DENIED},
    {"connect through the I/O ring", DEBUG_RING_CONNECT, DENIED, DENIED},
    {"unlink through the I/O ring", DEBUG_RING_UNLINK, DENIED, DENIED},
};

/* The system call an answer or the log names; -1: none. */
static long refused_call(const struct hvmm *v)
{
    const char *at = strstr(hvmm_log(v), "refused system call ");
    return at ? strtol(at + strlen("refused system call "), NULL, 10) : -1;
}

static bool outcome(struct hvmm *v, const struct attempt *a, enum with want, pid_t other)
{
    struct ctl_debug d = {.verb = a->verb, .pid = other};
    int r = hvmm_order(v, CTL_DEBUG, &d, sizeof d, -1);
    const struct ctl_debug_done *done = msg_body(&v->msg, sizeof *done);
    if (r == 0 && done) {
        struct ctl_debug_done got = *done;
        bool killed = hvmm_order(v, CTL_STOP, NULL, 0, -1) != 0;
        hvmm_end(v);
        printf("#   %s: %s\n", a->name, got.num ? strerror(got.num) : "succeeds");
        return !killed && want != KILLED &&
               (want == ANY || (want == DENIED ? got.num == EACCES : got.num != 0));
    }
    hvmm_end(v);
    bool by_filter = WIFEXITED(v->status) && WEXITSTATUS(v->status) == REFUSED_STATUS;
    long nr = refused_call(v);
    printf("#   %s: the process ends, status %x, system call %ld\n", a->name,
           (unsigned)v->status, nr);
    return want == KILLED && by_filter && nr > 0;
}

static void locked_down(const char *vmm, const char *debug, bool filter)
{
    static struct hvmm victim, v;
    env.vmm = vmm;
    if (!CHECK(hvmm_start(&victim, NULL)))
        return;
    env.vmm = debug;
    for (unsigned i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        const struct attempt *a = &attempts[i];
        char name[96];
        snprintf(name, sizeof name, "%s: %s", filter ? "jail and filter" : "jail alone",
                 a->name);
        bool ok = hvmm_start(&v, filter ? NULL : "--no-filter") &&
                  outcome(&v, a, filter ? a->filter : a->jail, victim.pid);
        if (!ok)
            hvmm_show_log(&v);
        tap_report_(ok, name);
    }
    env.vmm = vmm;
    CHECK(waitpid(victim.pid, NULL, WNOHANG) == 0); /* unharmed */
    CHECK(hvmm_order(&victim, CTL_STOP, NULL, 0, -1) == 0);
    hvmm_end(&victim);
}

/* ---- what is left behind -------------------------------------------------------------------
 */

static unsigned entries(const char *path, bool numbers)
{
    DIR *d = opendir(path);
    unsigned n = 0;
    struct dirent *x;
    while (d && (x = readdir(d)) != NULL)
        n += numbers ? x->d_name[0] >= '0' && x->d_name[0] <= '9' : x->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* The number behind `key` in a file of lines. */
static long number(const char *path, const char *key)
{
    char line[512];
    long v = -1;
    FILE *f = fopen(path, "re");
    while (f && v < 0 && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) == 0)
            v = strtol(line + strlen(key), NULL, 10);
    }
    if (f)
        fclose(f);
    return v;
}

struct left {
    unsigned fds, processes, cgroups;
    long namespaces, kvm_files, anon_kb, shmem_kb, tables_kb, stacks_kb;
};

static unsigned processes(void)
{
    unsigned n = 0;
    char path[64], name[64];
    for (int pid = 1; pid < 32768; pid++) {
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        n += fgets(name, sizeof name, f) && strstr(name, "dormouse-vmm");
        fclose(f);
    }
    return n;
}

static struct left look(void)
{
    return (struct left){.fds = entries("/proc/self/fd", true),
                         .processes = processes(),
                         .cgroups = entries("/sys/fs/cgroup", false),
                         .namespaces = number("/proc/slabinfo", "net_namespace"),
                         .kvm_files = number("/proc/slabinfo", "kvm_vcpu"),
                         .anon_kb = number("/proc/meminfo", "AnonPages:"),
                         .shmem_kb = number("/proc/meminfo", "Shmem:"),
                         .tables_kb = number("/proc/meminfo", "PageTables:"),
                         .stacks_kb = number("/proc/meminfo", "KernelStack:")};
}

static bool into_cgroup(const char *dir, pid_t pid)
{
    char path[128];
    snprintf(path, sizeof path, "%s/cgroup.procs", dir);
    FILE *f = fopen(path, "we");
    bool ok = f && fprintf(f, "%d\n", pid) > 0;
    return f && fclose(f) == 0 && ok;
}

static bool cycle(unsigned i)
{
    static struct hvmm v;
    char dir[64];
    snprintf(dir, sizeof dir, "/sys/fs/cgroup/cycle-%u", i);
    if (mkdir(dir, 0755) < 0 || !hvmm_start(&v, NULL))
        return false;
    bool ok = into_cgroup(dir, v.pid) && hvmm_boot(&v, "wfi_for_ever", false);
    ok = ok && hvmm_shows(&v, "holding") && hvmm_order(&v, CTL_STATS, NULL, 0, -1) == 0;
    ok = ok && hvmm_order(&v, CTL_STOP, NULL, 0, -1) == 0;
    ok = hvmm_end(&v) == CTL_EXIT_STOPPED && ok;
    /* Only an empty control group can be removed. */
    return rmdir(dir) == 0 && ok;
}

/* The kernel frees namespaces and page tables a little later. */
static bool settled(const struct left *a, struct left *b)
{
    for (unsigned i = 0; i < 100; i++) {
        *b = look();
        if (b->namespaces <= a->namespaces + 2 && b->anon_kb <= a->anon_kb + 1024 &&
            b->tables_kb <= a->tables_kb + 256 && b->stacks_kb <= a->stacks_kb + 256)
            return true;
        struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL);
    }
    return false;
}

TEST(cycles_leave_nothing)
{
    struct left a, b;
    unsigned good = 0;
    for (unsigned i = 0; i < WARM_UP; i++)
        cycle(i);
    a = look();
    for (unsigned i = 0; i < CYCLES; i++)
        good += cycle(i);
    CHECK(good == CYCLES);
    bool quiet = settled(&a, &b);
    printf("# fds %u %u, processes %u %u, control groups %u %u, network namespaces %ld %ld, "
           "vCPUs %ld %ld\n",
           a.fds, b.fds, a.processes, b.processes, a.cgroups, b.cgroups, a.namespaces,
           b.namespaces, a.kvm_files, b.kvm_files);
    printf("# KiB: anonymous %ld %ld, shared %ld %ld, page tables %ld %ld, stacks %ld %ld\n",
           a.anon_kb, b.anon_kb, a.shmem_kb, b.shmem_kb, a.tables_kb, b.tables_kb, a.stacks_kb,
           b.stacks_kb);
    CHECK(quiet);
    CHECK(a.namespaces >= 0 && a.anon_kb >= 0 && a.tables_kb >= 0 && a.stacks_kb >= 0);
    CHECK(a.fds == b.fds && a.processes == 0 && b.processes == 0 && a.cgroups == b.cgroups);
    CHECK(b.shmem_kb <= a.shmem_kb + 512 && b.kvm_files <= a.kvm_files + HOSTILE_VCPUS);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: lockdown_drive VMM VMM-DEBUG KERNEL DIR\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    env.vmm = argv[1];
    env.kernel = argv[3];
    env.dir = argv[4];
    snprintf(env.disk, sizeof env.disk, "%s/lockdown.disk", env.dir);
    int fd = open(env.disk, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 1 << 20) < 0) {
        perror(env.disk);
        return 2;
    }
    close(fd);
    locked_down(argv[1], argv[2], false);
    locked_down(argv[1], argv[2], true);
    RUN(cycles_leave_nothing);
    unlink(env.disk);
    return TAP_DONE();
}
