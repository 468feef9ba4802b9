// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-init in real microVMs: start, logs, hooks, commands, files, builds,
 * snapshot, clones, suspend and resume, the ways to end. Runs on an arm64 host
 * with KVM (the emulated one in `make check-vm`).
 *     guest_drive VMM KERNEL INITRD ROOT [DIR]
 * ROOT is an ext4 image whose /bin/sh and verbs are tests/guests/payload.c, with
 * a user web:1000:1001 that is also in the group extra:2000.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../tap.h"
#include "guest_client.h"
#include "guest_dns.h"
#include "guest_host.h"
#include "guest_net.h"
#include "guest_upstream.h"
#include "guest_zip.h"

/* ---- tests ---- */

TEST(start_is_refused)
{
    struct tlv_writer w = fields();
    struct disk d = root_disk(arg.disk);
    if (!CHECK(copy_file(arg.root, arg.disk)) || !CHECK(guest_boot(&g, &arg.s, &d, 1)))
        return;
    args(&w, ARGS("echo", "x"));
    CHECK(guest_ask(&g, GP_START, &w) && g.answer.num == EINVAL);
    w = fields();
    tlv_put_str(&w, GP_T_DISK, "other");
    CHECK(guest_ask(&g, GP_MOUNT_ROOT, &w) && g.answer.num == ENODEV);
    w = fields();
    tlv_put_str(&w, GP_T_DISK, "root");
    CHECK(guest_ok(&g, GP_MOUNT_ROOT, &w));
    CHECK(guest_ask(&g, GP_MOUNT_ROOT, &w) && g.answer.num == EBUSY);
    CHECK(guest_ask(&g, GP_START, NULL) && g.answer.num == EINVAL);
    CHECK(guest_ask(&g, 55, NULL) && g.answer.num == EOPNOTSUPP);
    w = fields();
    args(&w, ARGS("nothere"));
    CHECK(guest_ask(&g, GP_START, &w));
    CHECK_STR(g.answer.text, "exec: \"nothere\": executable file not found in $PATH");
    w = fields();
    args(&w, ARGS("echo"));
    tlv_put_str(&w, GP_T_USER, "nobody");
    CHECK(guest_ask(&g, GP_START, &w));
    CHECK_STR(g.answer.text, "unable to find user nobody: no matching entries in passwd file");
    CHECK(guest_ok(&g, GP_STATS, NULL) && g.answer.mem_total > (200ull << 20));
    CHECK(guest_kill(&g));
}

