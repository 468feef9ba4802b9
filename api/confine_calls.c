// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of the network-facing process, each with its reason. A call
 * that is not listed ends the process with a line that names it; its parent
 * starts it again.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "../hypervisor/base/filter.h"
#include "../hypervisor/base/mem.h"
#include "confine.h"

static const uint32_t stream_to[] = {AF_INET};
static const uint32_t pairs[] = {AF_UNIX};
static const uint32_t own_names[] = {PR_SET_NAME};

static const struct filter_rule rules[] = {
    /* files of the state directory */
    CALL(openat, "state, images, microVMs, artifacts; below the root that is left"),
    CALL(close, "files and connections"),
    CALL(read, "files, eventfds"),
    CALL(write, "files, eventfds, log"),
    CALL(readv, "buffered reads"),
    CALL(writev, "log"),
    CALL(pread64, "database, artifacts, snapshots"),
    CALL(pwrite64, "database, artifacts, overlays"),
    CALL(lseek, "sizes, directories"),
    CALL(getdents64, "reconciling, lists of artifacts"),
    CALL(newfstatat, "sizes and kinds"),
    CALL(fstat, "sizes and kinds"),
    CALL(statx, "sizes and kinds"),
    CALL(fstatfs, "space left"),
    CALL(faccessat, "is a file there"),
    CALL(faccessat2, "is a file there"),
    CALL(readlinkat, "SQLite: is the database's path a link"),
    CALL(mkdirat, "directories of images, microVMs and buckets"),
    CALL(unlinkat, "what is deleted"),
    CALL(renameat, "publishing files"),
    CALL(linkat, "layers and snapshots that several have"),
    CALL(fsync, "durability"),
    CALL(fdatasync, "durability"),
    CALL(ftruncate, "overlays, database"),
    CALL(fallocate, "database's shared memory"),
    CALL(copy_file_range, "copies of artifacts"),
    CALL(fcntl, "flags, locks of the database"),
    CALL(dup3, "a working set in the place of an older one"),
    CALL(fchmod, "SQLite: mode of its files"),
    CALL(fchmodat, "mode of the copy before an upgrade"),
    CALL(fchown, "SQLite: owner of its files"),
    /* connections */
    CALL(accept4, "clients"),
    CALL(socket, "TCP to a microVM's application", .arg = 0, .values = stream_to,
         .nvalues = ARRAY_LEN(stream_to)),
    CALL(connect, "TCP to a microVM's application"),
    CALL(socketpair, "control sockets of machines", .arg = 0, .values = pairs,
         .nvalues = ARRAY_LEN(pairs)),
    CALL(sendto, "clients, machines"),
    CALL(recvfrom, "clients, machines"),
    CALL(sendmsg, "messages with descriptors"),
    CALL(recvmsg, "messages with descriptors"),
    CALL(shutdown, "end of connections"),
    CALL(getsockopt, "how a connect ended"),
    CALL(setsockopt, "no delay, keep-alive"),
    CALL(getsockname, "own port"),
    CALL(ppoll, "waiting"),
    CALL(epoll_create1, "the fleet's loop"),
    CALL(epoll_ctl, "the fleet's loop"),
    CALL(epoll_pwait, "the fleet's loop"),
    CALL(eventfd2, "waking the loop"),
    /* memory and threads */
    CALL(brk, "heap"),
    CALL(mmap, "heap, stacks, the database's index; never executable", .arg = 2,
         .without = PROT_EXEC),
    CALL(mprotect, "stacks; never executable", .arg = 2, .without = PROT_EXEC),
    CALL(munmap, "the same"),
    CALL(mremap, "heap"),
    CALL(memfd_create, "memory layers in huge pages"),
    CALL(madvise, "stacks and heap that are free again"),
    CALL(clone3, "the C library falls back to clone, whose arguments can be seen",
         .error = ENOSYS),
    CALL(clone, "threads, no processes", .arg = 0, .with = CLONE_THREAD | CLONE_VM),
    CALL(set_robust_list, "a thread's start"),
    CALL(rseq, "a thread's start"),
    CALL(set_tid_address, "a thread's start"),
    CALL(sched_getaffinity, "number of CPUs"),
    CALL(sched_setscheduler, "a background thread steps back"),
    CALL(ioprio_set, "the same, from the disk"),
    CALL(sched_getscheduler, "the same"),
    CALL(sched_getparam, "the same"),
    CALL(sched_yield, "locks"),
    CALL(futex, "locks"),
    CALL(membarrier, "the C library's locks"),
    CALL(prctl, "names of threads", .arg = 0, .values = own_names,
         .nvalues = ARRAY_LEN(own_names)),
    CALL(prlimit64, "stack size of threads"),
    CALL(exit, "a thread's end"),
    CALL(exit_group, "the end"),
    /* signals */
    CALL(rt_sigaction, "handlers"),
    CALL(rt_sigprocmask, "around thread starts"),
    CALL(rt_sigreturn, "after a handler"),
    CALL(rt_sigtimedwait, "waiting for the end"),
    CALL(sigaltstack, "the C library"),
    CALL(kill, "itself, to stop in order"),
    CALL(tgkill, "itself, by abort()"),
    CALL(getpid, "itself"),
    CALL(gettid, "itself"),
    CALL(geteuid, "SQLite: may the owner be changed"),
    /* time and chance */
    CALL(clock_gettime, "time, where the vDSO cannot"),
    CALL(clock_getres, "time"),
    CALL(clock_nanosleep, "waiting for a locked database"),
    CALL(nanosleep, "the same"),
    CALL(gettimeofday, "time"),
    CALL(getrandom, "keys, tokens, TLS"),
    CALL(sysinfo, "memory of the host"),
    CALL(restart_syscall, "after a stop"),
};

static void refused(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    filter_refused("dormoused", info);
}

int confine_calls(struct err *e)
{
    struct sigaction sys = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
    if (sigaction(SIGSYS, &sys, NULL) < 0)
        return err_sys(e, errno, "handle refused system calls");
    return filter_enter(rules, ARRAY_LEN(rules), e);
}
