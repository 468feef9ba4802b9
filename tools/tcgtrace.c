// SPDX-License-Identifier: Apache-2.0
/*
 * A plugin for QEMU's emulator: which instructions ran between two points, in order. Built as a
 * shared library for the machine that emulates; loaded by tools/restore-trace.sh.
 *     -plugin tcgtrace.so,out=FILE,enter=ADDRESS-ADDRESS[,vector=ADDRESS-ADDRESS][,guest=on]
 * Recording begins when the emulated machine executes `hint #96`, which does nothing otherwise,
 * and ends with the first block of code that runs in a guest of its KVM: what follows the
 * function that enters guests (`enter`) and is not the exception vector (`vector`). With
 * `guest` it goes on in the guest, whose addresses get GUEST added, until a `hint #97`
 * anywhere. For each recording the file gets a line `begin`, a line `ADDRESS COUNT` for each
 * block in order, and `end`. Counts are exact: a block that a fault cuts short counts for what
 * it did.
 *
 * The interface is QEMU's plugin API; only what is used is declared here. PLUGIN_API is its
 * version: 1 up to QEMU 8.2, 2 in 9.0, 3 since 9.1.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef void (*tb_trans_fn)(plugin_id id, struct qemu_plugin_tb *tb);
typedef void (*exec_fn)(unsigned cpu, void *ctx);
enum { CB_NO_REGS = 0, INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, tb_trans_fn fn);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, exec_fn fn, int flags,
                                          void *ctx);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, exec_fn fn,
                                            int flags, void *ctx);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op,
                                                void *ptr, uint64_t imm);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
#if PLUGIN_API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t len);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) extern int qemu_plugin_version;
int qemu_plugin_version = PLUGIN_API;
__attribute__((visibility("default"))) int
qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv);

#define HINT_BEGIN 0xd5032c1fu /* hint #96 */
#define HINT_END   0xd5032c3fu /* hint #97 */
#define GUEST      0x100000000000000u
#define BLOCKS_MAX (16u << 20)

struct range {
    uint64_t from, to;
};

static struct {
    FILE *out;
    struct range enter, vector;
    uint64_t count;     /* instructions so far; added to by the emulated code itself */
    uint64_t last;      /* its value when the present block began */
    uint64_t block;     /* where that is */
    unsigned blocks;    /* recorded */
    bool on, was_enter; /* the block before this was the way into the guest */
    bool guest, inside; /* guests are recorded; this is one */
} t;

static bool within(uint64_t at, const struct range *r)
{
    return at >= r->from && at < r->to;
}

static void end_block(void)
{
    if (t.count != t.last && t.blocks++ < BLOCKS_MAX)
        fprintf(t.out, "%" PRIx64 " %" PRIu64 "\n", t.block, t.count - t.last);
}

static void on_block(unsigned cpu, void *ctx)
{
    uint64_t at = (uint64_t)(uintptr_t)ctx;
    (void)cpu;
    if (!t.on)
        return;
    end_block();
    if (t.guest) {
        t.inside = (t.inside || t.was_enter) && !within(at, &t.enter) && !within(at, &t.vector);
    } else if (t.was_enter && !within(at, &t.enter) && !within(at, &t.vector)) {
        t.on = false;
        fprintf(t.out, "end %" PRIx64 "\n", at);
        fflush(t.out);
        return;
    }
    t.was_enter = within(at, &t.enter);
    /* The top byte of an address is all ones or zeros. */
    t.block = t.inside ? (at & (GUEST - 1)) | GUEST : at;
    t.last = t.count;
}

static void on_end(unsigned cpu, void *ctx)
{
    (void)cpu;
    (void)ctx;
    if (!t.on || !t.guest)
        return;
    end_block();
    t.on = false;
    fprintf(t.out, "end\n");
    fflush(t.out);
}

static void on_mark(unsigned cpu, void *ctx)
{
    (void)cpu;
    t.on = true;
    t.was_enter = t.inside = false;
    t.blocks = 0;
    t.block = (uint64_t)(uintptr_t)ctx;
    t.last = t.count;
    fprintf(t.out, "begin\n");
}

static uint32_t word_of(const struct qemu_plugin_insn *insn)
{
    uint32_t word = 0;
#if PLUGIN_API >= 3
    qemu_plugin_insn_data(insn, &word, sizeof word);
#else
    if (qemu_plugin_insn_size(insn) == sizeof word)
        memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
#endif
    return word;
}

#if PLUGIN_API >= 2
static void on_insn(unsigned cpu, void *ctx)
{
    (void)cpu;
    (void)ctx;
    t.count++;
}
#endif

static void on_translate(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    (void)id;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t at = qemu_plugin_insn_vaddr(insn);
        if (i == 0)
            qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, CB_NO_REGS,
                                                 (void *)(uintptr_t)at);
        if (word_of(insn) == HINT_BEGIN)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, CB_NO_REGS,
                                                   (void *)(uintptr_t)at);
        if (word_of(insn) == HINT_END)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_end, CB_NO_REGS, NULL);
#if PLUGIN_API >= 2
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_insn, CB_NO_REGS, NULL);
#else
        qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &t.count, 1);
#endif
    }
}

static bool take_range(const char *arg, const char *name, struct range *ret)
{
    size_t n = strlen(name);
    char *end;
    if (strncmp(arg, name, n) != 0 || arg[n] != '=')
        return false;
    ret->from = strtoull(arg + n + 1, &end, 16);
    ret->to = *end == '-' ? strtoull(end + 1, NULL, 16) : 0;
    return true;
}

int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            t.out = fopen(argv[i] + 4, "we");
        else if (strcmp(argv[i], "guest=on") == 0)
            t.guest = true;
        else if (!take_range(argv[i], "enter", &t.enter))
            take_range(argv[i], "vector", &t.vector);
    }
    if (!t.out || t.enter.to <= t.enter.from) {
        fprintf(stderr, "tcgtrace: needs out=FILE and enter=FROM-TO\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    return 0;
}
