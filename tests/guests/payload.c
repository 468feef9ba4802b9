// SPDX-License-Identifier: Apache-2.0
/*
 * The application of guest tests: one static program with verbs. As `sh -c TEXT`
 * it runs verbs separated by `;` or `&&`, so that a test image needs no shell.
 * Each verb prints what a test looks for and ends with 0, or says what failed.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "payload_memory.h"

extern char **environ;

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static const char *arg(int argc, char **argv, int i, const char *def)
{
    return i < argc ? argv[i] : def;
}

static int number(int argc, char **argv, int i, int def)
{
    return i < argc ? atoi(argv[i]) : def;
}

static int verb_echo(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    putchar('\n');
    return 0;
}

static int verb_err(int argc, char **argv)
{
    fprintf(stderr, "%s\n", arg(argc, argv, 1, "error"));
    return 0;
}

static int verb_env(int argc, char **argv)
{
    if (argc > 1) {
        const char *v = getenv(argv[1]);
        printf("%s=%s\n", argv[1], v ? v : "(unset)");
        return 0;
    }
    for (char **e = environ; *e; e++)
        puts(*e);
    return 0;
}

static int verb_id(int argc, char **argv)
{
    gid_t groups[64];
    int n = getgroups(64, groups);
    (void)argc;
    (void)argv;
    printf("uid=%u gid=%u groups=", getuid(), getgid());
    for (int i = 0; i < n; i++)
        printf("%s%u", i ? "," : "", groups[i]);
    printf(" pid=%d\n", getpid());
    return 0;
}

static int verb_cat(int argc, char **argv)
{
    char buf[4096];
    for (int i = 1; i < argc; i++) {
        int fd = strcmp(argv[i], "-") == 0 ? 0 : open(argv[i], O_RDONLY);
        if (fd < 0)
            return fail(argv[i]);
        size_t n;
        ssize_t got;
        while ((got = read(fd, buf, sizeof(buf))) > 0) {
            n = (size_t)got;
            fwrite(buf, 1, n, stdout);
        }
        if (got < 0)
            return fail(argv[i]);
        if (fd > 0)
            close(fd);
    }
    return 0;
}

static int verb_write(int argc, char **argv)
{
    FILE *f = fopen(arg(argc, argv, 1, ""), "w");
    if (!f)
        return fail(arg(argc, argv, 1, "write"));
    for (int i = 2; i < argc; i++)
        fprintf(f, "%s%s", argv[i], i + 1 < argc ? " " : "\n");
    return fclose(f) ? fail("close") : 0;
}

static int verb_ls(int argc, char **argv)
{
    const char *dir = arg(argc, argv, 1, ".");
    struct dirent **list;
    int n = scandir(dir, &list, NULL, alphasort);
    if (n < 0)
        return fail(dir);
    for (int i = 0; i < n; i++) {
        char path[1024], link[256] = "";
        struct stat st;
        if (list[i]->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%.255s", dir, list[i]->d_name);
        if (lstat(path, &st) < 0)
            return fail(path);
        if (S_ISLNK(st.st_mode) && readlink(path, link, sizeof(link) - 1) < 0)
            return fail(path);
        printf("%06o %u:%u %lld %lld %s%s%s\n", st.st_mode, st.st_uid, st.st_gid,
               (long long)st.st_size, (long long)st.st_mtime, list[i]->d_name,
               *link ? " -> " : "", link);
    }
    return 0;
}

static int verb_pwd(int argc, char **argv)
{
    char buf[1024];
    (void)argc;
    (void)argv;
    return getcwd(buf, sizeof(buf)) ? puts(buf), 0 : fail("getcwd");
}

static int verb_sleep(int argc, char **argv)
{
    double s = argc > 1 ? atof(argv[1]) : 1e9;
    struct timespec ts = {.tv_sec = (time_t)s,
                          .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
    return 0;
}

static int verb_exit(int argc, char **argv)
{
    fflush(stdout);
    _exit(number(argc, argv, 1, 0));
}

static int verb_crash(int argc, char **argv)
{
    signal(SIGSEGV, SIG_DFL);
    kill(getpid(), number(argc, argv, 1, SIGSEGV));
    return 1; /* PID 1 of a namespace does not die of its own signals */
}

