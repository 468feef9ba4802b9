// SPDX-License-Identifier: Apache-2.0
/* dormouse doctor: what is in order, what is not, and the command that repairs it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "dial.h"
#include "text.h"

#define CGROUP2_MAGIC   0x63677270
#define KVM_GET_VERSION _IO(0xae, 0x00) /* linux/kvm.h */
#define KVM_VERSION     12
#define SKEW_WARN       60
#define SKEW_FAIL       900 /* signatures are refused */

const struct opt opts_doctor[] = {
    {"host", 0, NULL, "check this machine as a host, too (done by itself on ARM64)"},
    {NULL, 0, NULL, NULL},
};

enum verdict { GOOD, WARN, BAD };

struct checkup {
    struct cli *c;
    json_t *list;
    bool bad;
    int status; /* of the first bad one */
};

static void say(struct checkup *k, enum verdict v, const char *name, const char *repair,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void say(struct checkup *k, enum verdict v, const char *name, const char *repair,
                const char *fmt, ...)
{
    static const char *const words[] = {"ok", "warn", "fail"};
    static const char *const colors[] = {"\033[32m", "\033[33m", "\033[1;31m"};
    char text[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (v == BAD) {
        k->bad = true;
        k->status = k->status ? k->status : CLI_FAILED;
    }
    json_t *entry =
        json_pack("{s:s, s:s, s:s}", "check", name, "result", words[v], "text", text);
    if (v != GOOD && repair && entry)
        json_object_set_new(entry, "try", json_string(repair));
    json_array_append_new(k->list, entry);
    if (k->c->json)
        return;
    bool color = k->c->color_out;
    printf("%s%-4s%s  %-12s ", color ? colors[v] : "", words[v], color ? "\033[0m" : "", name);
    text_print(stdout, text, strlen(text), k->c->safe_out);
    putchar('\n');
    if (v != GOOD && repair && *repair) {
        printf("                   try: ");
        text_print(stdout, repair, strlen(repair), k->c->safe_out);
        putchar('\n');
    }
}

/* The failure of a call as a finding. */
static void say_failure(struct checkup *k, const char *name, int status)
{
    const struct cli_fail *f = &k->c->fail;
    k->status = k->status ? k->status : status;
    say(k, BAD, name, f->e.hint, "%s", f->e.msg);
}

/* ---- the way to the host ------------------------------------------------------------- */

static bool check_settings(struct checkup *k)
{
    struct cli *c = k->c;
    int rc = cli_open(c);
    if (rc) {
        say_failure(k, "settings", rc);
        return false;
    }
    say(k, GOOD, "settings", NULL, "%s, region %s, authority %s", c->set.url, c->set.region,
        c->set.ca ? c->set.ca : "of the system");
    return true;
}

static void check_clock(struct checkup *k, int64_t date)
{
    long long skew = (long long)(time(NULL) - date);
    long long off = skew < 0 ? -skew : skew;
    if (!date)
        say(k, WARN, "clock", NULL, "the host does not say what time it has");
    else if (off < SKEW_WARN)
        say(k, GOOD, "clock", NULL, "agrees with the host's");
    else
        say(k, off < SKEW_FAIL ? WARN : BAD, "clock", "sudo timedatectl set-ntp true",
            "%lld s %s the host's%s", off, skew > 0 ? "ahead of" : "behind",
            off < SKEW_FAIL ? "" : "; signatures are not accepted");
}

static bool check_reachable(struct checkup *k)
{
    AUTO(api_answer_free) struct api_answer a;
    const struct api_request r = {.method = "GET", .path = "/healthz", .plain = true};
    struct cli *c = k->c;
    int64_t begin = clock_ms();
    int rc = cli_request(c, &r, &a);
    if (rc) {
        say_failure(k, "reachable", rc);
        return false;
    }
    say(k, GOOD, "reachable", NULL, "%s:%u answers in %lld ms, its certificate is trusted",
        c->set.host, c->set.port, (long long)(clock_ms() - begin));
    check_clock(k, a.date);
    return true;
}

static void check_keys(struct checkup *k)
{
    struct cli *c = k->c;
    json_t *v = NULL;
    int rc = cli_call(c, "GET", "/dormouse/v1/host", NULL, NULL, &v);
    if (rc) {
        say_failure(k, "credentials", rc);
        return;
    }
    say(k, GOOD, "credentials", NULL, "key %s is accepted", c->set.key_id);
    const char *version = json_string_value(json_object_get(v, "version"));
    const char *region = json_string_value(json_object_get(v, "region"));
    json_int_t slots = json_integer_value(json_object_get(v, "slots"));
    json_int_t used = json_integer_value(json_object_get(v, "slotsInUse"));
    json_int_t ready = json_integer_value(json_object_get(v, "embryos"));
    if (!version || strcmp(version, DORMOUSE_VERSION) != 0)
        say(k, WARN, "version", "use the dormouse program that came with the host",
            "this program is " DORMOUSE_VERSION ", the host %s", version ? version : "unknown");
    else
        say(k, GOOD, "version", NULL, DORMOUSE_VERSION " on both sides");
    if (region && strcmp(region, c->set.region) != 0)
        say(k, WARN, "region", ". build/run/env", "AWS_REGION is %s, the host's %s",
            c->set.region, region);
    if (ready == 0 && used < slots)
        say(k, WARN, "processes",
            "look at the host's log for 'cannot keep a microVM process "
            "ready'",
            "no process waits for the next microVM");
    else
        say(k, GOOD, "processes", NULL, "%lld ready, %lld of %lld in use", (long long)ready,
            (long long)used, (long long)slots);
    json_decref(v);
}

/* ---- this machine as a host ---------------------------------------------------------- */

static void check_kernel(struct checkup *k)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    uname(&u);
    if (sscanf(u.release, "%u.%u", &major, &minor) != 2 || major < 6)
        say(k, BAD, "kernel", "sudo apt install linux-image-arm64   (6.1 or later)",
            "%s %s is too old", u.sysname, u.release);
    else if (major == 6 && minor < 7)
        say(k, WARN, "kernel", "a kernel of 6.7 or later finds changed pages faster",
            "%s works, with slower suspends", u.release);
    else
        say(k, GOOD, "kernel", NULL, "%s", u.release);
    if (strcmp(u.machine, "aarch64") != 0)
        say(k, BAD, "machine", "make up   (emulates one)", "%s is not ARM64", u.machine);
}

static void check_kvm(struct checkup *k)
{
    AUTO_CLOSE int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int num = errno;
    if (fd < 0 && num == ENOENT)
        say(k, BAD, "kvm", "sudo modprobe kvm   (on a virtual machine: use a metal instance)",
            "/dev/kvm is not there");
    else if (fd < 0)
        say(k, BAD, "kvm", "sudo usermod -aG kvm $USER, then log in again", "/dev/kvm: %s",
            strerror(num));
    else if (ioctl(fd, KVM_GET_VERSION, 0) != KVM_VERSION)
        say(k, BAD, "kvm", "use a kernel with KVM", "/dev/kvm speaks another version");
    else
        say(k, GOOD, "kvm", NULL, "/dev/kvm can be used");
}

static void check_cgroup(struct checkup *k)
{
    struct statfs fs;
    if (statfs("/sys/fs/cgroup", &fs) < 0 || fs.f_type != CGROUP2_MAGIC)
        say(k, BAD, "cgroup2", "boot with systemd.unified_cgroup_hierarchy=1",
            "/sys/fs/cgroup is not cgroup version 2");
    else
        say(k, GOOD, "cgroup2", NULL, "/sys/fs/cgroup");
}

static bool program_there(const char *name)
{
    static const char *const dirs[] = {"/usr/sbin", "/sbin", "/usr/bin", "/bin",
                                       "/usr/local/sbin"};
    char path[100];
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static void check_network(struct checkup *k)
{
    char forward = '?';
    if (access("/dev/net/tun", F_OK) == 0)
        say(k, GOOD, "tun", NULL, "/dev/net/tun");
    else
        say(k, BAD, "tun", "sudo modprobe tun", "/dev/net/tun is not there");
    if (program_there("nft"))
        say(k, GOOD, "nft", NULL, "is installed");
    else
        say(k, BAD, "nft", "sudo apt install nftables", "the program nft is not there");
    AUTO_CLOSE int fd = open("/proc/sys/net/ipv4/ip_forward", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, &forward, 1) == 1 && forward == '1')
        say(k, GOOD, "forwarding", NULL, "is on");
    else
        say(k, WARN, "forwarding", "sudo sysctl -w net.ipv4.ip_forward=1",
            "IPv4 forwarding is off: microVMs reach nothing outside unless dormoused may turn "
            "it on");
}

static void check_space(struct checkup *k)
{
    struct statfs fs;
    char size[24];
    const char *dir = access("/var/lib/dormouse", F_OK) == 0 ? "/var/lib/dormouse" : "/";
    if (statfs(dir, &fs) < 0)
        return;
    uint64_t bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    human_size(bytes, size);
    say(k, bytes < 5000000000u ? WARN : GOOD, "disk",
        "free some space, or move the state: "
        "dormoused --state DIR",
        "%s free in %s", size, dir);
}

static void check_host(struct checkup *k)
{
    check_kernel(k);
    check_kvm(k);
    check_cgroup(k);
    check_network(k);
    check_space(k);
}

/* ---- the command --------------------------------------------------------------------- */

int cmd_doctor(struct cli *c, struct args *a)
{
    struct checkup k = {.c = c, .list = json_array()};
    struct utsname u;
    if (a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "doctor takes no names");
    if (check_settings(&k) && check_reachable(&k))
        check_keys(&k);
    uname(&u);
    bool here = strcmp(u.machine, "aarch64") == 0 && name_is_local(c->set.host);
    if (here || args_has(a, "host"))
        check_host(&k);
    if (c->json)
        cli_print_json(c, k.list);
    json_decref(k.list);
    return k.bad ? -k.status : CLI_OK;
}