/* The KiB behind a name in /proc/meminfo, as `out` has it. */
static unsigned long meminfo(const char *name)
{
    const char *at = strstr(out, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

TEST(idle_memory)
{
    if (!machine_up(&g) || !start(&g, ARGS("sleep")) ||
        !CHECK(run_in(&g, ARGS("cat", "/proc/meminfo"))))
        return;
    unsigned long total = meminfo("MemTotal:"), unused = meminfo("MemFree:");
    printf("# an idle guest uses %lu KiB of %lu: slab %lu, kernel stacks %lu, page cache %lu\n",
           total - unused, total, meminfo("Slab:"), meminfo("KernelStack:"),
           meminfo("Cached:") + meminfo("Buffers:"));
    CHECK(unused > 0 && total - unused <= 5 << 10);
    CHECK(guest_kill(&g));
}

TEST(container_view)
{
    struct tlv_writer w = fields();
    if (!machine_up(&g))
        return;
    args(&w, ARGS("sh", "-c",
                  "id ; env ; pwd ; limits ; host ; cat /proc/self/cgroup /etc/hostname ; "
                  "cat /proc/self/status ; ls /dev ; ls /proc ; cat /proc/self/mountinfo ; "
                  "write /proc/sys/kernel/hostname x ; write /etc/motd mine ; cat /etc/motd ; "
                  "err oops ; exit 7"));
    tlv_put_str(&w, GP_T_ENV, "GREETING=hello world");
    tlv_put_str(&w, GP_T_USER, "web");
    tlv_put_str(&w, GP_T_WORKDIR, "/srv/made");
    tlv_put_str(&w, GP_T_HOSTNAME, "first");
    CHECK(guest_ok(&g, GP_START, &w));
    CHECK(guest_exited(&g));
    CHECK(g.exited.has_exit && g.exited.exit_status == 7 && !g.exited.oom);
    CHECK(has("1 uid=1000 gid=1001 groups=2000 pid=1\n"));
    CHECK(has("1 GREETING=hello world\n") && has("1 HOME=/home/web\n"));
    CHECK(has("1 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
    CHECK(has("1 /srv/made\n") && has("1 nofile 1024 1048576 umask 022 tty 0\n"));
    CHECK(has("1 first\n1 0::/\n1 first\n"));
    CHECK(has("CapBnd:\t00000000a80425fb") && has("NoNewPrivs:\t1") &&
          has("CapEff:\t0000000000000000"));
    CHECK(has("1 020666 0:0 0 ") && has(" ptmx -> pts/ptmx\n") && has(" full\n"));
    CHECK(has(" / /sys ro,") && has(" /proc/sys ro,") && has(" / /dev/shm rw,"));
    CHECK(!strstr(g.text, " 2\n")); /* no other process in /proc */
    CHECK(has("2 /proc/sys/kernel/hostname: ") && has("2 /etc/motd: Permission denied"));
    CHECK(has("2 oops\n"));
    CHECK(g.gaps == 0);
    close(g.ctl); /* the news has arrived: the guest may go */
    g.ctl = -1;
    CHECK(guest_ended(&g) == CTL_EXIT_POWEROFF);
}

TEST(all_capabilities)
{
    struct tlv_writer w = fields();
    if (!machine_up(&g))
        return;
    args(&w, ARGS("sh", "-c",
                  "cat /proc/self/status ; write /proc/sys/vm/swappiness 10 ; ls /dev ; "
                  "cat /proc/self/cgroup ; write /sys/fs/cgroup/cgroup.subtree_control +pids "
                  "+memory ; nested ; echo done"));
    tlv_put_u32(&w, GP_T_CAPS_ALL, 1);
    CHECK(guest_ok(&g, GP_START, &w));
    CHECK(guest_exited(&g) && g.exited.exit_status == 0);
    CHECK(has("CapEff:\t000001ffffffffff") && has("NoNewPrivs:\t0") && has(" fuse\n"));
    CHECK(has("1 0::/app\n") && has(" loop7\n"));
    CHECK(has("1 nested container has pid 1\n") && has("1 nested ended with 0\n"));
    CHECK(!strstr(g.text, "\n2 "));
    CHECK(guest_kill(&g));
}

TEST(signals_and_memory)
{
    struct tlv_writer w;
    if (!machine_up(&g) || !start(&g, ARGS("trap")) || !CHECK(guest_line(&g, 0, "waiting")))
        return;
    w = fields();
    tlv_put_u32(&w, GP_T_TIMEOUT_MS, 10000);
    CHECK(guest_ok(&g, GP_STOP, &w));
    CHECK(has("1 caught signal 15\n"));
    close(g.ctl);
    g.ctl = -1;
    CHECK(guest_ended(&g) == CTL_EXIT_POWEROFF);

    if (!machine_up(&g) || !start(&g, ARGS("sleep")))
        return;
    w = fields();
    tlv_put_u32(&w, GP_T_TIMEOUT_MS, 50); /* PID 1 without a handler ignores the signal */
    CHECK(guest_ok(&g, GP_STOP, &w));
    CHECK(guest_kill(&g));

    if (!machine_up(&g))
        return;
    w = fields();
    args(&w, ARGS("sh", "-c", "id ; trap"));
    tlv_put_u32(&w, GP_T_SIGNAL, 10); /* the image's STOPSIGNAL */
    tlv_put_str(&w, GP_T_USER, "4321:2000");
    CHECK(guest_ok(&g, GP_START, &w) && guest_line(&g, 0, "waiting"));
    CHECK(guest_ok(&g, GP_STOP, NULL));
    CHECK(has("1 caught signal 10\n") && has("1 uid=4321 gid=2000 "));
    CHECK(guest_kill(&g));

    if (!machine_up(&g) || !start(&g, ARGS("payload", "memhog")))
        return;
    CHECK(guest_exited(&g));
    CHECK(g.exited.has_signal && g.exited.signal == 9 && g.exited.oom);
    CHECK_STR(g.exited.text, "the application was ended by signal 9 (out of memory)");
    CHECK(guest_kill(&g));
}

TEST(logs)
{
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "lines 30000 ; sleep")))
        return;
    CHECK(guest_line(&g, 0, "line 29999 of 30000\n"));
    const char *p = g.text;
    unsigned n = 0;
    char want[32];
    for (; n < 30000; n++) {
        int len = snprintf(want, sizeof want, "1 line %u of 30000\n", n);
        if (strncmp(p, want, (size_t)len) != 0)
            break;
        p += len;
    }
    CHECK(n == 30000);
    CHECK(g.gaps == 0);
    CHECK(guest_kill(&g));
}

static void hook_fields(struct tlv_writer *w, const char *name, uint32_t port, uint32_t ms,
                        uint32_t retry)
{
    *w = fields();
    tlv_put_str(w, GP_T_NAME, name);
    tlv_put_u32(w, GP_T_PORT, port);
    tlv_put_u32(w, GP_T_TIMEOUT_MS, ms);
    tlv_put_u32(w, GP_T_RETRY, retry);
}

TEST(hooks)
{
    struct tlv_writer w;
    if (!machine_up(&g))
        return;
    w = fields();
    args(&w, ARGS("http", "9000", "503", "503", "200", "400", "0", "200", "1"));
    tlv_put_str(&w, GP_T_ENV, "HTTP_HOST=127.0.0.1");
    CHECK(guest_ok(&g, GP_START, &w));
    hook_fields(&w, "ready", 9000, 20000, 1);
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.status == 200 &&
          g.answer.outcome == GP_HOOK_OK);
    hook_fields(&w, "validate", 9000, 20000, 0);
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.status == 400 &&
          g.answer.outcome == GP_HOOK_HTTP);
    hook_fields(&w, "suspend", 9000, 20000, 0);
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.outcome == GP_HOOK_PROTOCOL);
    hook_fields(&w, "run", 9000, 20000, 0);
    tlv_put_str(&w, GP_T_PAYLOAD, "{\"microvmId\":\"microvm-1\"}");
    tlv_put_str(&w, GP_T_CONTENT_TYPE, "application/json");
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.outcome == GP_HOOK_OK);
    hook_fields(&w, "resume", 9000, 300, 1);
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.outcome == GP_HOOK_TIMEOUT);
    hook_fields(&w, "resume", 9001, 20000, 0);
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.outcome == GP_HOOK_REFUSED);
    hook_fields(&w, "ready", 9001, 200, 1);
    CHECK(guest_ok(&g, GP_HOOK, &w) && g.answer.outcome == GP_HOOK_REFUSED);
    hook_fields(&w, "../etc", 9001, 200, 1);
    CHECK(guest_ask(&g, GP_HOOK, &w) && g.answer.num == EINVAL);
    CHECK(guest_line(&g, 0, "runtime/v1/resume"));
    CHECK(has(
        "request POST /aws/lambda-microvms/runtime/v1/ready HTTP/1.1||Host: localhost:9000||"));
    CHECK(has("runtime/v1/run HTTP/1.1||"));
    CHECK(has(
        "Content-Type: application/json||Content-Length: 25||||{\"microvmId\":\"microvm-1\"}"));
    CHECK(has("Content-Length: 0||||\n"));
    CHECK(guest_kill(&g));
}

