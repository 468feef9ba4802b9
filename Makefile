# SPDX-License-Identifier: Apache-2.0
# Dormouse: tiny ARM64 microVMs that sleep when idle and wake in milliseconds.
# One Makefile, explicit lists, everything lands in build/. `make V=1` shows the commands.

MAKEFLAGS += --no-builtin-rules --no-builtin-variables
# As many jobs as there are processors, unless -j says otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
.SUFFIXES:
.DELETE_ON_ERROR:
SHELL := /bin/bash
.DEFAULT_GOAL := all

VERSION := 0.1.0
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-8s %s\n' $(1) $(2))

B := build
export BUILD := $(B)
CROSS := $(if $(filter aarch64,$(shell uname -m)),,aarch64-linux-gnu-)

# ---- what is made of what -----------------------------------------------------------------------

BASE := buf crc32c err fd filter linelog log msg

SNAPSHOT := devstate freemap io kerneltext memscan overlay overmerge snapbase snapcheck snapdelta snapfile \
	snaplayer snapmem snapruns snapstate snapwrite workset

VMM :=  \
	arm64_boot arm64_fdt arm64_gic arm64_regs arm64_vcpu ctl_server dev dev_rtc \
	dev_uart dev_vmgenid hand jail kvm machine main nursery seccomp virtio_balloon \
	virtio_blk virtio_dev virtio_mmio virtio_net virtio_rng virtio_vsock virtq vm vm_prepare vm_restore \
	vm_save vsock_conn vsock_state
# Only in the debug twin.
VMM_DEBUG := cpuregs debug gdb gdb_commands gdb_packet guestmem pagewalk stops trace verbs

INIT :=  \
	alloc app boot build chan copy creds ctl exec files forward freeze glob hooks ident inflate \
	logs loop main net netlink proc req restore sandbox session sockdiag text upstream \
	upstream_text users util zip

API :=  \
	api applog arn artifacts artifacts_read artifacts_uploads artifacts_write auth build_vm \
	buildlog ca certs cgroup chain config config_json confine confine_calls conn cpfiles digest dockerfile \
	dockerfile_words drift durable edge edge_head edge_pump events exchange fleet fleet_addr fleet_adopt \
	fleet_bound fleet_build fleet_checkpoint fleet_disk fleet_drift fleet_flatten fleet_fork fleet_guest fleet_host \
	fleet_idle fleet_image fleet_info fleet_io fleet_jobs fleet_open fleet_rollback fleet_room \
	fleet_run fleet_stream fleet_table fleet_take front fsm guest_link guest_talk http1 http1_write \
	jsonw keys layers mbed metrics netlink nft op ops_checkpoint ops_connector ops_exec ops_ext \
	ops_file ops_fork ops_image ops_key ops_managed ops_microvm ops_run ops_tag ops_token \
	ops_update ops_version ops_watch page parent parent_adopt parent_spawn pool reconcile role \
	route s3 s3_body s3_chunked s3_list s3_multi s3_object s3_uploads s3_xml seal server shapes \
	sigv4 sigv4_canon sigv4_sign siphash snapfiles store_checkpoint store_disk store_image store_misc \
	store_schema store_sqlite store_vm terminal throttle tls token urlenc uuid validate vmm ws zip

BASE_SRC := $(BASE:%=hypervisor/base/%.c)
SNAPSHOT_SRC := $(SNAPSHOT:%=snapshot/%.c)
# Disks, and what they and the VMM share beyond that.
DISK_SRC := snapshot/disk.c snapshot/disk_layers.c hypervisor/base/iov.c hypervisor/base/ring.c
VMM_SRC := $(BASE_SRC) $(SNAPSHOT_SRC) $(DISK_SRC) $(VMM:%=hypervisor/%.c)
VMM_DEBUG_SRC := $(VMM_SRC) $(VMM_DEBUG:%=hypervisor/debug/%.c)
INIT_SRC := $(INIT:%=guest/%.c)
API_SRC := $(BASE_SRC) $(SNAPSHOT_SRC) $(API:%=api/%.c)
# The command line tool, and what it shares with the daemon.
CLI :=  \
	call cmd_build cmd_checkpoint cmd_curl cmd_events cmd_exec cmd_files cmd_images cmd_keys \
	cmd_logs cmd_misc cmd_run cmd_vms dial doctor find \
	http_client ignore main opts pack report settings terminal text tls_client wait zip_write
CLI_API := arn conn digest http1 http1_write mbed sigv4 sigv4_canon sigv4_sign urlenc uuid ws
CLI_SRC := $(patsubst %,hypervisor/base/%.c,buf crc32c err fd) $(CLI_API:%=api/%.c) \
	$(CLI:%=tools/cli/%.c)
