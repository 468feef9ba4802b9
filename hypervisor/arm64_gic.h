// SPDX-License-Identifier: Apache-2.0
/* The in-kernel GIC: version 3 where the host has it, else 2. No ITS. */
#ifndef DORMOUSE_ARM64_GIC_H
#define DORMOUSE_ARM64_GIC_H

#include "base/err.h"

struct vm;
struct dstate_reader;
struct dstate_writer;

/* After all vCPUs. Sets vm->gic and vm->gic_fd. */
int gic_create(struct vm *vm, struct err *e);
/* Remembers what a fresh GIC holds, one for all vCPUs. */
int gic_probe(struct vm *vm, struct err *e);
/* Brings priorities to where Linux will have them. */
void gic_prime(struct vm *vm);
/* Machine paused. Words that are zero in a fresh GIC and now are left out. */
int gic_save(struct vm *vm, struct dstate_writer *w, struct err *e);
/* On a fresh GIC, before any interrupt is raised; writes only what differs from it. */
int gic_load(struct vm *vm, struct dstate_reader *r, struct err *e);

#endif