TEST(commands)
{
    struct tlv_writer w;
    if (!machine_up(&g) || !start(&g, ARGS("sleep")))
        return;
    CHECK(run_in(&g, ARGS("sh", "-c", "id ; host ; env HOME")));
    CHECK(strstr(out, "uid=0 gid=0 groups= pid=2\nfirst\nHOME=/root\n") != NULL);
    w = fields();
    args(&w, ARGS("sh", "-c", "cat - ; id ; pwd ; err bad ; exit 3"));
    tlv_put_str(&w, GP_T_USER, "web");
    tlv_put_str(&w, GP_T_WORKDIR, "/tmp");
    CHECK(guest_command(&g, &w, "some input\n", out, sizeof out, &last));
    CHECK(last.has_exit && last.exit_status == 3);
    CHECK(strstr(out, "some input\nuid=1000 ") && strstr(out, "/tmp\n") &&
          strstr(out, "bad\n"));
    w = fields();
    args(&w, ARGS("sleep"));
    tlv_put_u32(&w, GP_T_TIMEOUT_MS, 100);
    CHECK(guest_command(&g, &w, NULL, out, sizeof out, &last));
    CHECK(last.has_signal && last.signal == 9);
    CHECK_STR(last.text, "the command was killed: its time was up");
    w = fields();
    args(&w, ARGS("nothere"));
    CHECK(!guest_command(&g, &w, NULL, out, sizeof out, &last) && last.num == ENOENT);
    w = fields();
    /* What is typed is read first: its echo must not fall into other output. */
    args(&w, ARGS("sh", "-c", "cat - ; limits"));
    tlv_put_u32(&w, GP_T_PTY, 1);
    CHECK(guest_command(&g, &w, "typed\r", out, sizeof out, &last));
    CHECK(strstr(out, "tty 1\r\n") && strstr(out, "typed\r\n"));
    w = fields();
    args(&w, ARGS("payload", "lines", "20000"));
    CHECK(guest_command(&g, &w, NULL, out, sizeof out, &last) && last.exit_status == 0);
    CHECK(strncmp(out, "line 0 of 20000\n", 16) == 0);
    CHECK(guest_kill(&g));
}

