// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-vmm: one microVM. Two ways to start it: as an embryo that takes its
 * orders from the control socket on descriptor 3 (--vcpus N), or by hand
 * (--run, --restore). The order of set-up is the order of main(). Arguments are
 * the caller's own; everything that comes later is not trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "ctl_server.h"
#include "hand.h"
#include "jail.h"
#include "seccomp.h"

#define FD_CTL        3
#define FD_KVM        4
#define NOBODY        65534u
#define STATUS_USAGE  2
#define STATUS_FAILED 1

/* dormouse-vmm-debug: takes --no-jail for every machine, and --no-filter to try the jail
 * without the system call filter. */
#ifdef DORMOUSE_DEBUG
#define DEBUG_TWIN true
#else
#define DEBUG_TWIN false
#endif

static const char usage[] =
    "Usage: dormouse-vmm --vcpus N [--uid N]\n"
    "       dormouse-vmm --run --kernel IMAGE [options]\n"
    "       dormouse-vmm --restore IMAGE[,SESSION] [options]\n"
    "\n"
    "The first form is an embryo: control socket on descriptor 3, /dev/kvm on\n"
    "descriptor 4. The others run one machine by hand.\n"
    "\n"
    "  --vcpus N             1 to 16 (default 1)\n"
    "  --kernel FILE         arm64 Image\n"
    "  --initrd FILE         cpio archive\n"
    "  --cmdline TEXT        kernel command line (default 'console=ttyAMA0')\n"
    "  --mem SIZE            128M to 32G (default 128M)\n"
    "  --disk FILE[,OVERLAY...][:ro]   up to 4 disks: a raw file and layers over it\n"
    "  --tap NAME            network through an existing tap\n"
    "  --rng, --balloon      those devices\n"
    "  --console FILE        where the console goes; '-': this terminal\n"
    "  --save FILE --save-after-line TEXT\n"
    "                        save and end when the console prints TEXT\n"
    "  --diff                save only what differs from the restored image\n"
    "  --uid N               user to become when started as root (default 65534)\n"
    "  --no-jail             by hand only: no namespaces, no system call filter\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 power-off or saved, 3 guest asked for a reset, 4 guest fault,\n"
    "1 other failure, 2 wrong arguments.\n";

enum option_id {
    OPT_VCPUS = 256,
    OPT_RUN,
    OPT_RESTORE,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_CMDLINE,
    OPT_MEM,
    OPT_DISK,
    OPT_TAP,
    OPT_RNG,
    OPT_BALLOON,
    OPT_CONSOLE,
    OPT_SAVE,
    OPT_SAVE_AFTER,
    OPT_DIFF,
    OPT_UID,
    OPT_NO_JAIL,
    OPT_NO_FILTER,
    OPT_HELP,
    OPT_VERSION,
};

static const struct option long_options[] = {
    {"vcpus", required_argument, NULL, OPT_VCPUS},
    {"run", no_argument, NULL, OPT_RUN},
    {"restore", required_argument, NULL, OPT_RESTORE},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"cmdline", required_argument, NULL, OPT_CMDLINE},
    {"mem", required_argument, NULL, OPT_MEM},
    {"disk", required_argument, NULL, OPT_DISK},
    {"tap", required_argument, NULL, OPT_TAP},
    {"rng", no_argument, NULL, OPT_RNG},
    {"balloon", no_argument, NULL, OPT_BALLOON},
    {"console", required_argument, NULL, OPT_CONSOLE},
    {"save", required_argument, NULL, OPT_SAVE},
    {"save-after-line", required_argument, NULL, OPT_SAVE_AFTER},
    {"diff", no_argument, NULL, OPT_DIFF},
    {"uid", required_argument, NULL, OPT_UID},
    {"no-jail", no_argument, NULL, OPT_NO_JAIL},
#ifdef DORMOUSE_DEBUG
    {"no-filter", no_argument, NULL, OPT_NO_FILTER},
#endif
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

struct options {
    bool by_hand, no_jail, no_filter;
    uint64_t uid;
    struct hand_options hand;
};

/* "128M", "2G". */
static bool parse_size(const char *s, uint64_t *ret)
{
    size_t len = strlen(s);
    uint64_t unit = 1, v;
    if (len > 1 && (s[len - 1] == 'M' || s[len - 1] == 'G')) {
        unit = s[len - 1] == 'M' ? 1ull << 20 : 1ull << 30;
        len--;
    }
    return parse_u64n(s, len, 1, UINT64_MAX, &v) && num_mul(v, unit, ret);
}

static int usage_error(struct err *e, const char *what, const char *value)
{
    err_set(e, EINVAL, "%s '%s'", what, value);
    return err_hint(e, "see dormouse-vmm --help");
}