static int verb_forks(int argc, char **argv)
{
    int n = number(argc, argv, 1, 100), made = 0;
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            pause();
            _exit(0);
        }
        made += pid > 0;
    }
    printf("forked %d\n", made);
    return 0;
}

static int verb_lines(int argc, char **argv)
{
    int n = number(argc, argv, 1, 1000);
    for (int i = 0; i < n; i++)
        printf("line %d of %d\n", i, n);
    return 0;
}

static int verb_uuid(int argc, char **argv)
{
    uint8_t b[16];
    char text[64] = "";
    FILE *f = fopen("/proc/sys/kernel/random/uuid", "r");
    (void)argc;
    (void)argv;
    if (!f || !fgets(text, sizeof(text), f) || getrandom(b, sizeof(b), 0) != 16)
        return fail("random");
    fclose(f);
    text[strcspn(text, "\n")] = '\0';
    printf("uuid %s random ", text);
    for (int i = 0; i < 16; i++)
        printf("%02x", b[i]);
    putchar('\n');
    return 0;
}

static int verb_clock(int argc, char **argv)
{
    struct timespec r, m, b;
    (void)argc;
    (void)argv;
    clock_gettime(CLOCK_REALTIME, &r);
    clock_gettime(CLOCK_MONOTONIC, &m);
    clock_gettime(CLOCK_BOOTTIME, &b);
    printf("realtime %lld.%09ld monotonic %lld.%09ld boottime %lld.%09ld\n",
           (long long)r.tv_sec, r.tv_nsec, (long long)m.tv_sec, m.tv_nsec, (long long)b.tv_sec,
           b.tv_nsec);
    return 0;
}

static int open_socket(const char *host, int port, struct sockaddr_in *to)
{
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to->sin_addr) != 1)
        return -1;
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* connect HOST PORT [TEXT]: sends TEXT, then waits and says how the connection ended. */
static int verb_connect(int argc, char **argv)
{
    struct sockaddr_in to;
    char buf[512];
    int fd = open_socket(arg(argc, argv, 1, "127.0.0.1"), number(argc, argv, 2, 80), &to);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        return fail("connect");
    puts("connected");
    fflush(stdout);
    if (argc > 3 && write(fd, argv[3], strlen(argv[3])) < 0)
        return fail("write");
    ssize_t n;
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        printf("got %.*s\n", (int)n, buf);
        fflush(stdout);
    }
    printf("connection ended: %s\n", n == 0 ? "end of stream" : strerror(errno));
    fflush(stdout);
    return 0;
}

/* "unix:NAME" is an upstream's socket, another text a port of this machine. */
static int open_upstream(const char *target)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in port;
    if (strncmp(target, "unix:", 5) != 0) {
        int fd = open_socket("127.0.0.1", atoi(target), &port);
        return connect(fd, (struct sockaddr *)&port, sizeof(port)) < 0 ? -1 : fd;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(path.sun_path, sizeof(path.sun_path), "/run/dormouse/upstream/%s", target + 5);
    return connect(fd, (struct sockaddr *)&path, sizeof(path)) < 0 ? -1 : fd;
}

/* ask TARGET MS: one connection for ever, over which it asks "TARGET N" every MS milliseconds
 * and wants the same text back. MS 0: it asks "hold TARGET" once, and is not answered. */
static int verb_ask(int argc, char **argv)
{
    const char *target = arg(argc, argv, 1, "");
    int fd = open_upstream(target), ms = number(argc, argv, 2, 20);
    char ask[128], reply[128];
    struct timespec pause = {.tv_nsec = ms * 1000000L};
    if (fd < 0)
        return fail(target);
    for (unsigned n = 0;; n++) {
        int len = ms ? snprintf(ask, sizeof(ask), "%s %u\n", target, n)
                     : snprintf(ask, sizeof(ask), "hold %s\n", target);
        if (ms == 0) {
            printf("%s holds\n", target);
            fflush(stdout);
        }
        ssize_t got = write(fd, ask, (size_t)len) == len ? read(fd, reply, sizeof(reply)) : -1;
        if (got != len || memcmp(ask, reply, (size_t)len) != 0) {
            printf("%s ended after %u: %s\n", target, n,
                   got < 0    ? strerror(errno)
                   : got == 0 ? "end of stream"
                              : "a wrong answer");
            fflush(stdout);
            return 0;
        }
        printf("%s answered %u\n", target, n);
        fflush(stdout);
        nanosleep(&pause, NULL);
    }
}