TEST(files)
{
    struct tlv_writer w;
    if (!machine_up(&g) || !start(&g, ARGS("sleep")))
        return;
    w = fields();
    tlv_put_str(&w, GP_T_PATH, "/workspace/a/b.txt");
    tlv_put_u32(&w, GP_T_MODE, 0640);
    tlv_put_str(&w, GP_T_USER, "web");
    int fd = stream_open(&g, GP_FILE_WRITE, &w);
    w = fields();
    tlv_put_str(&w, GP_T_DATA, "first ");
    CHECK(stream_send(fd, GP_STDIN, &w));
    w = fields();
    tlv_put_str(&w, GP_T_DATA, "second");
    CHECK(stream_send(fd, GP_STDIN, &w) && stream_send(fd, GP_STDIN, NULL));
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == 0);
    close(fd);
    CHECK(run_in(&g, ARGS("sh", "-c", "ls /workspace/a ; cat /workspace/a/b.txt")));
    CHECK(strncmp(out, "100640 1000:1001 12 ", 20) == 0 && strstr(out, "first second"));

    w = fields();
    tlv_put_str(&w, GP_T_PATH, "/workspace/a/b.txt");
    tlv_put_u64(&w, GP_T_OFFSET, 6);
    tlv_put_u64(&w, GP_T_LIMIT, 3);
    fd = stream_open(&g, GP_FILE_READ, &w);
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == 0);
    CHECK_STR((const char *)last.data, "sec");
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == 0 && last.eof == 0 &&
          last.size == 12);
    close(fd);
    w = fields();
    tlv_put_str(&w, GP_T_PATH, "/nothere");
    fd = stream_open(&g, GP_FILE_READ, &w);
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == ENOENT);
    close(fd);

    w = fields();
    tlv_put_str(&w, GP_T_PATH, "/workspace/a");
    fd = stream_open(&g, GP_FILE_LIST, &w);
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == 0);
    CHECK(strncmp((const char *)last.data, "f 640 12 ", 9) == 0);
    CHECK(stream_next(fd, &last) == GP_REPLY && last.eof == 1);
    close(fd);
    CHECK(guest_kill(&g));
}

TEST(forward)
{
    static const char ask[] = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    char reply[256] = "";
    struct tlv_writer w;
    if (!machine_up(&g))
        return;
    w = fields();
    args(&w, ARGS("http", "8080"));
    tlv_put_str(&w, GP_T_ENV, "HTTP_HOST=127.0.0.1");
    CHECK(guest_ok(&g, GP_START, &w) && guest_line(&g, 0, "listening"));
    w = fields();
    tlv_put_u32(&w, GP_T_PORT, 8080);
    int fd = stream_open(&g, GP_FORWARD, &w);
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == 0);
    CHECK(fd_write_full(fd, ask, sizeof ask - 1) == 0);
    size_t len = 0;
    ssize_t n;
    while (len < sizeof reply - 1 && (n = read(fd, reply + len, sizeof reply - 1 - len)) > 0)
        len += (size_t)n;
    CHECK_STR(reply, "HTTP/1.1 200 Status\r\nContent-Length: 3\r\n\r\nok\n");
    close(fd);
    w = fields();
    tlv_put_u32(&w, GP_T_PORT, 8081);
    fd = stream_open(&g, GP_FORWARD, &w);
    CHECK(stream_next(fd, &last) == GP_REPLY && last.num == ECONNREFUSED);
    close(fd);
    CHECK(guest_kill(&g));
}

/* The value between `key` and the next blank or line end, in a static buffer. */
static const char *value(const char *text, const char *key)
{
    static char buf[4][80];
    static unsigned turn;
    char *to = buf[turn++ % 4];
    const char *p = strstr(text, key);
    size_t n = p ? strcspn(p + strlen(key), " \n") : 0;
    snprintf(to, sizeof buf[0], "%.*s", (int)n, p ? p + strlen(key) : "");
    return to;
}

