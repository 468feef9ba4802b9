// SPDX-License-Identifier: Apache-2.0
/*
 * The benchmark driver; see bench.h. Its output is a table, its result a file of
 * JSON lines:
 *     bench VMM KERNEL INITRD DIR RESULTS INIT ROOT [QEMU-DIR]
 * INITRD has the benchmarks' own guest, INIT dormouse-init, ROOT a disk for it.
 * Environment: QUICK=1 for the main figures only, ONLY=names of cases, CLOCK=name of the
 * clock for the results.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define RUNS       11
#define PEER_RUNS  6
#define PEER_QUICK 3

int main(int argc, char **argv)
{
    const char *const peers[] = {"qemu", "firecracker", "kvmtool"};
    if (argc < 8) {
        fprintf(stderr, "usage: bench VMM KERNEL INITRD DIR RESULTS INIT ROOT [QEMU-DIR]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setup = (struct bench_setup){.vmm = argv[1],
                                 .kernel = argv[2],
                                 .initrd = argv[3],
                                 .dir = argv[4],
                                 .init = argv[6],
                                 .root = argv[7],
                                 .qemu = argc > 8 ? argv[8] : NULL};
    const char *quick = getenv("QUICK"), *clock = getenv("CLOCK");
    struct plan p = {.quick = quick && strcmp(quick, "1") == 0, .only = getenv("ONLY")};
    p.runs = RUNS;
    p.peer_runs = p.quick ? PEER_QUICK : PEER_RUNS;
    if (!dormouse_open()) {
        fprintf(stderr, "error: no /dev/kvm or no control groups here\n");
        return 1;
    }
    p.targets[p.ntargets++] = &target_dormouse;
    if (qemu_open())
        p.targets[p.ntargets++] = &target_qemu;
    if (peer_open(&target_firecracker))
        p.targets[p.ntargets++] = &target_firecracker;
    if (peer_open(&target_kvmtool))
        p.targets[p.ntargets++] = &target_kvmtool;
    if (!trace_open())
        complain("the kernel's trace events cannot be used: no times of first instructions");
    cases_start(&p);
    cases_snapshot(&p);
    cases_timeline(&p);
    cases_trace(&p);
    cases_devices(&p);
    cases_growth(&p);
    cases_clones(&p);
    if (wanted(&p, "boot-to-cmd"))
        bench_init(setup.kernel, setup.init, setup.root, setup.dir, p.runs, false);
    if (wanted(&p, "restore-to-thaw"))
        bench_thaw(setup.vmm, setup.kernel, setup.init, setup.root, setup.dir, p.runs, false);
    if (p.only && wanted(&p, "restore-trace-boot"))
        bench_init(setup.kernel, setup.init, setup.root, setup.dir, 3, true);
    if (p.only && wanted(&p, "restore-trace-thaw"))
        bench_thaw(setup.vmm, setup.kernel, setup.init, setup.root, setup.dir, 3, true);
    if (!rec_write(argv[5], clock ? clock : "wall", peers, 3)) {
        fprintf(stderr, "error: cannot write '%s'\n", argv[5]);
        return 1;
    }
    if (complaints)
        printf("# %u complaints\n", complaints);
    return complaints ? 1 : 0;
}