static int parse_option(struct options *o, int id, struct err *e)
{
    struct hand_options *h = &o->hand;
    uint64_t n;
    switch (id) {
    case OPT_VCPUS:
        if (!parse_u64(optarg, 1, CTL_VCPUS_MAX, &n))
            return usage_error(e, "--vcpus wants 1 to 16, not", optarg);
        h->vcpus = (unsigned)n;
        return 0;
    case OPT_RUN:
        o->by_hand = true;
        return 0;
    case OPT_RESTORE:
        o->by_hand = true;
        h->restore = optarg;
        return 0;
    case OPT_KERNEL:
        h->kernel = optarg;
        return 0;
    case OPT_INITRD:
        h->initrd = optarg;
        return 0;
    case OPT_CMDLINE:
        h->cmdline = optarg;
        return 0;
    case OPT_MEM:
        if (!parse_size(optarg, &h->mem_bytes))
            return usage_error(e, "--mem wants a size like 256M, not", optarg);
        return 0;
    case OPT_DISK:
        if (h->ndisks == CTL_DISKS_MAX)
            return usage_error(e, "too many disks at", optarg);
        h->disks[h->ndisks++] = optarg;
        return 0;
    case OPT_TAP:
        h->tap = optarg;
        return 0;
    case OPT_RNG:
        h->rng = true;
        return 0;
    case OPT_BALLOON:
        h->balloon = true;
        return 0;
    case OPT_CONSOLE:
        h->console = optarg;
        return 0;
    case OPT_SAVE:
        h->save = optarg;
        return 0;
    case OPT_SAVE_AFTER:
        h->save_after = optarg;
        return 0;
    case OPT_DIFF:
        h->diff = true;
        return 0;
    case OPT_UID:
        if (!parse_u64(optarg, 1, UINT32_MAX - 1, &o->uid))
            return usage_error(e, "--uid wants a user number, not", optarg);
        return 0;
    case OPT_NO_JAIL:
        o->no_jail = true;
        return 0;
    case OPT_NO_FILTER:
        o->no_filter = true;
        return 0;
    case OPT_HELP:
        fputs(usage, stdout);
        exit(0);
    case OPT_VERSION:
        printf("dormouse-vmm %s (%u + %u system calls)\n", DORMOUSE_VERSION,
               seccomp_count(SECCOMP_VCPU), seccomp_count(SECCOMP_IO));
        exit(0);
    default:
        return usage_error(e, "unknown option or missing value near", "--");
    }
}

static int parse_args(struct options *o, int argc, char **argv, struct err *e)
{
    int id;
    opterr = 0;
    while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (id == '?') {
            const char *last = argv[optind - 1];
            return usage_error(e, "unknown option or missing value:", last);
        }
        int r = parse_option(o, id, e);
        if (r < 0)
            return r;
    }
    if (optind < argc)
        return usage_error(e, "unexpected argument", argv[optind]);
    const struct hand_options *h = &o->hand;
    if (!o->by_hand && o->no_jail && !DEBUG_TWIN)
        return usage_error(e, "only a machine run by hand may have", "--no-jail");
    if (!o->by_hand && (h->kernel || h->ndisks || h->console || h->save))
        return usage_error(e, "to run a machine by hand add", "--run");
    if (o->by_hand && !h->restore && !h->kernel)
        return usage_error(e, "missing option", "--kernel");
    if ((h->save != NULL) != (h->save_after != NULL))
        return usage_error(e, "--save and --save-after-line belong together; missing",
                           h->save ? "--save-after-line" : "--save");
    return 0;
}

static int get_kvm(bool by_hand, struct err *e)
{
    if (!by_hand)
        return FD_KVM;
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        err_sys(e, errno, "open '/dev/kvm'");
        return err_hint(e, "the user must be in the group 'kvm', and the host an ARM64 machine "
                           "with virtualization");
    }
    return fd;
}

static int run(struct options *o, struct vm *vm, struct hand *hand, struct err *e)
{
    struct ctl_server *server = NULL;
    int r, kvm_fd;
    if (!o->by_hand) {
        static const int keep[] = {FD_CTL, FD_KVM};
        jail_close_others(keep, ARRAY_LEN(keep));
        r = ctl_server_new(&server, vm, FD_CTL, e);
    } else {
        r = hand_open(hand, e);
    }
    if (r < 0)
        return r;
    kvm_fd = get_kvm(o->by_hand, e);
    if (kvm_fd < 0)
        return kvm_fd;
    vm->seccomp = !o->no_jail && !o->no_filter;
    r = vm_create(vm, kvm_fd, o->by_hand ? hand->m.vcpus : o->hand.vcpus, e);
    if (r == 0 && !o->no_jail) {
        struct jail jail = {.uid = (uint32_t)o->uid};
        r = jail_enter(&jail, e);
        if (r == 0)
            r = seccomp_handler(e);
    }
    if (r == 0)
        r = vm_start_threads(vm, e);
    if (r == 0 && vm->seccomp)
        r = seccomp_enter(SECCOMP_IO, e);
    if (r == 0)
        r = server ? ctl_server_start(server, e) : hand_start(hand, e);
    if (r == 0)
        r = ring_run(vm->ring, e);
    return r;
}

int main(int argc, char **argv)
{
    static struct vm vm;
    static struct hand hand;
    struct options o = {
        .uid = NOBODY,
        .hand = {.vcpus = 1, .mem_bytes = 128ull << 20, .cmdline = "console=ttyAMA0"}};
    struct err e = ERR_INIT;
    log_setup(LOG_INFO, "vmm");
    if (parse_args(&o, argc, argv, &e) < 0) {
        log_err(LOG_ERROR, &e, "arguments");
        return STATUS_USAGE;
    }
    hand.o = o.hand;
    hand.vm = &vm;
    if (run(&o, &vm, &hand, &e) < 0) {
        log_err(LOG_ERROR, &e, "dormouse-vmm");
        return STATUS_FAILED;
    }
    return o.by_hand ? hand.status : 0;
}