static bool identity(struct guest *m, char *ret, size_t size)
{
    bool ok = run_in(m, ARGS("sh", "-c",
                             "echo host && host && echo machine-id && cat /etc/machine-id && "
                             "cat /proc/sys/kernel/random/boot_id && uuid && clock && "
                             "cat /run/dormouse/generation /run/dormouse/microvm-id "
                             "/run/dormouse/endpoint"));
    snprintf(ret, size, "%s", out);
    return CHECK(ok);
}

static struct guest clone2;

TEST(image_and_clones)
{
    static char id[3][4096];
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk), d2 = root_disk(arg.disk2);
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "restored & tick 20 0")))
        return;
    CHECK(guest_line(&g, 0, "watching") && guest_line(&g, 0, "tick 5 "));
    identity(&g, id[0], sizeof id[0]);
    freeze(&g, 1);
    uint64_t seq = g.last_seq;
    CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved));
    CHECK(guest_kill(&g));
    printf("# image with a small application: %llu pages\n",
           (unsigned long long)saved.pages_stored);
    CHECK(copy_file(arg.disk, arg.disk2));
    if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, NULL)) ||
        !CHECK(guest_restore(&clone2, &arg.s, &d2, 1, arg.image, NULL)))
        return;
    uint64_t before = clock_ns();
    restored(&g, true, 1, "clone-a");
    uint64_t took = clock_ns() - before;
    restored(&clone2, true, 1, "clone-b");
    printf("# GP_RESTORED took %llu us of host time\n", (unsigned long long)took / 1000);
    CHECK(guest_line(&g, 0, "generation 1\n"));
    CHECK(guest_line(&clone2, 0, "generation 1\n"));
    CHECK(g.gaps == 0 && g.last_seq > seq);
    CHECK(!strstr(g.text, "BACKWARDS"));
    identity(&g, id[1], sizeof id[1]);
    identity(&clone2, id[2], sizeof id[2]);
    for (int i = 1; i < 3; i++) {
        CHECK(strcmp(value(id[0], "machine-id\n"), value(id[i], "machine-id\n")) != 0);
        CHECK(strcmp(value(id[0], "uuid "), value(id[i], "uuid ")) != 0);
        CHECK(strcmp(value(id[0], "random "), value(id[i], "random ")) != 0);
    }
    CHECK(strcmp(value(id[1], "machine-id\n"), value(id[2], "machine-id\n")) != 0);
    CHECK(strcmp(value(id[1], "uuid "), value(id[2], "uuid ")) != 0);
    CHECK(strcmp(value(id[1], "random "), value(id[2], "random ")) != 0);
    CHECK_STR(value(id[1], "host\n"), "clone-a");
    CHECK_STR(value(id[2], "host\n"), "clone-b");
    CHECK(strstr(id[1], "\n1\nclone-a\nhost.example\n") != NULL);
    double off = atof(value(id[2], "realtime ")) - (double)clock_ns() / 1e9;
    printf("# clock of the clone: %.3f s off, the command's time included\n", off);
    CHECK(off < 0.1 && off > -5);
    CHECK(guest_kill(&clone2));

    /* the first clone goes on as a session: suspend, resume, twice */
    for (uint64_t round = 2; round < 4; round++) {
        char old[300];
        snprintf(old, sizeof old, "%s.%llu", arg.session, (unsigned long long)round - 1);
        freeze(&g, 0);
        seq = g.last_seq;
        char path[300];
        snprintf(path, sizeof path, "%s.%llu", arg.session, (unsigned long long)round);
        CHECK(guest_save(&g, path, 0, &saved));
        CHECK(guest_kill(&g));
        printf("# session: %llu pages\n", (unsigned long long)saved.pages_stored);
        if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, path)))
            return;
        g.last_seq = seq;
        restored(&g, false, round, "clone-a");
        CHECK(guest_line(&g, 0, "tick "));
        CHECK(g.gaps == 0);
        CHECK(!strstr(g.text, "BACKWARDS"));
        identity(&g, id[2], sizeof id[2]);
        CHECK_STR(value(id[2], "machine-id\n"), value(id[1], "machine-id\n"));
        CHECK(strcmp(value(id[1], "uuid "), value(id[2], "uuid ")) != 0);
        unlink(old);
    }
    CHECK(guest_kill(&g));
}

