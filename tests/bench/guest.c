// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 of the guests that benchmarks measure: static, small, and the same under
 * every virtual machine monitor. It brings up what the machine has (a read of
 * the disk, eth0), prints "ready", then does what the kernel's command line
 * says:
 *     bench=idle    nothing
 *     bench=spin    reads the clock device for ever, an MMIO exit each time, and
 *                   prints a dot after every 50 reads: a restored machine shows
 *                   itself with its first instructions
 *     bench=doze    sleeps, and prints a dot every 5 ms: nearly always found idle, so that
 *                   snapshots of it are alike
 *     bench=fill    writes fill=N MiB of memory first, then nothing
 *     bench=disk    reads, writes and syncs the disk, prints bytes and time
 *     bench=net     the same with a TCP connection to the host; bench=vsock over vsock
 *     bench=off     powers off
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

/* The request is int in one C library and unsigned long in the other. */
#define RTC_READ(fd, t) syscall(SYS_ioctl, fd, RTC_RD_TIME, t)
#define READS_A_DOT     50
#define BLOCK           (64u << 10)
#define DISK_BYTES      (16u << 20)
#define SYNCS           64
#define ROUNDS          4
#define PINGS           100
#define STREAM_BYTES    (16u << 20)
#define PORT            9000
#define SAY_PORT        9001
#define HOST_IP         "198.18.0.1"
#define GUEST_IP        "198.18.0.2"
#define DOZE_NS         5000000

static char cmdline[1024];

static long number(const char *name, long def)
{
    const char *at = strstr(cmdline, name);
    return at ? strtol(at + strlen(name), NULL, 10) : def;
}

/* To the console, or as a datagram where the machine has none that the kernel knows. */
static int say_fd = 1;

static void say(const char *text)
{
    ssize_t n = write(say_fd, text, strlen(text));
    (void)n;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void bring_up(void)
{
    static char block[4096];
    int disk = open("/dev/vda", O_RDONLY | O_CLOEXEC);
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifr = {.ifr_flags = IFF_UP};
    if (disk >= 0 && read(disk, block, sizeof block) < 0)
        say("the disk cannot be read\n");
    if (disk >= 0)
        close(disk);
    strcpy(ifr.ifr_name, "eth0");
    if (sock >= 0) {
        ioctl(sock, SIOCSIFFLAGS, &ifr); /* there may be none */
        close(sock);
    }
}

static void network(void)
{
    struct ifreq ifr = {.ifr_flags = 0};
    struct sockaddr_in at = {.sin_family = AF_INET};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(ifr.ifr_name, "eth0");
    inet_pton(AF_INET, GUEST_IP, &at.sin_addr);
    memcpy(&ifr.ifr_addr, &at, sizeof at);
    if (sock < 0 || ioctl(sock, SIOCSIFADDR, &ifr) < 0)
        say("no address for eth0\n");
    inet_pton(AF_INET, "255.255.255.0", &at.sin_addr);
    memcpy(&ifr.ifr_netmask, &at, sizeof at);
    if (sock < 0 || ioctl(sock, SIOCSIFNETMASK, &ifr) < 0)
        say("no netmask for eth0\n");
    close(sock);
}

static void say_by_network(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(SAY_PORT)};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    network();
    inet_pton(AF_INET, HOST_IP, &to.sin_addr);
    if (sock >= 0 && connect(sock, (struct sockaddr *)&to, sizeof to) == 0)
        say_fd = sock;
}

static void spin(void)
{
    struct rtc_time t;
    int rtc = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
    if (rtc < 0) {
        say("no clock device\n");
        return;
    }
    for (;;) {
        for (unsigned i = 0; i < READS_A_DOT; i++)
            RTC_READ(rtc, &t);
        say(".\n"); /* a line: consoles may buffer */
    }
}

static void doze(void)
{
    for (;;) {
        nanosleep(&(struct timespec){.tv_nsec = DOZE_NS}, NULL);
        say(".\n");
    }
}

/* No two pages alike, and none of them easy to compress. */
static void fill(size_t bytes)
{
    uint64_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t state = 1;
    if (p == MAP_FAILED) {
        say("no memory to fill\n");
        return;
    }
    for (size_t i = 0; i < bytes / sizeof *p; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        p[i] = state;
    }
}

static void result(const char *what, uint64_t amount, const char *unit, uint64_t since)
{
    char line[128];
    snprintf(line, sizeof line, "result %s %llu %s in %llu ns\n", what,
             (unsigned long long)amount, unit, (unsigned long long)(now_ns() - since));
    say(line);
}

