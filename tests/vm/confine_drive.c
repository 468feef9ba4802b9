// SPDX-License-Identifier: Apache-2.0
/*
 * From inside the daemon's network-facing process: each attempt runs in a process of its own
 * that has given up its privileges as the daemon does (api/confine.h), first without the system
 * call filter, then with it. Then the daemon itself is started and looked at from outside.
 *     confine_drive DORMOUSED DIR
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "../../api/confine.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

#define UID            63000u
#define REFUSED_STATUS (128 + SIGSYS)
#define WAIT_S         120

static char dir[200], state[256], run_dir[256], bases[256];
static pid_t victim; /* a process of the same user, outside */
static int listener; /* a port that may be connected to */
static uint16_t port;

/* ---- attempts: 0 when it worked, else an errno
 * ----------------------------------------------- */

static int result(long r)
{
    return r < 0 ? errno : 0;
}

static int try_open(const char *path, int flags)
{
    int r = result(openat(AT_FDCWD, path, flags | O_CLOEXEC, 0600));
    return r;
}

static int open_passwd(void)
{
    return try_open("/etc/passwd", O_RDONLY);
}

static int open_above(void)
{
    return try_open("/state/../../../etc/passwd", O_RDONLY);
}

static int open_proc(void)
{
    return try_open("/proc/self/maps", O_RDONLY);
}

static int open_kvm(void)
{
    return try_open("/dev/kvm", O_RDWR);
}

static int list_root(void)
{
    return try_open("/", O_RDONLY | O_DIRECTORY);
}

static int create_in_root(void)
{
    return try_open("/new", O_WRONLY | O_CREAT);
}

static int write_bases(void)
{
    return try_open("/bases/new", O_WRONLY | O_CREAT);
}

static int write_cgroup(void)
{
    return try_open("/cgroup/cgroup.procs", O_WRONLY);
}

static int run_shell(void)
{
    char *const args[] = {NULL};
    return result(execve("/bin/sh", args, args));
}

static int run_own(void)
{
    char *const args[] = {NULL};
    return result(execve("/state/program", args, args));
}

static int run_descriptor(void)
{
    int fd = open("/state/program", O_RDONLY | O_CLOEXEC);
    char *const args[] = {NULL};
    return fd < 0 ? ENOSYS : result(syscall(SYS_execveat, fd, "", args, args, AT_EMPTY_PATH));
}

static int make_device(void)
{
    return result(mknod("/state/kvm", S_IFCHR | 0600, makedev(10, 232)));
}

static int make_link(void)
{
    return result(symlink("/etc/passwd", "/state/link"));
}

static int trace(void)
{
    return result(ptrace(PTRACE_SEIZE, victim, NULL, NULL));
}

static int signal_other(void)
{
    return result(kill(victim, SIGTERM));
}