/* http PORT [STATUS…]: answers each request with the next status (the last one stays) and
 * prints it in one line. Status 0 closes without an answer, 1 never answers. With HTTP_HOST
 * it listens there. */
static int verb_http(int argc, char **argv)
{
    struct sockaddr_in at;
    const char *host = getenv("HTTP_HOST");
    int one = 1, fd = open_socket(host ? host : "0.0.0.0", number(argc, argv, 1, 8080), &at);
    if (fd < 0)
        return fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 64) < 0)
        return fail("listen");
    puts("listening");
    fflush(stdout);
    for (int turn = 2;; turn++) {
        char buf[65536], out[256];
        int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (c < 0)
            return fail("accept");
        size_t len = 0, body = 0;
        const char *end = NULL;
        for (;;) {
            ssize_t n = read(c, buf + len, sizeof(buf) - 1 - len);
            if (n <= 0)
                break;
            len += (size_t)n;
            buf[len] = '\0';
            const char *size = strcasestr(buf, "\r\ncontent-length:");
            body = size ? (size_t)atoi(size + 17) : 0;
            end = strstr(buf, "\r\n\r\n");
            if (end && len >= (size_t)(end + 4 - buf) + body)
                break;
        }
        buf[len] = '\0';
        for (char *p = buf; *p; p++)
            *p = *p == '\r' || *p == '\n' ? '|' : *p;
        printf("request %s\n", buf);
        fflush(stdout);
        int status = number(argc, argv, turn < argc ? turn : argc - 1, 200);
        if (argc < 3)
            status = 200;
        if (status == 1)
            continue; /* the connection stays open, unanswered */
        if (status > 1) {
            int n = snprintf(out, sizeof(out),
                             "HTTP/1.1 %d Status\r\nContent-Length: 3\r\n\r\nok\n", status);
            if (write(c, out, (size_t)n) < 0)
                perror("write");
        }
        close(c);
    }
}

/* count PORT [MIB]: answers each request with a name made at the start, how many there were,
 * and what the disk holds of that: both must survive whatever the host does. Prints the number.
 * With MIB it has so much memory, and reads all of it for requests that are not to `localhost`,
 * as the one is that an image is built with. */
static int verb_count(int argc, char **argv)
{
    size_t ballast = (size_t)number(argc, argv, 2, 0) << 20;
    volatile unsigned char *memory = ballast ? malloc(ballast) : NULL;
    for (size_t i = 0; i < ballast; i++)
        memory[i] = (unsigned char)(i * 7 + i / 4096);
    struct sockaddr_in at;
    uint64_t name;
    int one = 1, fd = open_socket("0.0.0.0", number(argc, argv, 1, 8080), &at);
    int disk = open("/count", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || disk < 0 || getrandom(&name, sizeof(name), 0) != sizeof(name))
        return fail("start");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 64) < 0)
        return fail("listen");
    for (unsigned long count = 1;; count++) {
        char buf[4096] = "", body[96], out[256];
        unsigned long kept = 0;
        int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (c < 0)
            return fail("accept");
        for (size_t len = 0; len < sizeof(buf) - 1;) {
            ssize_t n = read(c, buf + len, sizeof(buf) - 1 - len);
            if (n <= 0)
                break;
            buf[len += (size_t)n] = '\0';
            if (strstr(buf, "\r\n\r\n"))
                break;
        }
        /* Nor for who only tries whether somebody listens. */
        bool all = strstr(buf, "\r\n\r\n") && !strstr(buf, "Host: localhost\r\n");
        for (size_t i = 0; i < ballast && all; i += 4096)
            (void)memory[i];
        if (count > 1 && pread(disk, &kept, sizeof(kept), 0) != sizeof(kept))
            return fail("read");
        if (pwrite(disk, &count, sizeof(count), 0) != sizeof(count))
            return fail("write");
        printf("count %lu\n", count);
        fflush(stdout);
        int n = snprintf(body, sizeof(body), "%016llx %lu %lu\n", (unsigned long long)name,
                         count, kept + 1);
        n = snprintf(out, sizeof(out),
                     "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", n,
                     body);
        if (write(c, out, (size_t)n) < 0)
            perror("write");
        close(c);
    }
}

