// SPDX-License-Identifier: Apache-2.0
/* KVM calls that report their failure in words. Used by the VMM only; what KVM answers is
 * trusted. */
#ifndef DORMOUSE_KVM_H
#define DORMOUSE_KVM_H

#include <linux/kvm.h>
#include <stdint.h>

#include "base/err.h"

/* ioctl() retried over EINTR; "KVM_X: strerror" on failure. Returns the ioctl's result. */
#define kvm_call(fd, request, arg, e) \
    kvm_call_((fd), (request), (uintptr_t)(arg), #request, (e))
int kvm_call_(int fd, unsigned long request, uintptr_t arg, const char *name, struct err *e);

/* Is this a KVM whose interface we speak? *ret_type: for KVM_CREATE_VM, a machine with 36-bit
 * guest physical addresses. */
int kvm_check(int kvm_fd, unsigned long *ret_type, struct err *e);
/* Value of KVM_CHECK_EXTENSION, 0 when unknown. */
int kvm_cap(int fd, long cap);
int kvm_enable_cap(int fd, uint32_t cap, struct err *e);

int kvm_get_reg(int vcpu_fd, uint64_t id, void *value);
int kvm_set_reg(int vcpu_fd, uint64_t id, const void *value);
int kvm_get_attr(int dev_fd, uint32_t group, uint64_t attr, void *value);
int kvm_set_attr(int dev_fd, uint32_t group, uint64_t attr, const void *value);

#endif