TEST(frozen_goes_on)
{
    if (!machine_up(&g) || !start(&g, ARGS("sh", "-c", "forks 20 ; tick 10 0")))
        return;
    CHECK(guest_line(&g, 0, "tick 3 "));
    CHECK(guest_ok(&g, GP_STATS, NULL) && g.answer.procs == 21);
    freeze(&g, 0);
    CHECK(guest_ask(&g, GP_STATS, NULL));
    size_t from = g.text_len;
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_ENTROPY, 1);
    CHECK(guest_ask(&g, GP_RESTORED, &w) && g.answer.num == EINVAL); /* and stays frozen */
    CHECK(guest_ok(&g, GP_THAW, NULL));
    CHECK(guest_line(&g, from, "tick "));
    for (uint64_t i = 1; i < 4;
         i++) { /* what a restore costs without a restore's page faults */
        freeze(&g, 0);
        uint64_t before = clock_ns();
        restored(&g, true, i, "again");
        printf("# GP_RESTORED in a warm machine: %llu us of host time\n",
               (unsigned long long)(clock_ns() - before) / 1000);
    }
    CHECK(guest_kill(&g));
}

TEST(logs_held_back)
{
    if (!machine_up(&g))
        return;
    g.hold_logs = true; /* the host takes nothing: the application has to wait */
    if (!start(&g, ARGS("sh", "-c", "lines 40000 ; write /tmp/finished yes ; sleep")))
        return;
    /* 0.8 MB do not fit into pipe, ring and stream: the program cannot have come to its end */
    for (int i = 0; i < 20; i++)
        CHECK(guest_ask(&g, GP_STATS, NULL));
    CHECK(!run_in(&g, ARGS("cat", "/tmp/finished")));
    CHECK(guest_ok(&g, GP_STATS, NULL) && g.answer.procs == 1);
    g.hold_logs = false;
    bool more = true;
    while (more && g.last_seq < 40000) { /* the text does not fit here either: numbers do */
        g.text_len = 0;
        g.text[0] = '\0';
        more = guest_line(&g, 0, "line ");
    }
    CHECK(g.last_seq >= 40000);
    CHECK(g.gaps == 0);
    CHECK(guest_kill(&g));
}

/* ---- network ---- */

TEST(network)
{
    uint8_t mac[6];
    char buf[64];
    struct ctl_saved saved;
    struct disk d = root_disk(arg.disk);
    arg.s.tap = make_tap(mac);
    if (!CHECK(arg.s.tap > 0) || !machine_up(&g))
        return;
    int gateway = host_listen(SOCK_STREAM, "10.9.0.254", 7000);
    int other = host_listen(SOCK_STREAM, "10.9.0.253", 7000);
    int udp = host_listen(SOCK_DGRAM, "10.9.0.254", 53);
    CHECK(gateway >= 0 && other >= 0 && udp >= 0);
    struct tlv_writer w = fields();
    net_fields(&w, 2, mac);
    tlv_put_str(&w, GP_T_HOSTNAME, "netted");
    CHECK(guest_ok(&g, GP_NET, &w));
    CHECK(guest_ok(&g, GP_NET, &w)); /* again is nothing */
    if (!start(&g, ARGS("sh", "-c",
                        "cat /etc/resolv.conf /etc/hosts ; udp 10.9.0.254 53 ping ; "
                        "connect 10.9.0.254 7000 gw & connect 10.9.0.253 7000 other & "
                        "http 8080")))
        return;
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    CHECK(recvfrom(udp, buf, sizeof buf, 0, (struct sockaddr *)&from, &from_len) == 4);
    CHECK(from.sin_addr.s_addr == htonl(0x0a090002));
    CHECK(sendto(udp, "pong", 4, 0, (struct sockaddr *)&from, from_len) == 4);
    CHECK(guest_line(&g, 0, "1 got pong"));
    CHECK(has("1 nameserver 10.9.0.254\n") && has("1 10.9.0.2\tfirst\n"));
    int to_gateway = accept(gateway, NULL, NULL), to_other = accept(other, NULL, NULL);
    CHECK(read(to_gateway, buf, sizeof buf) == 2 && read(to_other, buf, sizeof buf) == 5);
    CHECK(guest_line(&g, 0, "listening"));
    CHECK(host_serves("10.9.0.2", 5000));

    /* a resume: what the host's proxy may still hold goes on, the rest ends at once */
    freeze(&g, 1);
    CHECK(guest_save(&g, arg.image, CTL_SAVE_FULL, &saved));
    CHECK(guest_kill(&g));
    if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, NULL)))
        return;
    w = restore_fields(false, 1, "netted");
    net_fields(&w, 2, mac);
    uint64_t before = clock_ns();
    CHECK(guest_ok(&g, GP_RESTORED, &w));
    printf("# GP_RESTORED with network took %llu us of host time\n",
           (unsigned long long)(clock_ns() - before) / 1000);
    CHECK(guest_line(&g, 0, "connection ended: "));
    CHECK(has("connection ended: Connection aborted\n"));
    CHECK(write(to_gateway, "still", 5) == 5);
    CHECK(guest_line(&g, 0, "1 got still"));
    CHECK(host_serves("10.9.0.2", 5000));
    CHECK(guest_kill(&g));

    /* a fresh run at another address: nothing goes on, but the listener does */
    if (!CHECK(guest_restore(&g, &arg.s, &d, 1, arg.image, NULL)))
        return;
    w = restore_fields(true, 2, "fresh");
    net_fields(&w, 3, mac);
    CHECK(guest_ok(&g, GP_RESTORED, &w));
    CHECK(guest_line(&g, 0, "connection ended: "));
    size_t first = (size_t)(strstr(g.text, "connection ended: ") - g.text) + 5;
    CHECK(guest_line(&g, first, "connection ended: "));
    CHECK(host_serves("10.9.0.3", 5000));
    CHECK(!host_serves("10.9.0.2", 300));
    CHECK(run_in(&g, ARGS("cat", "/etc/hosts")) && strstr(out, "10.9.0.3\tfresh\n"));
    CHECK(guest_kill(&g));
    const int fds[] = {gateway, other, udp, to_gateway, to_other, arg.s.tap};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    arg.s.tap = 0;
}