CLI_LIBS := -lmbedtls -lmbedx509 -lmbedcrypto -ljansson -lllhttp -lz -lm -lpthread
# Tools for looking at snapshots, on this machine.
SNAPTOOLS := snapdump snapdiff snapmap snappack
# Prints what the debug twin traced.
TRACE_SRC := tools/vmmtrace.c hypervisor/base/fd.c hypervisor/base/err.c
SNAPTOOL_SRC := $(patsubst %,hypervisor/base/%.c,buf crc32c err fd) tools/snapnames.c tools/snapview.c \
	$(patsubst %,snapshot/%.c,devstate io memscan snapcheck snapdelta snapfile snaplayer snapruns snapstate)
API_LIBS := -lmbedtls -lmbedx509 -lmbedcrypto -lsqlite3 -ljansson -lllhttp -lz -lm -lpthread

# What the unit tests and fuzz targets may use, besides the api and snapshot folders: the parts
# of VMM and init that know neither KVM nor PID 1.
TESTED_VMM := virtq virtio_mmio virtio_dev virtio_blk virtio_net virtio_vsock vsock_conn \
	vsock_state virtio_rng virtio_balloon dev debug/gdb_packet debug/pagewalk
TESTED_GUEST := inflate zip glob users text util req upstream_text

# tests/unit/test_NAME.c; the guest's own parsers, and those of the command line tool, are groups
# of their own.
UNIT := \
	arn artifacts bench_peers blk_crash chain checkpoint_power cli_pack cli_text config crc32c devstate \
	dockerfile drift freemap fsm gdb_packet glob guest_link guest_zip http http_status inflate linelog ops ops_checkpoint \
	ops_ext ops_guest ops_key openapi ops_update ops_vm overlay page pagewalk ring s3_chunked s3_uploads sigv4 \
	sigv4_sign snapfile snapfile_delta snapfile_devices snapfile_forgery snapfile_old \
	snapfile_power snapfile_seal snapfile_tools snaplayer store store_checkpoint text throttle tls \
	tlv token upstream users validate virtio_blk virtio_misc virtio_mmio virtio_net virtio_vsock virtq watch \
	workset ws zip
UNIT_GUEST := inflate tlv guest_zip glob users text http_status upstream
UNIT_CLI := cli_text cli_pack
FUZZ := \
	arn dockerfile freemap gdb_packet guest_link guest_req guest_zip http1 inflate ops_json priv s3_chunked \
	sigv4 snapfile snaplayer snapstate tlv upstream virtio_blk virtio_misc virtio_net virtq vsock ws zip
FUZZ_GUEST := inflate tlv guest_zip guest_req upstream

# ---- compilers: eight ways to compile a file -----------------------------------------------------
#   musl    arm64, static musl: the VMM, the guest's init, programs run in the emulated host
#   debug   the same with DORMOUSE_DEBUG; ubsan: and undefined behaviour trapped
#   asan64  arm64, the cross compiler's own libc: the VMM with address sanitizer
#   glibc   arm64, static glibc: the daemon and the command line tool
#   native  this machine: the command line tool and build tools
#   asan    this machine, address and undefined-behaviour sanitizers: unit tests
#   fuzz    this machine, clang with libFuzzer and the same sanitizers

WARN := -Wall -Wextra -Wconversion -Wshadow -Wmissing-prototypes -Wstrict-prototypes \
	-Wwrite-strings -Wvla -Wimplicit-fallthrough -Wundef -Wformat=2 -Werror
CBASE := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DDORMOUSE_VERSION='"$(VERSION)"' \
	$(WARN) -MMD -MP -g -ffile-prefix-map=$(CURDIR)=. -ffunction-sections -fdata-sections -fstack-protector-strong
ARM := -mbranch-protection=standard -march=armv8.1-a+crc
GCC_ONLY := -Wno-format-truncation # long names are cut on purpose
HARDEN := -fstack-clash-protection -D_FORTIFY_SOURCE=2
LINK := -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack -Wl,-z,max-page-size=4096
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
TEST_FLAGS := $(CBASE) $(SAN) -O1 -Wno-missing-prototypes -Wno-unused-function

NATIVE_ROOT := -isystem $(B)/sysroot-native/include
NATIVE_LIBS := -L$(B)/sysroot-native/lib $(API_LIBS) -luring -lzstd
CC_musl := $(B)/musl/bin/aarch64-musl-gcc
CFLAGS_musl := $(CBASE) $(GCC_ONLY) $(ARM) -Os -fno-asynchronous-unwind-tables -fno-unwind-tables
CC_debug := $(CC_musl)
CFLAGS_debug := $(CFLAGS_musl) -DDORMOUSE_DEBUG
# Undefined behaviour ends the process at once; needs no runtime, so it works in the jail.
CC_ubsan := $(CC_musl)
CFLAGS_ubsan := $(CFLAGS_debug) -O1 -Wno-conversion -DCONSOLE_LIMIT=16384 -fsanitize=undefined \
	-fsanitize-undefined-trap-on-error -Wno-sign-conversion
# The cross compiler's own libc and sanitizers, with newer kernel headers and the libraries.
CC_asan64 := $(CROSS)gcc
CFLAGS_asan64 := $(TEST_FLAGS) $(GCC_ONLY) $(ARM) -Wno-conversion -DDORMOUSE_DEBUG -DCONSOLE_LIMIT=16384 \
	-Wno-sign-conversion -isystem $(B)/asan64
