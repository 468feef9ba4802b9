#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Containers need groups of their own: all that runs here goes into one, then the controllers can
# be handed on.
set -eu
mkdir -p /sys/fs/cgroup/init
procs=$(cat /sys/fs/cgroup/cgroup.procs)
for pid in $procs; do
    echo "$pid" >/sys/fs/cgroup/init/cgroup.procs || true
done
sed 's/[^ ][^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
# dockerd gives a containerd of its own 15 s to start, which is little where a processor is emulated.
containerd &
until ctr version >/dev/null 2>&1; do sleep 1; done
exec dockerd --containerd /run/containerd/containerd.sock