/* ---- builds ---- */

static uint32_t copy(const char *const *src, const char *dst, const char *chown)
{
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_OP, GP_BUILD_COPY);
    for (; *src; src++)
        tlv_put_str(&w, GP_T_SRC, *src);
    tlv_put_str(&w, GP_T_DST, dst);
    if (chown)
        tlv_put_str(&w, GP_T_CHOWN, chown);
    return guest_ask(&g, GP_BUILD_STEP, &w) ? g.answer.num : 9999;
}

static uint32_t run(const char *text, const char *user)
{
    struct tlv_writer w = fields();
    tlv_put_u32(&w, GP_T_OP, GP_BUILD_RUN);
    tlv_put_u32(&w, GP_T_SHELL, 1);
    tlv_put_str(&w, GP_T_ARG, text);
    tlv_put_str(&w, GP_T_USER, user);
    tlv_put_str(&w, GP_T_WORKDIR, "/srv/app");
    return guest_ask(&g, GP_BUILD_STEP, &w) && g.answer.num == 0 ? g.answer.exit_status : 9999;
}

static bool build_up(uint64_t size, uint32_t want)
{
    struct disk d[2] = {root_disk(arg.disk),
                        {.path = arg.context, .serial = "context", .read_only = true}};
    struct tlv_writer w = fields();
    tlv_put_str(&w, GP_T_DISK, "root");
    if (!CHECK(copy_file(arg.root, arg.disk)) || !CHECK(guest_boot(&g, &arg.s, d, 2)) ||
        !CHECK(guest_ok(&g, GP_MOUNT_ROOT, &w)))
        return false;
    w = fields();
    tlv_put_u32(&w, GP_T_OP, GP_BUILD_CONTEXT);
    tlv_put_str(&w, GP_T_DISK, "context");
    tlv_put_u64(&w, GP_T_SIZE, size);
    return CHECK(guest_ask(&g, GP_BUILD_STEP, &w) && g.answer.num == want);
}

