// SPDX-License-Identifier: Apache-2.0
/* KVM calls; see kvm.h. */
#include "kvm.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "debug/trace.h"
#include "dev.h"

#define IPA_BITS 36 /* 64 GiB: the 33 GiB we map, with few stage-2 levels */

int kvm_call_(int fd, unsigned long request, uintptr_t arg, const char *name, struct err *e)
{
    int r;
    do {
        r = ioctl(fd, (int)request, arg);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? err_sys(e, errno, "%s", name) : r;
}

int kvm_check(int kvm_fd, unsigned long *ret_type, struct err *e)
{
    int version = kvm_call(kvm_fd, KVM_GET_API_VERSION, 0, e);
    if (version < 0) {
        err_hint(e, "the descriptor must be an open /dev/kvm");
        return version;
    }
    if (version != KVM_API_VERSION)
        return err_set(e, ENOTSUP, "KVM speaks interface version %d, not %d", version,
                       KVM_API_VERSION);
    static const struct {
        long cap;
        const char *name;
    } needed[] = {
        {KVM_CAP_IOEVENTFD, "ioeventfd"},        {KVM_CAP_ONE_REG, "one-reg"},
        {KVM_CAP_ARM_PSCI_0_2, "PSCI 0.2"},      {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
        {KVM_CAP_DEVICE_CTRL, "device control"},
    };
    for (unsigned i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (kvm_cap(kvm_fd, needed[i].cap) <= 0) {
            err_set(e, ENOTSUP, "KVM on this host lacks %s", needed[i].name);
            return err_hint(e, "run a newer host kernel (6.1 or later is tested)");
        }
    }
    int max = kvm_cap(kvm_fd, KVM_CAP_ARM_VM_IPA_SIZE);
    *ret_type =
        max > 0 ? KVM_VM_TYPE_ARM_IPA_SIZE((unsigned)(max < IPA_BITS ? max : IPA_BITS)) : 0;
    return 0;
}

int kvm_cap(int fd, long cap)
{
    int r = ioctl(fd, (int)KVM_CHECK_EXTENSION, cap);
    return r < 0 ? 0 : r;
}

int kvm_enable_cap(int fd, uint32_t cap, struct err *e)
{
    struct kvm_enable_cap arg = {.cap = cap};
    int r = kvm_call(fd, KVM_ENABLE_CAP, &arg, e);
    return r < 0 ? r : 0;
}

static int one_reg(int fd, unsigned long request, uint64_t id, const void *value)
{
    struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};
    return ioctl(fd, (int)request, &reg) < 0 ? -errno : 0;
}

int kvm_get_reg(int vcpu_fd, uint64_t id, void *value)
{
    return one_reg(vcpu_fd, KVM_GET_ONE_REG, id, value);
}

int kvm_set_reg(int vcpu_fd, uint64_t id, const void *value)
{
    return one_reg(vcpu_fd, KVM_SET_ONE_REG, id, value);
}

static int attr_call(int fd, unsigned long request, uint32_t group, uint64_t attr,
                     const void *value)
{
    struct kvm_device_attr a = {.group = group, .attr = attr, .addr = (uintptr_t)value};
    return ioctl(fd, (int)request, &a) < 0 ? -errno : 0;
}

int kvm_get_attr(int dev_fd, uint32_t group, uint64_t attr, void *value)
{
    return attr_call(dev_fd, KVM_GET_DEVICE_ATTR, group, attr, value);
}

int kvm_set_attr(int dev_fd, uint32_t group, uint64_t attr, const void *value)
{
    return attr_call(dev_fd, KVM_SET_DEVICE_ATTR, group, attr, value);
}

void dev_interrupt(const struct dev *d)
{
    struct kvm_irq_level line = {.irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT |
                                        (d->spi + 32u) << KVM_ARM_IRQ_NUM_SHIFT,
                                 .level = 1};
    /* All lines are edge-triggered: the rise is the interrupt. Down again, for a guest that
     * says otherwise. Cannot fail for an SPI that the GIC has. */
    trace_irq(d->spi);
    ioctl(d->env.vm_fd, (int)KVM_IRQ_LINE, &line);
    line.level = 0;
    ioctl(d->env.vm_fd, (int)KVM_IRQ_LINE, &line);
}

int doorbell_open(int vm_fd, uint64_t gpa, uint32_t val, int *ret_fd, struct err *e)
{
    AUTO_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_sys(e, errno, "make an eventfd");
    struct kvm_ioeventfd arg = {.datamatch = val,
                                .addr = gpa,
                                .len = 4,
                                .fd = fd,
                                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};
    int r = kvm_call(vm_fd, KVM_IOEVENTFD, &arg, e);
    if (r < 0)
        return r;
    *ret_fd = take_fd(&fd);
    return 0;
}
