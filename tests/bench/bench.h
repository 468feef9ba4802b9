// SPDX-License-Identifier: Apache-2.0
/*
 * The benchmark driver: runs on an arm64 host with KVM (the emulated one in
 * `make bench`), starts virtual machine monitors one after the other and
 * measures them from outside, all in the same way. A monitor is a `struct
 * target`; a case calls targets and records samples; what was recorded becomes
 * a table and one JSON object a line.
 */
#ifndef DORMOUSE_TESTS_BENCH_H
#define DORMOUSE_TESTS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proc.h"
#include "record.h"

/* ---- what the host's kernel saw: trace.c ---- */

/* Events of one run, between `from` and the first guest exit that counts. */
struct seen {
    uint64_t entry_ns;   /* first entry into the guest, 0: none */
    uint64_t insn_ns;    /* the entry after which the guest ran an instruction */
    uint64_t mmio_ns;    /* its first exit to a device */
    unsigned exits;      /* of the guest until then */
    unsigned aborts;     /* of those: pages that were not there */
    unsigned syscalls;   /* of the monitor's threads until insn_ns; only when counted */
    unsigned ioctls;     /* of those */
    unsigned calls[512]; /* by number */
    struct {
        uint32_t cmd;
        unsigned n;
    } ioctl[64];
    unsigned nioctl;
    uint64_t last_entry; /* while reading */
};

struct event {
    pid_t tid;
    bool mine; /* of the monitor's threads */
    uint64_t ns;
    const char *name, *text;
};

bool trace_open(void);
bool trace_usable(void);
/* Clears and starts. System calls are slower while they are seen. */
enum calls { CALLS_NONE, CALLS_COUNTED, CALLS_TIMED };
void trace_begin(enum calls calls);
/* Stops, hands over each event since `from_ns` (CLOCK_MONOTONIC). `pid`: the monitor. */
bool trace_read(uint64_t from_ns, pid_t pid, void (*fn)(const struct event *ev, void *ctx),
                void *ctx);
bool trace_is(const struct event *ev, const char *name);
/* The same, and makes the sum. */
bool trace_end(uint64_t from_ns, pid_t pid, struct seen *ret);

void trace_mark(void); /* for tools/restore-trace.sh: timeline.c */
void trace_mark_end(void);

/* ---- monitors ---- */

struct spec {
    unsigned vcpus;
    uint64_t mem;
    bool disk, net, vsock;
    unsigned overlays; /* empty ones over the disk; only Dormouse's machines have them */
    bool address;      /* the host's end of the network has an address */
    const char *cmdline;
    const char *initrd; /* NULL: the benchmark's own */
};

struct inst {
    pid_t pid;
    int ctl;     /* control or QMP socket */
    int console; /* our end */
    int tap;
    int pidfd;
    uint32_t id;
    bool prepared;
    size_t len;
    char text[4096]; /* what the console said last */
    char buf[16384]; /* of the control connection */
    size_t buf_len;
};

struct saved {
    uint64_t bytes, allocated, pause_ns;
    uint64_t pages, zero, same; /* all 0: it does not say */
};

struct target {
    const char *name;
    bool has_vsock, has_session;
    /* NULL: it has no such thing. A process that waits for its orders. */
    bool (*embryo)(struct inst *in, const struct spec *s);
    /* A cold boot: process start and all. Sets `ready_ns` when the monitor answered; 0: it does
     * not. */
    bool (*boot)(struct inst *in, const struct spec *s, uint64_t *ready_ns);
    bool (*restore)(struct inst *in, const struct spec *s, const char *image,
                    const char *session);
    /* Of a machine that was restored: which pages it touched, to a file beside the image. */
    bool (*workset)(struct inst *in, const char *image);
    /* An embryo gets an image's memory and those pages beforehand. */
    bool (*prepare)(struct inst *in, const struct spec *s, const char *image);
    /* Leaves the machine paused. */
    bool (*save)(struct inst *in, const char *path, bool full, struct saved *ret);
    bool (*stop)(struct inst *in);
    /* Where the time of the last restore went; NULL: it does not say. */
    void (*phases)(struct inst *in, uint64_t ret[8]);
};

struct bench_setup {
    const char *kernel, *initrd, *dir, *vmm, *qemu;
    const char *init, *root; /* dormouse-init's initramfs, and a disk for it */
    int tap_seq;
};
extern struct bench_setup setup;

extern const struct target target_dormouse, target_qemu, target_firecracker, target_kvmtool;
bool dormouse_open(void);
int dormouse_stream(struct inst *in); /* a vsock connection that the guest made, or -1 */
bool qemu_open(void);
bool peer_open(const struct target *t);

/* Common to the targets: target.c */
bool console_open(struct inst *in, int *ret_theirs);
/* Waits until the console says `what` (since the last call). */
bool console_shows(struct inst *in, const char *what);
bool console_more(struct inst *in);     /* reads what is there, behind the rest */
void tap_prepare(const struct spec *s); /* before the clock starts */
int tap_make(const struct spec *s);
bool tap_up(const char *name, bool address);
const char *disk_path(void);
bool reap(struct inst *in);

/* ---- cases ---- */

struct plan {
    bool quick;
    unsigned runs, peer_runs; /* the first is discarded */
    const struct target *targets[4];
    unsigned ntargets;
    const char *only; /* NULL: all cases */
};

bool wanted(const struct plan *p, const char *name);
unsigned runs_of(const struct plan *p, const struct target *t);
struct spec spec_for(const struct target *t, const char *cmdline);
void image_name(const struct target *t, const char *what, char ret[256]);
/* Boots, waits until all is quiet, saves. Leaves the file as <target>.<what>; with params the
 * costs are recorded. */
bool make_image(const struct target *t, const struct spec *s, const char *what,
                const char *params, bool keep);

/* With a fresh process; with one out of the pool; with one that has the image's memory and
 * working set mapped, too. */
enum mode { UNPOOLED, POOLED, PREPARED, MODES };
extern const char *const mode_names[MODES];
bool make_workset(const struct target *t, const char *image); /* false: it has no such thing */

struct restored {
    uint64_t begin, done;
    struct seen seen;
    struct usage usage;
    uint64_t faults_before;
    uint64_t phases[8];
};

/* What is there before the order to restore comes. */
bool ready_for(const struct target *t, struct inst *in, const struct spec *s, enum mode mode,
               const char *image);
bool restore_once(const struct target *t, const struct spec *s, enum mode mode,
                  const char *image, const char *session, enum calls calls,
                  struct restored *ret);

void cases_start(const struct plan *p);
void cases_snapshot(const struct plan *p);
void cases_growth(const struct plan *p);
void cases_clones(const struct plan *p);
void cases_devices(const struct plan *p);
void cases_timeline(const struct plan *p);
void cases_trace(const struct plan *p);

#endif