TEST(build)
{
    static struct zip z;
    zip_add(&z, "Dockerfile", "FROM x\n", 0100644);
    zip_add(&z, "app/", "", 0040750);
    zip_add(&z, "app/main.py", "print(1)\n", 0100755);
    zip_add(&z, "app/sub/deep", "deep\n", 0100600);
    zip_add(&z, "app/link", "main.py", 0120777);
    zip_add(&z, "a.txt", "A\n", 0100644);
    zip_add(&z, "b.txt", "B\n", 0100644);
    zip_add(&z, "secret/key", "k\n", 0100644);
    zip_add(&z, ".dockerignore", "secret\n", 0100644);
    uint64_t size = zip_finish(&z, arg.context);
    if (!build_up(size, 0))
        return;
    CHECK(copy(ARGS("a.txt"), "/one", NULL) == 0);
    CHECK(copy(ARGS("a.txt"), "/two/", NULL) == 0);
    CHECK(copy(ARGS("*.txt"), "/three/", NULL) == 0);
    CHECK(copy(ARGS("*.txt"), "/four", NULL) == EINVAL);
    CHECK(copy(ARGS("app"), "/srv/app", "web") == 0);
    CHECK(copy(ARGS("."), "/all", NULL) == 0);
    CHECK(copy(ARGS("app/main.py"), "/tmp", NULL) == 0);
    CHECK(copy(ARGS("secret"), "/x", NULL) == ENOENT);
    CHECK(copy(ARGS("nothere"), "/x", NULL) == ENOENT);
    CHECK_STR(g.answer.text, "COPY failed: \"nothere\" is not in the build context");
    CHECK(copy(ARGS("../x"), "/x", NULL) == EINVAL);
    CHECK(run("cat /one /two/a.txt /three/b.txt ; ls /srv/app ; ls /srv/app/sub ; ls /all ; "
              "ls /tmp ; pwd ; id ; write /made by run",
              "") == 0);
    CHECK(has("4 A\n4 A\n4 B\n"));
    CHECK(has("120777 1000:1001 7 ") && has(" link -> main.py\n"));
    CHECK(has("4 100755 1000:1001 9 ") && has("4 100600 1000:1001 5 "));
    CHECK(has("4 /srv/app\n4 uid=0 "));
    CHECK(!strstr(g.text, " secret\n"));
    CHECK(run("err oops ; exit 3", "web") == 3);
    CHECK(has("4 oops\n"));
    CHECK(run("sleep 1000 & echo leaving", "") == 0); /* what is left behind ends */
    CHECK(guest_ok(&g, GP_BUILD_END, NULL));
    CHECK(guest_kill(&g));
    /* what was built is what the application finds */
    struct disk d = root_disk(arg.disk);
    struct tlv_writer w = fields();
    tlv_put_str(&w, GP_T_DISK, "root");
    if (!CHECK(guest_boot(&g, &arg.s, &d, 1)) || !CHECK(guest_ok(&g, GP_MOUNT_ROOT, &w)))
        return;
    start(&g, ARGS("cat", "/made", "/srv/app/link"));
    CHECK(guest_exited(&g) && g.exited.exit_status == 0);
    CHECK(has("1 by run\n1 print(1)\n"));
    CHECK(guest_kill(&g));
}

TEST(bad_contexts)
{
    static struct zip z, y;
    zip_add(&z, "../../etc/passwd", "x", 0100644);
    uint64_t size = zip_finish(&z, arg.context);
    if (!build_up(size, EINVAL))
        return;
    CHECK(copy(ARGS("."), "/all", NULL) == EINVAL); /* there is no context */
    CHECK(guest_kill(&g));
    zip_add(&y, "l", "/etc", 0120777);
    zip_add(&y, "l/passwd", "x", 0100644);
    size = zip_finish(&y, arg.context);
    if (!build_up(size, EINVAL))
        return;
    CHECK_STR(g.answer.text, "\"l/passwd\" lies behind the symbolic link \"l\"");
    CHECK(guest_kill(&g));
}

int main(int argc, char **argv)
{
    if (!host_args(argc, argv)) {
        fprintf(stderr, "Usage: guest_drive VMM KERNEL INITRD ROOT [DIR]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *only = getenv("ONLY");
#define MAYBE(name)                            \
    do {                                       \
        if (!only || strcmp(only, #name) == 0) \
            RUN(name);                         \
    } while (0)
    MAYBE(start_is_refused);
    MAYBE(idle_memory);
    MAYBE(container_view);
    MAYBE(all_capabilities);
    MAYBE(signals_and_memory);
    MAYBE(logs);
    MAYBE(hooks);
    MAYBE(commands);
    MAYBE(files);
    MAYBE(forward);
    MAYBE(frozen_goes_on);
    MAYBE(logs_held_back);
    MAYBE(image_and_clones);
    MAYBE(network);
    MAYBE(dns_over_tcp);
    MAYBE(upstream_declarations);
    MAYBE(upstreams);
    MAYBE(build);
    MAYBE(bad_contexts);
    return TAP_DONE();
}