CC_glibc := $(B)/sysroot/bin/aarch64-glibc-gcc
CFLAGS_glibc := $(CBASE) $(GCC_ONLY) $(ARM) $(HARDEN) -O2
CC_native := gcc
CFLAGS_native := $(CBASE) $(GCC_ONLY) $(HARDEN) -O2 $(NATIVE_ROOT)
CC_asan := gcc
CFLAGS_asan := $(TEST_FLAGS) $(GCC_ONLY) $(NATIVE_ROOT)
CC_fuzz := clang
CFLAGS_fuzz := $(TEST_FLAGS) -fsanitize=fuzzer-no-link $(NATIVE_ROOT)

ROOT_musl := $(B)/musl.stamp
ROOT_debug := $(B)/musl.stamp
ROOT_ubsan := $(B)/musl.stamp
ROOT_asan64 := $(B)/asan64/linux
ROOT_glibc := $(B)/sysroot.stamp
ROOT_native := $(B)/sysroot-native.stamp
ROOT_asan := $(B)/sysroot-native.stamp
ROOT_fuzz := $(B)/sysroot-native.stamp

# Changed flags recompile; other changes of this file do not.
.PHONY: FORCE
define compile_rule
$(B)/obj/$(1)/flags: FORCE
	@mkdir -p $$(@D); echo '$$(CC_$(1)) $$(subst ',,$$(CFLAGS_$(1)))' | cmp -s - $$@ || \
		echo '$$(CC_$(1)) $$(subst ',,$$(CFLAGS_$(1)))' >$$@
$(B)/obj/$(1)/%.o: %.c $(B)/obj/$(1)/flags | $$(ROOT_$(1))
	$$(call say,CC,"$$< ($(1))")
	@mkdir -p $$(@D)
	$$(Q)$$(CC_$(1)) $$(CFLAGS_$(1)) -c -o $$@ $$<
endef
$(foreach v,musl debug ubsan asan64 glibc native asan fuzz,$(eval $(call compile_rule,$(v))))

objects = $(patsubst %.c,$(B)/obj/$(1)/%.o,$(2))

# ---- programs --------------------------------------------------------------------------------------

PROGRAMS := $(addprefix $(B)/arm64/,dormouse-vmm dormouse-init dormoused dormouse)

## all: build every program, the guest and the appliance
.PHONY: all
all: $(PROGRAMS) $(B)/native/dormouse $(addprefix $(B)/native/,$(SNAPTOOLS) vmmtrace) $(B)/appliance.stamp $(B)/bases.stamp
	@printf '\nBuilt. Next: make demo   (or: make help)\n'

## deps: install what the build needs (Debian 12 and 13)
.PHONY: deps
deps: $(B)/deps.stamp
$(B)/deps.stamp: tools/deps.sh
	@mkdir -p $(B)
	@tools/deps.sh
	@touch $@

# Slow products come from the cache. A stamp says that one is in place; its recipe decides whether
# the cached copy is good.
# A link whose cache entry was removed must be made anew.
$(foreach c,musl sysroot sysroot-native kernel bases peers redis,$(if $(wildcard $(B)/$(c)/.manifest),,\
	$(shell rm -f $(B)/$(c).stamp)))
CACHED := tools/cache.sh tools/apt-private.sh
$(B)/musl.stamp: tools/muslroot.sh $(CACHED) | $(B)/deps.stamp
	@tools/muslroot.sh
$(B)/sysroot.stamp: tools/sysroot.sh $(CACHED) | $(B)/deps.stamp
	@tools/sysroot.sh
$(B)/sysroot-native.stamp: tools/sysroot.sh $(CACHED) | $(B)/deps.stamp
	@tools/sysroot.sh native
$(B)/kernel.stamp: tools/kernel.sh initrd/kernel.config $(addprefix initrd/patches/,boot.patch freemap.patch layout.patch memory.patch needless.patch small.patch) $(CACHED) | $(B)/deps.stamp
	@tools/kernel.sh

define strip_to
	@mkdir -p $(@D)
	$(Q)$(CROSS)objcopy --only-keep-debug $< $@.debug
	$(Q)$(CROSS)strip -o $@ $<
	$(Q)$(CROSS)objcopy --add-gnu-debuglink=$@.debug $@
endef

$(B)/link/dormouse-vmm: $(call objects,musl,$(VMM_SRC))
	$(call say,LINK,dormouse-vmm)
	@mkdir -p $(@D)
	$(Q)$(CC_musl) -static $(LINK) -o $@ $^ -lfdt -luring
# The debug twin and the sanitized VMMs, for tests and for a closer look.
$(B)/debug/dormouse-vmm-debug: $(call objects,debug,$(VMM_DEBUG_SRC))
$(B)/debug/dormouse-vmm-ubsan: $(call objects,ubsan,$(VMM_DEBUG_SRC))
$(B)/debug/dormouse-vmm-debug $(B)/debug/dormouse-vmm-ubsan:
	$(call say,LINK,"$(@F)")
	@mkdir -p $(@D)
	$(Q)$(CC_musl) -static $(LINK) -o $@ $^ -lfdt -luring
# The debug twin with the device of docs/research.md, made of that page's text.
$(B)/obj/example/machine.c: docs/research.md hypervisor/machine.c
	@mkdir -p $(@D)
	$(Q)awk '/^```c$$/ { on = 1; next } /^```/ { on = 0 } on' docs/research.md >$(@D)/page.c
	$(Q)sed '/^        {1, &dev_count/d' $(@D)/page.c >$(@D)/dev_count.c
	$(Q)sed -n '/^        {1, &dev_count/p' $(@D)/page.c >$(@D)/line.c
	$(Q)sed -e '/, &virtio_balloon_ops/r $(@D)/line.c' \
		-e '/^int machine_devs/i extern const struct dev_ops dev_count_ops;' hypervisor/machine.c >$@
$(B)/debug/dormouse-vmm-example: $(call objects,debug,$(filter-out hypervisor/machine.c,$(VMM_DEBUG_SRC))) \
		$(B)/obj/example/machine.c
	$(call say,LINK,"$(@F)")
	@mkdir -p $(@D)
	$(Q)$(CC_debug) $(filter-out -MMD -MP,$(CFLAGS_debug)) -Ihypervisor -static $(LINK) -o $@ \
		$(filter %.o,$^) $(B)/obj/example/machine.c $(B)/obj/example/dev_count.c -lfdt -luring
$(B)/debug/dormouse-vmm-asan: $(call objects,asan64,$(VMM_DEBUG_SRC))
	$(call say,LINK,"$(@F)")
	@mkdir -p $(@D)/lib
	$(Q)$(CC_asan64) $(SAN) -Wl,--disable-new-dtags,-rpath,/tests/lib,--dynamic-linker=/tests/lib/ld-linux-aarch64.so.1 \
		-o $@ $^ $(B)/sysroot/usr/lib/aarch64-linux-gnu/lib{fdt,uring}.a -lpthread
	$(Q)for lib in ld-linux-aarch64.so.1 libc.so.6 libm.so.6 libgcc_s.so.1 libasan.so.8 \
		libubsan.so.1 libstdc++.so.6; do cp $$($(CC_asan64) -print-file-name=$$lib) $(@D)/lib/ || exit 1; done
$(B)/asan64/linux: | $(B)/musl.stamp $(B)/sysroot.stamp
	@mkdir -p $(@D)
	@cd $(@D) && for h in asm asm-generic linux liburing liburing.h libfdt.h libfdt_env.h fdt.h; do \
		ln -sfn ../musl/include/$$h $$h; done

# What matters of init is its size. The linker would set a page aside for an erratum of the
# Cortex-A53, which has not the atomics of ARMv8.1 that all programs here are made of.
$(B)/obj/musl/guest/%.o: private CFLAGS_musl += -fomit-frame-pointer -fno-move-loop-invariants
$(B)/link/dormouse-init: $(call objects,musl,$(INIT_SRC))
	$(call say,LINK,dormouse-init)
	@mkdir -p $(@D)
	$(Q)$(CC_musl) -static $(LINK) -Wl,--build-id=none -mno-fix-cortex-a53-843419 -o $@ $^
$(B)/link/dormoused: $(call objects,glibc,$(API_SRC) api/dormoused.c)
	$(call say,LINK,dormoused)
	@mkdir -p $(@D)
	$(Q)$(CC_glibc) -static-pie $(LINK) -o $@ $^ $(API_LIBS)
$(B)/link/dormouse: $(call objects,glibc,$(CLI_SRC))
	$(call say,LINK,dormouse)
	@mkdir -p $(@D)
	$(Q)$(CC_glibc) -static-pie $(LINK) -o $@ $^ $(CLI_LIBS)
$(B)/native/dormouse: $(call objects,native,$(CLI_SRC))
	$(call say,LINK,"dormouse for this machine")
	@mkdir -p $(@D)
	$(Q)$(CC_native) -pie $(LINK) -o $@ $^ -L$(B)/sysroot-native/lib $(CLI_LIBS)
define snaptool_rule
$(B)/native/$(1): $(call objects,native,tools/$(1).c $(SNAPTOOL_SRC))
	$$(call say,LINK,$(1))
	@mkdir -p $$(@D)
	$$(Q)$$(CC_native) -pie $$(LINK) -o $$@ $$^ -L$(B)/sysroot-native/lib -lzstd
endef
$(foreach t,$(SNAPTOOLS),$(eval $(call snaptool_rule,$(t))))
$(B)/native/vmmtrace: $(call objects,native,$(TRACE_SRC))
	$(call say,LINK,vmmtrace)
	@mkdir -p $(@D)
	$(Q)$(CC_native) -pie $(LINK) -o $@ $^
$(B)/arm64/%: $(B)/link/%
	$(strip_to)

$(B)/tool/%: tools/%.c | $(B)/deps.stamp
	$(call say,CC,"$< (build tool)")
	@mkdir -p $(@D)
	$(Q)gcc $(CBASE) -O1 -MF $(B)/obj/$*.d -o $@ $<

$(B)/guest/initrd.cpio: $(B)/tool/mkinitrd initrd/files.list $(B)/arm64/dormouse-init
	$(call say,CPIO,"guest initramfs")
	@mkdir -p $(@D)
	$(Q)$(B)/tool/mkinitrd initrd/files.list $(B) $@

# The appliance: kernel and root of the ARM64 host, emulated or real.
APPLIANCE_PARTS := $(addprefix $(B)/arm64/,dormouse-vmm dormoused dormouse) \
	$(B)/guest/initrd.cpio
$(B)/appliance.stamp: tools/appliance.sh tools/appliance-init.sh $(CACHED) $(B)/kernel.stamp \
		$(APPLIANCE_PARTS)
	@tools/appliance.sh
	@touch $@

# The managed base images are made inside the emulated host.
$(B)/bases.stamp: initrd/bases.sh initrd/bases-inside.sh $(CACHED) tools/vmrun.sh tools/emulator.sh | $(B)/deps.stamp
	@initrd/bases.sh

# ---- running it ----------------------------------------------------------------------------------

## up: start a host (emulated where there is no ARM64 KVM), write build/run/env
.PHONY: up
up: $(B)/appliance.stamp $(B)/bases.stamp
	@tools/host.sh up

## down: stop the host that `make up` started; its state stays
.PHONY: down
down:
	@tools/host.sh down

## demo: the whole story, from a zip to a microVM that sleeps and wakes
.PHONY: demo
demo: up
	@node=$$(tools/node.sh) && . $(B)/run/env && exec "$$node" --no-warnings tests/e2e/demo.mjs

# ---- tests ---------------------------------------------------------------------------------------

CHECK := $(B)/check

## check: every test; ends with `N passed, N failed`
.PHONY: check
check:
	@rm -rf $(CHECK) && mkdir -p $(CHECK)
	@# A suite that could not be built has no failed test of its own: it counts as one.
	@failed=; for suite in check-lint check-unit check-vm check-bench check-e2e; do \
		$(MAKE) --no-print-directory $$suite && continue; failed="$$failed $$suite"; \
		! tools/tapsum.sh $(CHECK)/*.tap >/dev/null 2>&1 || \
			printf 'not ok 1 - %s did not run\n1..1\n' $$suite >$(CHECK)/$$suite.tap; done; \
	echo; [ -z "$$failed" ] || echo "Failed:$$failed"; \
	tools/tapsum.sh $(CHECK)/*.tap && [ -z "$$failed" ]

LINT_FLAGS := $(filter-out -MMD -MP,$(subst ',,$(CBASE))) $(ARM)

# Lint as one test, for `check`.
.PHONY: check-lint
check-lint: $(B)/musl.stamp
	@mkdir -p $(CHECK)
	@r="not ok"; LINT_FLAGS='$(LINT_FLAGS)' tools/lint.sh && r=ok; \
		printf '%s 1 - lint\n1..1\n' "$$r" >$(CHECK)/lint.tap; [ "$$r" = ok ]

TEST_API := $(BASE_SRC) $(SNAPSHOT_SRC) $(API:%=api/%.c)
TEST_VMM := $(TESTED_VMM:%=hypervisor/%.c) $(DISK_SRC)
TEST_GUEST := $(TESTED_GUEST:%=guest/%.c)
define archive_rule
$(B)/obj/$(1)/lib$(2).a: $$(call objects,$(1),$(3))
	@rm -f $$@
	$$(Q)ar rcs $$@ $$^
endef
$(foreach v,asan fuzz,$(eval $(call archive_rule,$(v),api,$(TEST_API))) \
	$(eval $(call archive_rule,$(v),vmm,$(TEST_VMM))) \
	$(eval $(call archive_rule,$(v),guest,$(TEST_GUEST))))
$(eval $(call archive_rule,asan,cli,$(filter-out %/main.c,$(CLI:%=tools/cli/%.c))))
libs_of = $(if $(filter $(2),$(UNIT_GUEST) $(FUZZ_GUEST)),$(B)/obj/$(1)/libguest.a,$(if \
	$(filter $(2),$(UNIT_CLI)),$(B)/obj/$(1)/libcli.a) $(B)/obj/$(1)/libvmm.a \
	$(B)/obj/$(1)/libapi.a)

define unit_rule
$(B)/test/unit/$(1): $(B)/obj/asan/tests/unit/test_$(1).o $(call libs_of,asan,$(1))
	$$(call say,LINK,"test $(1)")
	@mkdir -p $$(@D)
	$$(Q)$$(CC_asan) $$(SAN) -o $$@ $$^ $$(NATIVE_LIBS)
endef
$(foreach t,$(UNIT),$(eval $(call unit_rule,$(t))))

define fuzz_rule
$(B)/test/fuzz/$(1): $(B)/obj/fuzz/tests/fuzz/fuzz_$(1).o $(call libs_of,fuzz,$(1))
	$$(call say,LINK,"fuzz $(1)")
	@mkdir -p $$(@D)
	$$(Q)$$(CC_fuzz) $$(SAN) -fsanitize=fuzzer -o $$@ $$^ $$(NATIVE_LIBS)
endef
$(foreach t,$(FUZZ),$(eval $(call fuzz_rule,$(t))))

## check-unit: unit tests and fuzz corpora under sanitizers, on this machine
.PHONY: check-unit
check-unit: $(UNIT:%=$(B)/test/unit/%) $(FUZZ:%=$(B)/test/fuzz/%)
	@mkdir -p $(CHECK)
	@tests/unit.sh "$(UNIT)" "$(FUZZ)"

# Programs that run in the emulated host, and the guests they start.
$(B)/vm/ctl_drive: $(call objects,musl,tests/vm/ctl_drive.c $(BASE_SRC))
$(B)/vm/guest_drive: $(call objects,musl,tests/vm/guest_drive.c tests/vm/guest_client.c $(BASE_SRC) \
	snapshot/overlay.c snapshot/io.c)
$(B)/vm/guest_soak: $(call objects,musl,tests/vm/guest_soak.c tests/vm/guest_client.c $(BASE_SRC) \
	snapshot/overlay.c snapshot/io.c)
$(B)/vm/vmmtrace: $(call objects,musl,$(TRACE_SRC))
$(B)/vm/ticker: $(call objects,musl,tests/guests/ticker.c)
$(B)/vm/payload: $(call objects,musl,tests/guests/payload.c tests/guests/payload_memory.c)
$(B)/vm/hostile_drive: $(call objects,musl,tests/vm/hostile_drive.c tests/vm/hostile_vmm.c $(BASE_SRC))
$(B)/vm/lockdown_drive: $(call objects,musl,tests/vm/lockdown_drive.c tests/vm/hostile_vmm.c $(BASE_SRC))
# Not where init is, so that an address says which of the two it belongs to.
$(B)/vm/payload: private LINK += -Wl,-Ttext-segment=0x50000000
$(addprefix $(B)/vm/,ctl_drive guest_drive guest_soak hostile_drive lockdown_drive vmmtrace ticker payload):
	$(call say,LINK,"$(@F) (runs on arm64)")
	@mkdir -p $(@D)
	$(Q)$(CC_musl) -static $(LINK) -o $@ $^
$(B)/vm/confine_drive: $(call objects,glibc,tests/vm/confine_drive.c api/confine.c \
		api/confine_calls.c $(BASE_SRC))
	$(call say,LINK,"$(@F) (runs on arm64)")
	@mkdir -p $(@D)
	$(Q)$(CC_glibc) -static-pie $(LINK) -o $@ $^
# The daemon under faults, with the command line tool's client in it.
$(B)/vm/fault_drive: $(call objects,glibc,tests/vm/fault_cases.c tests/vm/fault_drive.c \
		tests/vm/fault_drift.c tests/vm/fault_host.c tests/vm/fault_layers.c tests/vm/fault_load.c tests/vm/fault_many.c \
		$(filter-out tools/cli/main.c,$(CLI_SRC)))
	$(call say,LINK,"$(@F) (runs on arm64)")
	@mkdir -p $(@D)
	$(Q)$(CC_glibc) -static $(LINK) -o $@ $^ -lsqlite3 $(CLI_LIBS)
# The hostile guest is a kernel of its own, without any library.
HOSTILE := $(addprefix tests/guests/hostile_,start.S lib.c driver.c virtio.c devices.c cpu.c)
BARE := -std=gnu17 $(WARN) -g -O2 -ffreestanding -fno-stack-protector -fno-pie -no-pie \
	-fno-tree-loop-distribute-patterns -mgeneral-regs-only -march=armv8.1-a
$(B)/vm/hostile.Image: $(HOSTILE) tests/guests/hostile.h tests/guests/hostile_image.ld | $(B)/deps.stamp
	$(call say,LINK,"$(@F) (bare metal)")
	@mkdir -p $(@D)
	$(Q)$(CROSS)gcc $(BARE) -nostdlib -static -Wl,--build-id=none,-z,noexecstack,--no-warn-rwx-segments \
		-T tests/guests/hostile_image.ld -o $@.elf $(HOSTILE)
	$(Q)$(CROSS)objcopy -O binary $@.elf $@
$(B)/vm/ticker.cpio: $(B)/vm/ticker $(B)/tool/mkinitrd
	@printf '/dev 0755\n/dev/console 0600 c 5 1\n/init 0755 vm/ticker\n' >$(B)/vm/ticker.list
	$(Q)$(B)/tool/mkinitrd $(B)/vm/ticker.list $(B) $@
$(B)/vm/root.img: $(B)/vm/payload tests/guests/mkroot.sh
	$(call say,MKE2FS,"guest test root")
	$(Q)tests/guests/mkroot.sh $< $@
$(B)/bench/root.img: $(B)/vm/payload tests/guests/mkroot.sh
	$(call say,MKE2FS,"root of the benchmarks")
	@mkdir -p $(@D)
	$(Q)BUILT=1 tests/guests/mkroot.sh $< $@

$(B)/redis.stamp: tests/guests/redis.sh $(CACHED) | $(B)/deps.stamp
	@tests/guests/redis.sh
$(B)/vm/soak.img: $(B)/vm/payload tests/guests/mkroot.sh $(B)/redis.stamp
	$(call say,MKE2FS,"soak test root")
	$(Q)tests/guests/mkroot.sh $< $@ $(B)/redis

## check-vm: hypervisor and guest in the emulated host
.PHONY: check-vm
check-vm: $(B)/appliance.stamp $(addprefix $(B)/vm/,ctl_drive guest_drive hostile_drive \
		lockdown_drive confine_drive vmmtrace hostile.Image ticker.cpio root.img \
		guest_soak soak.img) \
		$(addprefix $(B)/debug/dormouse-vmm-,debug ubsan example)
	@mkdir -p $(CHECK)
	@tests/vm.sh

## check-asan: the hostile guest against a VMM with the address sanitizer
.PHONY: check-asan
check-asan: $(B)/appliance.stamp $(addprefix $(B)/vm/,hostile_drive hostile.Image) \
		$(B)/debug/dormouse-vmm-asan
	@mkdir -p $(CHECK)
	@tests/vm.sh hostile-asan

## check-long: a hundred clones, a thousand suspends (CLONES=, CYCLES= for other numbers), check-software
.PHONY: check-long
check-long: $(B)/appliance.stamp $(B)/bases.stamp $(B)/native/dormouse \
		$(addprefix $(B)/vm/,guest_soak soak.img)
	@mkdir -p $(CHECK)
	@status=0; tests/vm.sh soak || status=1; $(SOFTWARE_RUN) || status=1; exit $$status

SOFTWARE_RUN = E2E_TIMEOUT=14400 E2E_TEST_TIMEOUT=7200000 tests/e2e.sh tests/e2e/software.mjs
## check-software: the software that has to work, installed by Dockerfiles (SOFTWARE=tools,java: some)
.PHONY: check-software
check-software: $(B)/native/dormouse $(B)/appliance.stamp $(B)/bases.stamp
	@mkdir -p $(CHECK)
	@$(SOFTWARE_RUN)

FAULT_PARTS := $(B)/appliance.stamp $(B)/bases.stamp $(B)/vm/fault_drive $(B)/vm/payload
## check-faults: the daemon killed at 200 moments (KILLS=, SEED=), full disks and other faults
# On one processor that counts instructions: nobody gives up on it because this machine is busy.
# DETERMINISTIC=0: two processors and the wall's clock.
.PHONY: check-faults
check-faults: $(FAULT_PARTS)
	@mkdir -p $(CHECK)
	@export KILLS=$${KILLS:-200} DETERMINISTIC=$${DETERMINISTIC:-1} PATIENT=1; tests/vm.sh faults

## check-load: runs a second, MINUTES=30 of mixed load by CLIENTS=200 (PACE_MS=), a start over 10,000 microVMs
.PHONY: check-load
check-load: $(FAULT_PARTS)
	@mkdir -p $(CHECK)
	@export CASES="runs load rows" CLIENTS=$${CLIENTS:-200} MINUTES=$${MINUTES:-30} \
		PACE_MS=$${PACE_MS:-20000} HOST_MEM=$${HOST_MEM:-10G} \
		DETERMINISTIC=$${DETERMINISTIC:-1} PATIENT=1; tests/vm.sh faults

## check-e2e: the story, the API with the AWS SDK, the command line tool
.PHONY: check-e2e
check-e2e: $(B)/native/dormouse $(FAULT_PARTS)
	@mkdir -p $(CHECK)
	@status=0; tests/e2e.sh || status=1; \
	DETERMINISTIC=$${DETERMINISTIC:-1} PATIENT=1 tests/vm.sh faults || status=1; exit $$status

## lint: formatting, include rules, shell checks
.PHONY: lint
lint: $(B)/musl.stamp
	@LINT_FLAGS='$(LINT_FLAGS)' tools/lint.sh

## fuzz: run the fuzz targets (T=name for one, TIME=seconds each)
TIME ?= 60
.PHONY: fuzz
fuzz: $(foreach t,$(or $(T),$(FUZZ)),$(B)/test/fuzz/$(t))
	@for t in $(or $(T),$(FUZZ)); do echo "== $$t"; mkdir -p $(B)/fuzz/$$t; \
		$(B)/test/fuzz/$$t -max_total_time=$(TIME) -print_final_stats=0 $(B)/fuzz/$$t \
		$$(ls -d tests/fuzz/corpus/$$t 2>/dev/null) || exit 1; done

# ---- benchmarks -----------------------------------------------------------------------------------

BENCH := cases devices dormouse firecracker_api init layer main peers proc qemu record scale \
	target thaw timeline trace
$(B)/bench/bench: $(call objects,glibc,$(BENCH:%=tests/bench/%.c) \
	tests/vm/guest_client.c api/parent_spawn.c $(BASE_SRC) $(SNAPSHOT_SRC))
	$(call say,LINK,"bench (runs on arm64)")
	@mkdir -p $(@D)
	@# Not where the VMM is, so that an address says which of the two it belongs to.
	$(Q)$(CC_glibc) -static $(LINK) -Wl,-Ttext-segment=0x40000000 -o $@ $^ -lzstd
BENCH_DAEMON := daemon daemon_first daemon_fork daemon_many daemon_sleep proc record
$(B)/bench/daemon: $(call objects,glibc,$(BENCH_DAEMON:%=tests/bench/%.c) \
	$(filter-out tools/cli/main.c,$(CLI_SRC)))
	$(call say,LINK,"bench of the daemon (runs on arm64)")
	@mkdir -p $(@D)
	$(Q)$(CC_glibc) -static $(LINK) -Wl,--wrap=conn_write -o $@ $^ $(CLI_LIBS)
$(B)/bench/records: $(call objects,glibc,tests/bench/records.c)
	$(call say,LINK,"bench records (runs on arm64)")
	@mkdir -p $(@D)
	$(Q)$(CC_glibc) -static $(LINK) -o $@ $^ -lsqlite3 -lm -lpthread
$(B)/bench/guest: $(call objects,musl,tests/bench/guest.c)
	$(call say,LINK,"bench guest")
	@mkdir -p $(@D)
	$(Q)$(CC_musl) -static $(LINK) -s -o $@ $^
$(B)/bench/guest.cpio: $(B)/tool/mkinitrd tests/bench/guest.list $(B)/bench/guest
	$(Q)$(B)/tool/mkinitrd tests/bench/guest.list $(B) $@
$(B)/peers.stamp: tests/bench/peers.sh $(CACHED) | $(B)/deps.stamp
	@tests/bench/peers.sh
BENCH_GUARD := $(B)/appliance.stamp $(B)/bench/bench $(B)/bench/guest.cpio $(B)/bench/root.img
BENCH_PARTS := $(B)/appliance.stamp $(B)/peers.stamp $(B)/bench/bench $(B)/bench/guest.cpio \
	$(B)/bench/root.img $(B)/vm/payload $(B)/bench/daemon $(B)/bench/records $(B)/bases.stamp

## bench: all benchmarks beside peers, on the instruction clock; build/bench/results.jsonl
.PHONY: bench
bench: $(BENCH_PARTS)
	@tests/bench.sh

## bench-quick: the main figures only
.PHONY: bench-quick
bench-quick: $(BENCH_PARTS)
	@tests/bench.sh -q

## bench-diff: what moved by more than 2 % against the commit REV (quick figures)
.PHONY: bench-diff
bench-diff: $(BENCH_PARTS)
	@tests/bench/diff.sh "$(REV)"

## check-bench: fails when a figure is more than 5 % worse than tests/bench/baseline.jsonl
.PHONY: check-bench
check-bench: $(BENCH_GUARD)
	@mkdir -p $(CHECK)
	@tests/bench/guard.sh

## restore-trace: one restore by phase and by function, every instruction (MODE=pooled|unpooled|prepared|thaw|boot|save)
.PHONY: restore-trace
restore-trace: $(BENCH_PARTS) $(B)/tool/tracesum tools/tcgtrace.c
	@tools/restore-trace.sh $(or $(MODE),pooled)

# Writes docs/benchmarks.md and its pictures from the results of `make bench`.
.PHONY: bench-report
bench-report: $(B)/tool/benchplot
	@tests/bench/report.sh

# ---- the rest --------------------------------------------------------------------------------------

## clean: remove what was built here (the cache and the state of `make up` stay)
.PHONY: clean
clean:
	@rm -rf $(B)/obj $(B)/link $(B)/debug $(B)/asan64 $(B)/arm64 $(B)/native $(B)/test $(B)/tool $(B)/guest \
		$(B)/appliance $(B)/appliance.stamp $(CHECK)

## distclean: remove build/ and the cache
.PHONY: distclean
distclean: down
	@rm -rf $(B) "$${DORMOUSE_CACHE:-$$HOME/.cache/dormouse}"

## help: this list
.PHONY: help
help:
	@printf 'Targets:\n'
	@sed -nE 's/^## ([a-z0-9-]+): (.*)/  \1\t\2/p' Makefile | sort | expand -t 16
	@printf '\nVariables: V=1 (show commands)  DORMOUSE_PORT DORMOUSE_RUN DORMOUSE_CACHE DORMOUSE_MIRROR\n'
	@printf '           DETERMINISTIC=1 (one instruction is one nanosecond)  GIC=2\n'

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