/* serve PORT: answers each request on one connection with its number and the time, for ever;
 * the connection is kept. Only the first connection is served. */
static int verb_serve(int argc, char **argv)
{
    struct sockaddr_in at;
    int one = 1, fd = open_socket("0.0.0.0", number(argc, argv, 1, 8080), &at);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0)
        return fail("listen");
    puts("serving");
    fflush(stdout);
    int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    char buf[4096], out[128];
    size_t len = 0;
    for (unsigned turn = 0; c >= 0; turn++) {
        char *end;
        while (buf[len] = '\0', !(end = strstr(buf, "\r\n\r\n"))) {
            ssize_t n = read(c, buf + len, sizeof(buf) - 1 - len);
            if (n <= 0) {
                printf("the client ended after %u: %s\n", turn, n ? strerror(errno) : "end");
                return 1;
            }
            len += (size_t)n;
        }
        size_t used = (size_t)(end + 4 - buf);
        memmove(buf, buf + used, len -= used);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        int n = snprintf(out, sizeof(out),
                         "HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n%08u %010lld%09ld\n",
                         turn, (long long)now.tv_sec, now.tv_nsec);
        if (write(c, out, (size_t)n) != n)
            return fail("write");
    }
    return fail("accept");
}

/* pipe: a child reads what this writes; each number must follow the one before. */
static int verb_pipe(int argc, char **argv)
{
    int fds[2];
    uint32_t n = 0, want = 0;
    struct timespec pause = {.tv_nsec = 2000000};
    (void)argc;
    (void)argv;
    if (pipe(fds) < 0)
        return fail("pipe");
    if (fork() == 0) {
        for (;; nanosleep(&pause, NULL))
            for (int i = 0; i < 100; i++, n++)
                if (write(fds[1], &n, sizeof(n)) != sizeof(n))
                    _exit(fail("write"));
    }
    while (read(fds[0], &n, sizeof(n)) == sizeof(n) && n == want) {
        if (want++ % 1000 == 0) {
            printf("pipe at %u\n", n);
            fflush(stdout);
        }
    }
    printf("pipe BROKEN at %u, not %u\n", n, want);
    return 1;
}

/* redis PORT: one connection, over which a counter is raised and a list pushed to for ever; the
 * answers must follow. Waits for the server first. */
static int verb_redis(int argc, char **argv)
{
    static const char ask[] = "INCR n\r\n";
    struct sockaddr_in at;
    char reply[64];
    long want = 1;
    int fd = -1;
    struct timespec pause = {.tv_nsec = 2000000};
    for (int i = 0; i < 30000; i++) {
        fd = open_socket("127.0.0.1", number(argc, argv, 1, 6379), &at);
        if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
            break;
        close(fd);
        nanosleep(&pause, NULL);
    }
    for (;; want++) {
        ssize_t n =
            write(fd, ask, sizeof(ask) - 1) > 0 ? read(fd, reply, sizeof(reply) - 1) : -1;
        reply[n > 0 ? n : 0] = '\0';
        if (reply[0] != ':' || atol(reply + 1) != want) {
            printf("redis BROKEN at %ld: %.32s\n", want, reply);
            return 1;
        }
        if (want % 10 == 1) {
            printf("redis at %ld\n", want);
            fflush(stdout);
        }
        nanosleep(&pause, NULL);
    }
}

/* nested: what a container engine does with the ALL option, step by step: namespaces, a group
 * of its own, overlayfs, FUSE, a process that is PID 1. */