/* ---- the disk ---- */

/* Bytes from the start in pieces, by pread or pwrite. */
static void pieces(int fd, uint8_t *buf, const char *what, bool write, size_t size, off_t bytes)
{
    uint64_t t = now_ns();
    for (off_t at = 0; at < bytes; at += (off_t)size) {
        ssize_t n = write ? pwrite(fd, buf, size, at) : pread(fd, buf, size, at);
        if (n != (ssize_t)size)
            say("the disk failed\n");
    }
    result(what, (uint64_t)bytes, "bytes", t);
}

static void disk(void)
{
    uint8_t *buf = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || buf == MAP_FAILED) {
        say("no disk\n");
        return;
    }
    pieces(fd, buf, "warm-up", true, BLOCK, DISK_BYTES); /* its file had holes */
    for (int round = 0; round < ROUNDS; round++) {
        pieces(fd, buf, "write", true, BLOCK, DISK_BYTES);
        pieces(fd, buf, "read", false, BLOCK, DISK_BYTES);
        pieces(fd, buf, "write-4k", true, 4096, DISK_BYTES / 4);
        pieces(fd, buf, "read-4k", false, 4096, DISK_BYTES / 4);
        uint64_t t = now_ns();
        for (int i = 0; i < SYNCS; i++)
            if (pwrite(fd, buf, 4096, i * 4096) != 4096 || fdatasync(fd) < 0)
                say("sync failed\n");
        result("fsync", SYNCS, "calls", t);
    }
    say("finished\n");
}

/* ---- network and vsock: a stream to the host, see devices.c ---- */

static int stream(char what)
{
    bool vsock = strstr(cmdline, "bench=vsock") != NULL;
    struct sockaddr_in ip = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct sockaddr_vm vm = {
        .svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_HOST};
    const struct sockaddr *to = vsock ? (struct sockaddr *)&vm : (struct sockaddr *)&ip;
    int one = 1, fd = socket(vsock ? AF_VSOCK : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, HOST_IP, &ip.sin_addr);
    if (!vsock)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd < 0 || connect(fd, to, vsock ? sizeof vm : sizeof ip) < 0 ||
        write(fd, &what, 1) != 1) {
        say("no connection to the host\n");
        return -1;
    }
    return fd;
}

static void streams(void)
{
    static uint8_t data[BLOCK];
    char byte = 'x';
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t t = now_ns();
        int fd = stream('e');
        result("connect", 1, "calls", t);
        t = now_ns();
        for (int i = 0; i < PINGS; i++)
            if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
                say("the connection failed\n");
        result("ping", PINGS, "calls", t);
        close(fd);
        fd = stream('s');
        t = now_ns();
        for (size_t n = 0; n < STREAM_BYTES; n += sizeof data)
            for (size_t k = 0; k < sizeof data;) {
                ssize_t w = write(fd, data + k, sizeof data - k);
                if (w <= 0) {
                    say("the connection failed\n");
                    return;
                }
                k += (size_t)w;
            }
        shutdown(fd, SHUT_WR);
        if (read(fd, &byte, 1) != 1)
            say("the host did not take it\n");
        result("send", STREAM_BYTES, "bytes", t);
        close(fd);
        fd = stream('r');
        t = now_ns();
        size_t got = 0;
        for (ssize_t n; (n = read(fd, data, sizeof data)) > 0;)
            got += (size_t)n;
        result("receive", got, "bytes", t);
        close(fd);
    }
    say("finished\n");
}

int main(void)
{
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int tty = open("/dev/console", O_RDWR);
    if (tty >= 0) {
        dup2(tty, 1);
        dup2(tty, 2);
    }
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, cmdline, sizeof cmdline - 1) < 0)
        cmdline[0] = '\0';
    bring_up();
    if (strstr(cmdline, "bench.say=net"))
        say_by_network();
    if (strstr(cmdline, "bench=fill"))
        fill((size_t)number("fill=", 1) << 20);
    say("ready\n");
    if (strstr(cmdline, "bench=spin"))
        spin();
    if (strstr(cmdline, "bench=doze"))
        doze();
    if (strstr(cmdline, "bench=disk"))
        disk();
    if (strstr(cmdline, "bench=net"))
        network();
    if (strstr(cmdline, "bench=net") || strstr(cmdline, "bench=vsock"))
        streams();
    if (strstr(cmdline, "bench=off"))
        reboot(RB_POWER_OFF);
    for (;;)
        pause();
}
