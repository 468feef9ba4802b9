// SPDX-License-Identifier: Apache-2.0
/* fork+exec of a dormouse-vmm; see parent_spawn.h. */
#include "parent_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "parent.h"

#define VMM_CTL_FD    3
#define VMM_KVM_FD    4
#define VMM_LISTEN_FD 5
#define VMM_FILES     1024

/* In the child. The parent is single-threaded, so any call is allowed here. */
static void become_vmm(const struct spawn_host *h, uint32_t slot, uint32_t vcpus, int ctl,
                       int listener)
{
    char cpus[16], uid[16];
    snprintf(cpus, sizeof cpus, "%u", vcpus);
    snprintf(uid, sizeof uid, "%u", PARENT_VMM_UID + slot);
    /* Out of the way first: the numbers wanted may be taken by one of the three. */
    int c = fcntl(ctl, F_DUPFD, 16), k = fcntl(h->kvm, F_DUPFD, 16),
        l = listener < 0 ? -1 : fcntl(listener, F_DUPFD, 16);
    if (c < 0 || k < 0 || dup2(h->null, 0) < 0 || dup2(2, 1) < 0 || dup2(c, VMM_CTL_FD) < 0 ||
        dup2(k, VMM_KVM_FD) < 0 || (listener >= 0 && dup2(l, VMM_LISTEN_FD) < 0) ||
        close_range(VMM_LISTEN_FD + (listener >= 0), ~0u, 0) < 0)
        _exit(126);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    const struct rlimit core = {0, 0}, files = {VMM_FILES, VMM_FILES};
    setrlimit(RLIMIT_CORE, &core);
    setrlimit(RLIMIT_NOFILE, &files);
    char *const argv[] = {(char *)(uintptr_t) "dormouse-vmm",
                          (char *)(uintptr_t) "--vcpus",
                          cpus,
                          (char *)(uintptr_t) "--uid",
                          uid,
                          listener >= 0 ? (char *)(uintptr_t) "--listen" : NULL,
                          NULL};
    char *const envp[] = {NULL};
    execve(h->vmm_path, argv, envp);
    _exit(127);
}

int spawn_vmm(const struct spawn_host *h, uint32_t slot, uint32_t vcpus, int ctl, int listener,
              int cgroup, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
    int pidfd = -1;
    struct clone_args args = {
        /* The other namespaces it makes itself, with its jail. */
        .flags = CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWPID,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = (uint64_t)(unsigned)cgroup,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) {
        err_sys(e, errno, "start a microVM process");
        return errno == EINVAL ? err_hint(e, "the kernel must be 5.7 or newer") : -e->num;
    }
    if (pid == 0)
        become_vmm(h, slot, vcpus, ctl, listener);
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    *ret_pid = (pid_t)pid;
    *ret_pidfd = pidfd;
    return 0;
}

void spawn_kill(int pidfd)
{
    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}