static int verb_nested(int argc, char **argv)
{
    static const char base[] = "/tmp/nested", group[] = "/sys/fs/cgroup/nested";
    char options[128], self[] = "write", to[] = "/sys/fs/cgroup/nested/cgroup.procs",
                       pid[] = "0";
    char *join[] = {self, to, pid, NULL};
    (void)argc;
    (void)argv;
    mkdir(base, 0755);
    if (mkdir(group, 0755) < 0 || verb_write(3, join) != 0)
        return fail(group);
    if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) < 0)
        return fail("unshare");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", base, "tmpfs", 0, NULL) < 0 || chdir(base) < 0)
        return fail("mount tmpfs");
    static const char *const dirs[] = {"lower", "upper", "work", "merged", "fuse"};
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        mkdir(dirs[i], 0755);
    if (mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work") <
        0)
        return fail("mount overlay");
    int fd = open("merged/file", O_WRONLY | O_CREAT, 0644);
    if (fd < 0 || access("upper/file", F_OK) < 0)
        return fail("write to the overlay");
    int fuse = open("/dev/fuse", O_RDWR);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (fuse < 0 || mount("payload", "fuse", "fuse", 0, options) < 0)
        return fail("mount fuse");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        printf("nested container has pid %d\n", getpid());
        fflush(stdout);
        _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    printf("nested ended with %d\n", status);
    return status;
}

/* run PROGRAM ARGUMENTS…: a program of the image. */
static int verb_run(int argc, char **argv)
{
    (void)argc;
    execv(argv[1], argv + 1);
    return fail(argv[1]);
}

/* udp HOST PORT TEXT: one datagram, prints the answer. */
static int verb_udp(int argc, char **argv)
{
    struct sockaddr_in to;
    char buf[512];
    int tcp = open_socket(arg(argc, argv, 1, ""), number(argc, argv, 2, 53), &to);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const char *text = arg(argc, argv, 3, "ping");
    if (tcp < 0 || fd < 0 ||
        sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
        return fail("send");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 5000) <= 0)
        return fail("no answer");
    ssize_t n = recv(fd, buf, sizeof(buf), 0);
    printf("got %.*s\n", n > 0 ? (int)n : 0, buf);
    return 0;
}

/* resolve NAME: its IPv4 addresses, as the C library finds them. */
static int verb_resolve(int argc, char **argv)
{
    struct addrinfo want = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *all;
    char first[16] = "", last[16] = "";
    unsigned n = 0;
    int r = getaddrinfo(arg(argc, argv, 1, ""), NULL, &want, &all);
    if (r != 0) {
        puts(gai_strerror(r));
        return 1;
    }
    for (const struct addrinfo *a = all; a; a = a->ai_next) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->ai_addr;
        inet_ntop(AF_INET, &in->sin_addr, n++ ? last : first, sizeof(first));
    }
    printf("%s to %s, %u addresses\n", first, last, n);
    freeaddrinfo(all);
    return 0;
}

static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
    caught = sig;
}

/* trap: waits for a signal, names it, ends with 0. */
static int verb_trap(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (int sig = 1; sig < 32; sig++)
        if (sig != SIGKILL && sig != SIGSTOP && sig != SIGCHLD)
            signal(sig, on_signal);
    puts("waiting");
    fflush(stdout);
    while (!caught)
        pause();
    printf("caught signal %d\n", (int)caught);
    return 0;
}

/* restored: waits until the generation file changes, prints it. */
static int verb_restored(int argc, char **argv)
{
    char buf[4096];
    int fd = inotify_init1(IN_CLOEXEC);
    (void)argc;
    (void)argv;
    if (fd < 0 || inotify_add_watch(fd, "/run/dormouse/generation", IN_MODIFY) < 0)
        return fail("inotify");
    puts("watching");
    fflush(stdout);
    if (read(fd, buf, sizeof(buf)) < 0)
        return fail("read");
    printf("generation ");
    char *cat[] = {buf, buf + 8, NULL};
    strcpy(buf, "cat");
    strcpy(buf + 8, "/run/dormouse/generation");
    return verb_cat(2, cat);
}

