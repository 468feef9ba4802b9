// SPDX-License-Identifier: Apache-2.0
/* Guest memory by virtual address; see guestmem.h. */
#include "guestmem.h"

#include <string.h>

#include "../base/mem.h"
#include "cpuregs.h"
#include "pagewalk.h"

static bool read_entry(void *ctx, uint64_t pa, uint64_t *ret)
{
    const struct vm *vm = ctx;
    const void *p = mem_at(&vm->mem, pa, sizeof *ret);
    if (p)
        memcpy(ret, p, sizeof *ret);
    return p != NULL;
}

static size_t copy(struct vcpu *v, uint64_t va, void *data, size_t len, bool write)
{
    struct walk_regs regs = {.sctlr = cpu_reg(v, CPU_SCTLR),
                             .tcr = cpu_reg(v, CPU_TCR),
                             .ttbr0 = cpu_reg(v, CPU_TTBR0),
                             .ttbr1 = cpu_reg(v, CPU_TTBR1)};
    size_t done = 0;
    while (done < len) {
        struct walk w;
        if (walk_va(&regs, va + done, read_entry, v->vm, &w) < 0)
            break;
        size_t part = MIN(len - done, w.left);
        char *p = mem_at(&v->vm->mem, w.pa, part);
        if (!p)
            break;
        if (write) {
            memcpy(p, (char *)data + done, part);
            /* It may be code. */
            __builtin___clear_cache(p, p + part);
        } else {
            memcpy((char *)data + done, p, part);
        }
        done += part;
    }
    return done;
}

size_t guest_read(struct vcpu *v, uint64_t va, void *data, size_t len)
{
    return copy(v, va, data, len, false);
}

size_t guest_write(struct vcpu *v, uint64_t va, const void *data, size_t len)
{
    return copy(v, va, (void *)(uintptr_t)data, len, true);
}
