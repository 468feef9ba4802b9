// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse-vmm: one microVM. Three ways to start it: as a nursery, whose children
 * take their orders from a control socket; as one such VMM without a nursery, with
 * its control socket on descriptor 3 (--vcpus N); or by hand (--run, --restore).
 * The order of set-up is the order of run(). Arguments are the caller's own;
 * everything that comes later is not trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arm64_vcpu.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "debug/debug.h"
#include "hand.h"
#include "jail.h"
#include "nursery.h"

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
    "Usage: dormouse-vmm --nursery\n"
    "       dormouse-vmm --vcpus N [--uid N]\n"
    "       dormouse-vmm --run --kernel IMAGE [options]\n"
    "       dormouse-vmm --restore IMAGE[,SESSION] [options]\n"
    "\n"
    "The first form waits for orders to split off VMMs, the second is one: socket\n"
    "on descriptor 3, /dev/kvm on 4. The others run one machine by hand.\n"
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
    "  --layer FILE          the memory layer of the image to restore, if it has one\n"
    "  --uid N               user to become when started as root (default 65534)\n"
    "  --no-jail             by hand only: no namespaces, no system call filter\n"
    "  --help, --version\n" DEBUG_USAGE "\n"
    "Exit status: 0 power-off or saved, 3 guest asked for a reset, 4 guest fault,\n"
    "1 other failure, 2 wrong arguments.\n";