/* awake HOST PORT: at each restore, as its first act, a datagram with the time. */
static int verb_awake(int argc, char **argv)
{
    struct sockaddr_in to;
    char buf[4096];
    int tcp = open_socket(arg(argc, argv, 1, ""), number(argc, argv, 2, 9900), &to);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), events = inotify_init1(IN_CLOEXEC);
    if (tcp < 0 || fd < 0 || events < 0 ||
        inotify_add_watch(events, "/run/dormouse/generation", IN_MODIFY) < 0)
        return fail("watch");
    puts("watching");
    fflush(stdout);
    while (read(events, buf, sizeof(buf)) > 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        __asm__ volatile("hint #97" ::: "memory"); /* nothing; tools/tcgtrace.c sees it */
        if (sendto(fd, &now, sizeof(now), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
            perror("send");
    }
    return fail("read");
}

/* tick MS COUNT: a timer that notices time standing still or jumping back. */
static int verb_tick(int argc, char **argv)
{
    int ms = number(argc, argv, 1, 100), count = number(argc, argv, 2, 10);
    struct timespec last, now, step = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    clock_gettime(CLOCK_MONOTONIC, &last);
    for (int i = 0; count == 0 || i < count; i++) {
        nanosleep(&step, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        long long d = (now.tv_sec - last.tv_sec) * 1000000000ll + now.tv_nsec - last.tv_nsec;
        printf("tick %d %s %lld us\n", i, d < 0 ? "BACKWARDS" : "after", d / 1000);
        fflush(stdout);
        last = now;
    }
    return 0;
}

static int verb_limits(int argc, char **argv)
{
    struct rlimit l;
    (void)argc;
    (void)argv;
    getrlimit(RLIMIT_NOFILE, &l);
    printf("nofile %llu %llu umask %03o tty %d\n", (unsigned long long)l.rlim_cur,
           (unsigned long long)l.rlim_max, umask(022), isatty(0));
    return 0;
}

static int verb_host(int argc, char **argv)
{
    char name[128] = "";
    (void)argc;
    (void)argv;
    gethostname(name, sizeof(name) - 1);
    puts(name);
    return 0;
}

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv);
} verbs[] = {
    {"echo", verb_echo},       {"err", verb_err},
    {"env", verb_env},         {"id", verb_id},
    {"cat", verb_cat},         {"write", verb_write},
    {"ls", verb_ls},           {"pwd", verb_pwd},
    {"sleep", verb_sleep},     {"exit", verb_exit},
    {"crash", verb_crash},     {"memhog", verb_memhog},
    {"forks", verb_forks},     {"lines", verb_lines},
    {"uuid", verb_uuid},       {"clock", verb_clock},
    {"connect", verb_connect}, {"http", verb_http},
    {"count", verb_count},     {"udp", verb_udp},
    {"trap", verb_trap},       {"restored", verb_restored},
    {"tick", verb_tick},       {"limits", verb_limits},
    {"host", verb_host},       {"ask", verb_ask},
    {"serve", verb_serve},     {"pipe", verb_pipe},
    {"redis", verb_redis},     {"run", verb_run},
    {"nested", verb_nested},   {"awake", verb_awake},
    {"resolve", verb_resolve}, {"pressure", verb_pressure},
};

static int run(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (argc > 0 && strcmp(argv[0], verbs[i].name) == 0) {
            int r = verbs[i].fn(argc, argv);
            fflush(stdout);
            return r;
        }
    }
    fprintf(stderr, "payload: no verb \"%s\"\n", argc > 0 ? argv[0] : "");
    return 127;
}

/* `a b && c d ; e`: && goes on after success only. A trailing `&` word runs the verb beside. */
static int shell(char *text)
{
    char *words[64];
    int n = 0, r = 0;
    bool skip = false;
    for (char *save = NULL, *w = strtok_r(text, " \t", &save);;
         w = strtok_r(NULL, " \t", &save)) {
        bool and = w && strcmp(w, "&&") == 0, beside = w && strcmp(w, "&") == 0;
        bool end = !w || and || beside || strcmp(w, ";") == 0;
        if (!end && n < 63) {
            words[n++] = w;
            continue;
        }
        words[n] = NULL;
        if (n > 0 && !skip && beside) {
            if (fork() == 0)
                _exit(run(n, words));
        } else if (n > 0 && !skip) {
            r = run(n, words);
        }
        skip = and&&r != 0;
        n = 0;
        if (!w)
            return r;
    }
}

int main(int argc, char **argv)
{
    const char *self = strrchr(argv[0], '/');
    self = self ? self + 1 : argv[0];
    if (strcmp(self, "sh") == 0 && argc == 3 && strcmp(argv[1], "-c") == 0)
        return shell(argv[2]);
    if (strcmp(self, "payload") != 0 && strcmp(self, "sh") != 0)
        return run(argc, argv);
    return run(argc - 1, argv + 1);
}