static int packet_socket(void)
{
    return result(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static int unix_socket(void)
{
    return result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int netlink_socket(void)
{
    return result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static int listen_elsewhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8088)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? ENOSYS : result(bind(fd, (struct sockaddr *)&a, sizeof a));
}

static int mount_tmpfs(void)
{
    return result(mount("none", "/state", "tmpfs", 0, NULL));
}

static int remount_root(void)
{
    return result(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
}

static int leave_root(void)
{
    return result(chroot("/state"));
}

static int new_namespace(void)
{
    return result(unshare(CLONE_NEWNET));
}

static int user_namespace(void)
{
    return result(unshare(CLONE_NEWUSER));
}

static int become_root(void)
{
    return result(setuid(0));
}

static int fork_one(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0ul, 0ul, 0ul, 0ul);
    if (pid == 0)
        _exit(0);
    return result(pid);
}

static int map_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int be_dumpable(void)
{
    return result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int make_ring(void)
{
    char params[256] = {0};
    return result(syscall(SYS_io_uring_setup, 8u, params));
}

static int load_module(void)
{
    return result(syscall(SYS_init_module, "", 0ul, ""));
}

static int load_bpf(void)
{
    char attr[128] = {0};
    return result(syscall(SYS_bpf, 5 /* load */, attr, sizeof attr));
}

static int set_clock(void)
{
    const struct timespec t = {.tv_sec = 1};
    return result(clock_settime(CLOCK_REALTIME, &t));
}

/* What the daemon needs has to work: these return 0. */

static int work_files(void)
{
    int fd = open("/state/a", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) < 0 || ftruncate(fd, 0) < 0 ||
        close(fd) < 0 || mkdirat(AT_FDCWD, "/state/d", 0700) < 0 ||
        renameat(AT_FDCWD, "/state/a", AT_FDCWD, "/state/d/b") < 0 ||
        unlinkat(AT_FDCWD, "/state/d/b", 0) < 0 ||
        unlinkat(AT_FDCWD, "/state/d", AT_REMOVEDIR) < 0)
        return errno;
    return try_open("/bases/base.img", O_RDONLY) ? errno
                                                 : try_open("/run/ready", O_WRONLY | O_CREAT);
}

static int work_connect(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? errno : result(connect(fd, (struct sockaddr *)&a, sizeof a));
}

static void *thread_main(void *arg)
{
    prctl(PR_SET_NAME, "worker", 0, 0, 0);
    free(malloc(1 << 20));
    return arg;
}

static int work_threads(void)
{
    pthread_t t;
    void *got = NULL;
    int r = pthread_create(&t, NULL, thread_main, &victim);
    if (r == 0)
        pthread_join(t, &got);
    return r ? r : got == &victim ? 0 : EINVAL;
}

static int work_signal(void)
{
    sigset_t set;
    const struct timespec limit = {.tv_sec = 5};
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (kill(getpid(), SIGTERM) < 0)
        return errno;
    return sigtimedwait(&set, NULL, &limit) == SIGTERM ? 0 : EINVAL;
}

enum want {
    ANY,    /* only the filter is against it */
    FAILS,  /* with an errno */
    KILLED, /* the process ends and names the call */
    WORKS,
};

static const struct attempt {
    const char *name;
    int (*run)(void);
    enum want walls, filter;
    long nr; /* the call that is named */
} attempts[] = {
    {"open a file of the host", open_passwd, FAILS, FAILS, 0},
    {"open a file above the root", open_above, FAILS, FAILS, 0},
    {"open /proc", open_proc, FAILS, FAILS, 0},
    {"open /dev/kvm", open_kvm, FAILS, FAILS, 0},
    {"list the root", list_root, FAILS, FAILS, 0},
    {"create a file in the root", create_in_root, FAILS, FAILS, 0},
    {"write to the base images", write_bases, FAILS, FAILS, 0},
    {"write to control groups", write_cgroup, FAILS, FAILS, 0},
    {"execute a shell", run_shell, FAILS, KILLED, SYS_execve},
    {"execute a file of its own", run_own, FAILS, KILLED, SYS_execve},
    {"execute an open file", run_descriptor, FAILS, KILLED, SYS_execveat},
    {"make a device", make_device, FAILS, KILLED, SYS_mknodat},
    {"make a symbolic link", make_link, FAILS, KILLED, SYS_symlinkat},
    {"trace a process of its user", trace, FAILS, KILLED, SYS_ptrace},
    {"send a signal to one", signal_other, FAILS, FAILS, 0},
    {"make a packet socket", packet_socket, FAILS, KILLED, SYS_socket},
    {"make a unix socket", unix_socket, ANY, KILLED, SYS_socket},
    {"make a netlink socket", netlink_socket, ANY, KILLED, SYS_socket},
    {"bind another port", listen_elsewhere, FAILS, KILLED, SYS_bind},
    {"mount", mount_tmpfs, FAILS, KILLED, SYS_mount},
    {"make the root writable", remount_root, FAILS, KILLED, SYS_mount},
    {"change the root", leave_root, FAILS, KILLED, SYS_chroot},
    {"make a network namespace", new_namespace, FAILS, KILLED, SYS_unshare},
    {"make a user namespace", user_namespace, ANY, KILLED, SYS_unshare},
    {"become root", become_root, FAILS, KILLED, SYS_setuid},
    {"fork", fork_one, ANY, KILLED, SYS_clone},
    {"map executable memory", map_code, ANY, KILLED, SYS_mmap},
    {"become dumpable", be_dumpable, ANY, KILLED, SYS_prctl},
    {"set up an I/O ring", make_ring, ANY, KILLED, SYS_io_uring_setup},
    {"load a kernel module", load_module, FAILS, KILLED, SYS_init_module},
    {"load a BPF program", load_bpf, FAILS, KILLED, SYS_bpf},
    {"set the clock", set_clock, FAILS, KILLED, SYS_clock_settime},
    {"keep files in its state", work_files, WORKS, WORKS, 0},
    {"connect to an application", work_connect, WORKS, WORKS, 0},
    {"start threads", work_threads, WORKS, WORKS, 0},
    {"stop itself", work_signal, WORKS, WORKS, 0},
};

/* ---- one attempt
 * ------------------------------------------------------------------------------ */

/* In the child: its exit status is the errno; what it says goes to the pipe. */
static void attempt(const struct attempt *a, bool filter, int say)
{
    struct err e = ERR_INIT;
    const struct confine c = {.uid = UID,
                              .state = state,
                              .run = run_dir,
                              .bases = bases,
                              .cgroup = "/sys/fs/cgroup/dormouse",
                              .threads = 100,
                              .no_filter = !filter};
    dup2(say, STDERR_FILENO);
    if (confine_enter(&c, &e) < 0) {
        dprintf(say, "%s\n", e.msg);
        _exit(125);
    }
    _exit(a->run());
}

static bool outcome(const struct attempt *a, bool filter)
{
    enum want want = filter ? a->filter : a->walls;
    char text[512] = "", line[64];
    int say[2], status = 0;
    if (pipe2(say, O_CLOEXEC) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        attempt(a, filter, say[1]);
    close(say[1]);
    size_t len = 0;
    ssize_t n;
    while (len < sizeof text - 1 && (n = read(say[0], text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    close(say[0]);
    waitpid(pid, &status, 0);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    printf("#   %s: %s%s%s", a->name,
           code == 0                ? "works"
           : code == REFUSED_STATUS ? "the process ends"
           : code > 0 && code < 125 ? strerror(code)
                                    : "the process is gone",
           *text ? ": " : "\n", text);
    snprintf(line, sizeof line, "dormoused: refused system call %03ld\n", a->nr);
    switch (want) {
    case ANY:
        return code >= 0 && code < 125;
    case FAILS:
        return code > 0 && code < 125;
    case KILLED:
        return code == REFUSED_STATUS && strcmp(text, line) == 0;
    case WORKS:
        return code == 0;
    }
    return false;
}

static void inside(bool filter)
{
    for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
        char name[96];
        snprintf(name, sizeof name, "%s: %s", filter ? "with the filter" : "without the filter",
                 attempts[i].name);
        bool ok = outcome(&attempts[i], filter);
        tap_report_(ok, name);
    }
    CHECK(waitpid(victim, NULL, WNOHANG) == 0); /* unharmed */
}

/* ---- the daemon
 * -------------------------------------------------------------------------------- */

static bool wait_for(const char *path, pid_t daemon)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    time_t end = time(NULL) + WAIT_S;
    while (access(path, F_OK) < 0) {
        if (time(NULL) > end || waitpid(daemon, NULL, WNOHANG) != 0)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static size_t slurp(const char *path, char *text, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;
    while (fd >= 0 && len < cap - 1 && (n = read(fd, text + len, cap - 1 - len)) > 0)
        len += (size_t)n;
    if (fd >= 0)
        close(fd);
    text[len] = '\0';
    return len;
}

static pid_t find_api(pid_t daemon)
{
    char path[64], text[1024], want[32];
    snprintf(want, sizeof want, "\nPPid:\t%d\n", daemon);
    for (pid_t pid = 1; pid < 32768; pid++) {
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        if (slurp(path, text, sizeof text) && strncmp(text, "Name:\tdormoused-api", 19) == 0 &&
            strstr(text, want))
            return pid;
    }
    return 0;
}

static bool confined(const char *status)
{
    static const char *const lines[] = {
        "\nUid:\t63000\t63000\t63000\t63000\n",
        "\nGid:\t63000\t63000\t63000\t63000\n",
        "\nCapInh:\t0000000000000000\n",
        "\nCapPrm:\t0000000000000000\n",
        "\nCapEff:\t0000000000000000\n",
        "\nCapBnd:\t0000000000000000\n",
        "\nCapAmb:\t0000000000000000\n",
        "\nNoNewPrivs:\t1\n",
        "\nSeccomp:\t2\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        if (!strstr(status, lines[i])) {
            printf("# missing:%s", lines[i]);
            return false;
        }
    }
    return true;
}

static void check_threads(pid_t api)
{
    char path[300], text[2048];
    unsigned n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", api);
    DIR *d = opendir(path);
    const struct dirent *x;
    bool ok = d != NULL;
    while (ok && (x = readdir(d))) {
        if (x->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", api, x->d_name);
        ok = slurp(path, text, sizeof text) == 0 || confined(text);
        n++;
    }
    if (d)
        closedir(d);
    printf("# %u threads\n", n);
    CHECK(ok && n > 1);
}

static void check_root(pid_t api)
{
    char path[64], names[256] = "";
    snprintf(path, sizeof path, "/proc/%d/root/", api);
    struct dirent **list = NULL;
    int n = scandir(path, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.')
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s ",
                     list[i]->d_name);
        free(list[i]);
    }
    free(list);
    CHECK_STR(names, "bases cgroup run state ");
}

/* Whatever is open is of the state, or one of the few files it was given; /dev/kvm is not. */
static void check_descriptors(pid_t api)
{
    char path[300], to[300];
    snprintf(path, sizeof path, "/proc/%d/fd", api);
    DIR *d = opendir(path);
    const struct dirent *x;
    bool ok = d != NULL;
    while (d && (x = readdir(d))) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", api, x->d_name);
        ssize_t n = readlink(path, to, sizeof to - 1);
        if (n <= 0)
            continue;
        to[n] = '\0';
        /* Directories and files below the root that is left, seen from there or from here. */
        static const char *const given[] = {"/usr/lib/dormouse/Image", "/proc/meminfo",
                                            "/usr/lib/dormouse/initrd.cpio", "/dev/null",
                                            "/dev/net/tun"};
        bool good =
            to[0] != '/' || strncmp(to, "/state", 6) == 0 || strncmp(to, dir, strlen(dir)) == 0;
        for (size_t i = 0; i < ARRAY_LEN(given); i++)
            good = good || strcmp(to, given[i]) == 0;
        if (!good)
            printf("# open: %s\n", to);
        ok = ok && good;
    }
    if (d)
        closedir(d);
    CHECK(ok);
}

/* The key that all certificates come from is not the network-facing process's to read. */
static void check_ca(void)
{
    static const char *const names[] = {"ca", "ca/ca.key", "ca/server.key"};
    char path[300];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct stat st;
        int status = -1;
        snprintf(path, sizeof path, "%s/%s", state, names[i]);
        CHECK(stat(path, &st) == 0 && st.st_uid == 0 && (st.st_mode & 077) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            if (setresgid(UID, UID, UID) < 0 || setresuid(UID, UID, UID) < 0)
                _exit(1);
            _exit(open(path, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES ? 0 : 2);
        }
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void check_secrets(pid_t api, const char *log)
{
    static const char *const files[] = {"cmdline", "environ", "status", "comm"};
    char env[1024], path[300];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/bootstrap.env", state);
    slurp(path, env, sizeof env);
    const char *secret = strstr(env, "SECRET_ACCESS_KEY=");
    if (!CHECK(secret != NULL))
        return;
    char key[64];
    snprintf(key, sizeof key, "%.40s", strchr(secret, '=') + 1);
    CHECK(strlen(key) == 40);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", api, files[i]);
        size_t n = slurp(path, text, sizeof text);
        CHECK(!memmem(text, n, key, 40));
    }
    size_t n = slurp(log, text, sizeof text);
    CHECK(n > 0 && !memmem(text, n, key, 40));
    snprintf(path, sizeof path, "/proc/%d/limits", api);
    slurp(path, text, sizeof text);
    CHECK(strstr(text, "Max core file size        0                    0 ") != NULL);
    /* Not dumpable: its files in /proc belong to root, and its memory is nobody's to read. */
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/mem", api);
    CHECK(stat(path, &st) == 0 && st.st_uid == 0);
}

/* options: more of them, NULL at the end. Returns when it serves, or has ended. */
static pid_t start_daemon(const char *program, const char *log, char *const *options)
{
    char ready[300];
    snprintf(ready, sizeof ready, "%s/ready", run_dir);
    unlink(ready);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600),
            null = open("/dev/null", O_RDWR);
        char *args[24] = {(char *)(uintptr_t)program,
                          (char *)(uintptr_t) "--state",
                          state,
                          (char *)(uintptr_t) "--run",
                          run_dir,
                          (char *)(uintptr_t) "--bases",
                          bases,
                          (char *)(uintptr_t) "--log-level",
                          (char *)(uintptr_t) "debug"};
        for (unsigned i = 0; options && options[i]; i++)
            args[9 + i] = options[i];
        dup2(null, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        execv(program, args);
        _exit(127);
    }
    if (!CHECK(wait_for(ready, pid))) {
        static char text[8192];
        slurp(log, text, sizeof text);
        printf("# %s\n", text);
    }
    return pid;
}

static void end_daemon(pid_t pid)
{
    int status = -1;
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check_daemon(const char *program)
{
    char log[300];
    snprintf(log, sizeof log, "%s/daemon.log", dir);
    pid_t pid = start_daemon(program, log, NULL), api = find_api(pid);
    if (CHECK(api > 0)) {
        check_threads(api);
        check_root(api);
        check_descriptors(api);
        check_secrets(api, log);
        check_ca();
    }
    end_daemon(pid);
}

static bool copy_file(const char *from, const char *to)
{
    static char text[65536];
    size_t n = slurp(from, text, sizeof text);
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && n > 0 && write(fd, text, n) == (ssize_t)n;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool log_has(const char *log, const char *words)
{
    static char text[1 << 20];
    const struct timespec pause = {.tv_nsec = 50000000};
    for (time_t end = time(NULL) + WAIT_S; time(NULL) < end; nanosleep(&pause, NULL)) {
        slurp(log, text, sizeof text);
        if (strstr(text, words))
            return true;
    }
    printf("# the log has no: %s\n", words);
    return false;
}

/* Certificates of the operator's, outside of the state and for root's eyes only: a changed one
 * is taken although the process that uses it could open none of them. */
static void check_reload(const char *program)
{
    static const char *const from[] = {"ca/server.pem", "ca/server.key", "ca.pem"};
    static char paths[3][300], names[3][16] = {"--tls-cert", "--tls-key", "--tls-client-ca"};
    char log[300], source[300];
    snprintf(log, sizeof log, "%s/reload.log", dir);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(source, sizeof source, "%s/%s", state, from[i]);
        snprintf(paths[i], sizeof paths[i], "%s/own-%u.pem", dir, i);
        CHECK(copy_file(source, paths[i]));
    }
    char *const options[] = {names[0], paths[0], names[1], paths[1], names[2], paths[2], NULL};
    pid_t pid = start_daemon(program, log, options);
    CHECK(find_api(pid) > 0);
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    CHECK(utimensat(AT_FDCWD, paths[0], times, 0) == 0);
    CHECK(log_has(log, "reloaded the certificate"));
    /* One that is none: said, and the old one stays in use. */
    CHECK(truncate(paths[0], 10) == 0);
    CHECK(log_has(log, "reload the certificate: "));
    CHECK(find_api(pid) > 0);
    end_daemon(pid);
}

/* ---- set-up ---- */

static bool make_file(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    bool ok = fd >= 0 && write(fd, "#!/bin/sh\n", 10) == 10;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool prepare(void)
{
    char path[300];
    snprintf(state, sizeof state, "%s/state", dir);
    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    snprintf(bases, sizeof bases, "%s/bases", dir);
    mkdir("/sys/fs/cgroup/dormouse", 0755);
    if (mkdir(state, 0700) < 0 || mkdir(run_dir, 0700) < 0 || mkdir(bases, 0755) < 0 ||
        chown(state, UID, UID) < 0 || chown(run_dir, UID, UID) < 0)
        return false;
    snprintf(path, sizeof path, "%s/base.img", bases);
    if (!make_file(path, 0644))
        return false;
    snprintf(path, sizeof path, "%s/program", state);
    if (!make_file(path, 0755) || chown(path, UID, UID) < 0 || chmod(path, 0755) < 0)
        return false;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(listener, 16) < 0 || getsockname(listener, (struct sockaddr *)&a, &len) < 0)
        return false;
    port = ntohs(a.sin_port);
    victim = fork();
    if (victim == 0) {
        if (setresgid(UID, UID, UID) < 0 || setresuid(UID, UID, UID) < 0)
            _exit(1);
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        for (;;)
            pause();
    }
    return victim > 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: confine_drive DORMOUSED DIR\n");
        return 2;
    }
    snprintf(dir, sizeof dir, "%s", argv[2]);
    if (!prepare()) {
        perror(dir);
        return 2;
    }
    inside(false);
    inside(true);
    kill(victim, SIGKILL);
    waitpid(victim, NULL, 0);
    check_daemon(argv[1]);
    check_reload(argv[1]);
    return TAP_DONE();
}
