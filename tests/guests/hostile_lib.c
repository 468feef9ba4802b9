// SPDX-License-Identifier: Apache-2.0
/* The hostile guest's small library, and the choice of the verb; see hostile.h. */
#include "hostile.h"

#define PSCI_CPU_ON64   0xc4000003u
#define PSCI_SYSTEM_OFF 0x84000008u
#define FDT             (RAM_BASE + 0x10000)
#define FDT_SIZE        0x10000u

/* The compiler may ask for these. */
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void *memset(void *p, int c, size_t n)
{
    volatile uint8_t *b = p;
    while (n--)
        *b++ = (uint8_t)c;
    return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
    volatile uint8_t *d = to;
    const uint8_t *s = from;
    while (n--)
        *d++ = *s++;
    return to;
}

uint64_t now(void)
{
    uint64_t v;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(v) : : "memory");
    return v;
}

uint64_t ticks_per_s(void)
{
    uint64_t v;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(v));
    return v;
}

static struct cpu_state *self(void)
{
    struct cpu_state *s;
    __asm__ volatile("mrs %0, tpidr_el1" : "=r"(s));
    return s;
}

uint64_t faults(void)
{
    fence();
    return *(volatile uint64_t *)&self()->faults;
}

uint32_t rnd(void)
{
    static uint32_t s = 2463534242u;
    s ^= s << 13;
    s ^= s >> 17;
    s ^= s << 5;
    return s;
}

void print(const char *s)
{
    while (*s)
        write32(UART, (uint8_t)*s++);
}

void print_hex(uint64_t v)
{
    for (int i = 60; i >= 0; i -= 4)
        write32(UART, (uint32_t) "0123456789abcdef"[v >> i & 15]);
}

void power_off(void)
{
    hvc4(PSCI_SYSTEM_OFF, 0, 0, 0);
    for (;;)
        __asm__ volatile("wfi");
}

void held(void)
{
    print("held\n");
    power_off();
}

void broken(const char *why)
{
    print("broken: ");
    print(why);
    print("\n");
    power_off();
}

void holding(void)
{
    print("holding\n");
}

static void (*volatile works_on[16])(unsigned cpu);

void hostile_secondary(unsigned cpu);
void hostile_secondary(unsigned cpu)
{
    works_on[cpu](cpu);
}

bool start_cpu(unsigned cpu, void (*work)(unsigned cpu))
{
    works_on[cpu] = work;
    fence();
    return hvc4(PSCI_CPU_ON64, cpu, (uintptr_t)secondary_entry, cpu) == 0;
}

static bool same(const char *name, const char *word)
{
    while (*name && *name == *word) {
        name++;
        word++;
    }
    return *name == '\0' && (*word == '\0' || *word == ' ');
}

/* The command line is the only place in the device tree with "verb=". */
static const char *verb_name(void)
{
    const char *p = (const char *)(uintptr_t)FDT;
    for (unsigned i = 0; i < FDT_SIZE - 5; i++) {
        if (p[i] == 'v' && p[i + 1] == 'e' && p[i + 2] == 'r' && p[i + 3] == 'b' &&
            p[i + 4] == '=')
            return p + i + 5;
    }
    return "";
}

void hostile_main(void);
void hostile_main(void)
{
    const struct verb *const lists[] = {virtio_verbs, device_verbs, cpu_verbs};
    const char *name = verb_name();
    for (unsigned i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (const struct verb *v = lists[i]; v->name; v++) {
            if (same(v->name, name)) {
                v->run();
                held();
            }
        }
    }
    broken("no such verb");
}