struct options {
    bool by_hand, nursery, no_jail, no_filter;
    uint64_t uid;
    struct hand_options hand;
    struct debug_options debug;
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

/* Where an option's text or flag goes. Those with a letter are cases of parse_option(). */
static const struct known {
    const char *name;
    int has_arg;
    char letter;
    size_t field;
} known[] = {
    {"run", 0, 0, offsetof(struct options, by_hand)},
    {"nursery", 0, 0, offsetof(struct options, nursery)},
    {"restore", 1, 0, offsetof(struct options, hand.restore)},
    {"layer", 1, 0, offsetof(struct options, hand.layer)},
    {"kernel", 1, 0, offsetof(struct options, hand.kernel)},
    {"initrd", 1, 0, offsetof(struct options, hand.initrd)},
    {"cmdline", 1, 0, offsetof(struct options, hand.cmdline)},
    {"tap", 1, 0, offsetof(struct options, hand.tap)},
    {"rng", 0, 0, offsetof(struct options, hand.rng)},
    {"balloon", 0, 0, offsetof(struct options, hand.balloon)},
    {"console", 1, 0, offsetof(struct options, hand.console)},
    {"save", 1, 0, offsetof(struct options, hand.save)},
    {"save-after-line", 1, 0, offsetof(struct options, hand.save_after)},
    {"diff", 0, 0, offsetof(struct options, hand.diff)},
    {"no-jail", 0, 0, offsetof(struct options, no_jail)},
#ifdef DORMOUSE_DEBUG
    {"no-filter", 0, 0, offsetof(struct options, no_filter)},
    {"gdb", 1, 0, offsetof(struct options, debug.gdb)},
    {"trace", 1, 0, offsetof(struct options, debug.trace)},
#endif
    {"vcpus", 1, 'c', 0},
    {"mem", 1, 'm', 0},
    {"disk", 1, 'd', 0},
    {"uid", 1, 'u', 0},
    {"help", 0, 'h', 0},
    {"version", 0, 'v', 0},
};

static int parse_option(struct options *o, const struct known *k, struct err *e)
{
    struct hand_options *h = &o->hand;
    uint64_t n;
    switch (k->letter) {
    case 0:
        if (k->has_arg)
            *(const char **)((char *)o + k->field) = optarg;
        else
            *(bool *)((char *)o + k->field) = true;
        return 0;
    case 'c':
        if (!parse_u64(optarg, 1, CTL_VCPUS_MAX, &n))
            return usage_error(e, "--vcpus wants 1 to 16, not", optarg);
        h->vcpus = (unsigned)n;
        return 0;
    case 'm':
        if (!parse_size(optarg, &h->mem_bytes))
            return usage_error(e, "--mem wants a size like 256M, not", optarg);
        return 0;
    case 'd':
        if (h->ndisks == CTL_DISKS_MAX)
            return usage_error(e, "too many disks at", optarg);
        h->disks[h->ndisks++] = optarg;
        return 0;
    case 'u':
        if (!parse_u64(optarg, 1, UINT32_MAX - 1, &o->uid))
            return usage_error(e, "--uid wants a user number, not", optarg);
        return 0;
    case 'h':
        fputs(usage, stdout);
        exit(0);
    default:
        printf("dormouse-vmm %s (%u + %u system calls)\n", DORMOUSE_VERSION,
               seccomp_count(SECCOMP_VCPU), seccomp_count(SECCOMP_IO));
        exit(0);
    }
}

static int parse_args(struct options *o, int argc, char **argv, struct err *e)
{
    struct option longs[ARRAY_LEN(known) + 1] = {{NULL, 0, NULL, 0}};
    int id;
    opterr = 0;
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        longs[i] = (struct option){known[i].name, known[i].has_arg, NULL, (int)i + 256};
    while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        int r = id < 256 ? usage_error(e, "unknown option or missing value:", argv[optind - 1])
                         : parse_option(o, &known[id - 256], e);
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

/* What all machines have in common; a nursery does it once. */
static int prepare(const struct options *o, struct vm *vm, struct jail *jail, struct err *e)
{
    if (!o->by_hand)
        jail_close_from(FD_KVM + 1);
    int kvm_fd = get_kvm(o->by_hand, e);
    int r = kvm_fd < 0 ? kvm_fd : vm_probe(vm, kvm_fd, e);
    vcpu_handle_kicks();
    jail->none = o->no_jail;
    vm->seccomp = !o->no_jail && !o->no_filter;
    if (r == 0)
        r = jail_common(jail, e);
    if (r == 0 && !o->no_jail)
        r = seccomp_handler(e);
    if (r == 0 && vm->seccomp)
        r = seccomp_setup(vm->filters, e);
    return r;
}

static int run(struct options *o, struct vm *vm, struct hand *hand, struct err *e)
{
    struct nursery_spawn s = {.uid = (uint32_t)o->uid};
    struct jail jail;
    int ctl = FD_CTL, listener = -1;
    int r = o->by_hand ? hand_open(hand, e) : 0;
    if (r == 0)
        r = debug_open(vm, &o->debug, e);
    if (o->nursery)
        nursery_share_text();
    if (r == 0)
        r = prepare(o, vm, &jail, e);
    s.vcpus = o->by_hand ? hand->m.vcpus : o->hand.vcpus;
    if (r == 0 && o->nursery) {
        r = nursery_serve(FD_CTL, &s, &ctl, &listener, &vm->ring, e);
        if (r <= 0)
            return r;
        r = 0;
    }
    if (r == 0)
        r = jail_own(&jail, s.uid, &vm->pagemap_fd, e);
    if (r == 0)
        r = vm_create(vm, s.vcpus, e);
    if (r == 0)
        r = vm_start_threads(vm, e);
    if (r == 0 && vm->seccomp)
        r = seccomp_enter(&vm->filters[SECCOMP_IO], e);
    if (r == 0)
        r = vm_wait_threads(vm, e);
    debug_start(vm);
    if (r == 0)
        r = o->by_hand ? hand_start(hand, e) : ctl_server_start(vm, ctl, listener, e);
    if (r == 0)
        r = ring_run(vm->ring, e);
    return r;
}

int main(int argc, char **argv)
{
    static _Alignas(4096) struct vm vm; /* its first part on one page */
    static struct hand hand;
    struct options o = {
        .uid = NOBODY,
        .hand = {.vcpus = 1, .mem_bytes = 128ull << 20, .cmdline = "console=ttyAMA0"}};
    struct err e = ERR_INIT;
    log_setup(LOG_INFO, "vmm");
    /* A console that nobody reads any more (a closed pipe) must not end the machine. */
    signal(SIGPIPE, SIG_IGN);
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
