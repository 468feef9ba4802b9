#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC3045  # busybox has read -t and ulimit -n
# PID 1 of the appliance, run by busybox. It mounts, loads modules, configures the network,
# then either supervises dormoused or, with `dormouse.run=PATH` on the kernel command line,
# runs that one program and powers off with the line `dormouse: exit N` on the console.
# The serial console is slow, so nothing is printed there that nobody must read.
#
# Named virtio-serial ports, each optional (there are none on real hardware):
#   org.dormouse.run   output of the program named by dormouse.run
#   org.dormouse.ctl   orders, one per line: `poweroff`
#   org.dormouse.log   what dormoused logs
#   org.dormouse.boot  access key and CA certificate, once dormoused serves
# Without them `dormouse.port=DEVICE` names where the output of that program goes.

export PATH=/usr/sbin:/usr/bin HOME=/root
state=/var/lib/dormouse

# The kernel's first root file system cannot be pivoted away from, and the jail of every
# microVM pivots. A bind mount of it, moved on top, can.
if [ "${1:-}" != second ]; then
    mount -o bind / /mnt
    cd /mnt || exit 1
    mount -o move . /
    exec chroot . /init second
fi
cd /

say() { # to the console at once, whatever the log level
    echo "<0>dormouse: $*" >/dev/kmsg
}

param() { # value of one word of the kernel command line
    for word in $cmdline; do
        case $word in "$1="*) echo "${word#*=}" && return 0 ;; esac
    done
    return 1
}

port() { # device of a named virtio-serial port
    for name in /sys/class/virtio-ports/*/name; do
        if [ -e "$name" ] && read -r line <"$name" && [ "$line" = "org.dormouse.$1" ]; then
            name=${name%/name}
            echo "/dev/${name##*/}"
            return 0
        fi
    done
    return 1
}

disk() { # device of a disk, by the serial the emulator gave it, else by file system label
    for dir in /sys/block/vd*; do
        if [ -e "$dir/serial" ] && read -r line <"$dir/serial" && [ "$line" = "$1" ]; then
            echo "/dev/${dir##*/}"
            return 0
        fi
    done
    findfs "LABEL=dormouse-$1" 2>/dev/null
}

mount_all() {
    mount -t proc -o nosuid,nodev,noexec proc /proc
    mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
    mount -t devtmpfs -o nosuid,mode=0755 dev /dev
    mkdir -p /dev/pts /dev/shm
    mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
    mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmp /tmp
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
    echo '+cpu +memory +pids +io' >/sys/fs/cgroup/cgroup.subtree_control
    ln -sf /proc/self/fd /dev/fd
    ln -sf /proc/self/fd/0 /dev/stdin
    ln -sf /proc/self/fd/1 /dev/stdout
    ln -sf /proc/self/fd/2 /dev/stderr
    mkdir -p /run/dormouse /run/lock
}

network() {
    ip link set lo up
    [ -e /sys/class/net/eth0 ] || return 0
    if net=$(param dormouse.net); then # address/prefix,gateway,dns
        gw=${net#*,}
        ip link set eth0 up
        ip addr add "${net%%,*}" dev eth0
        ip route add default via "${gw%,*}"
        echo "nameserver ${gw#*,}" >/etc/resolv.conf
    else
        udhcpc -i eth0 -q -n -s /usr/share/udhcpc/default.script >/dev/null 2>&1 ||
            say "no address for eth0 from DHCP"
    fi
    echo 1 >/proc/sys/net/ipv4/ip_forward
}

disks() {
    if dev=$(disk state); then
        # Replays the journal after a power failure; repairs only what is always safe.
        e2fsck -p "$dev" >/run/fsck.log 2>&1
        [ $? -lt 4 ] || say "the state disk needs a repair by hand: $(tail -n 1 /run/fsck.log)"
        mount -t ext4 -o nosuid,nodev,noatime,discard "$dev" $state ||
            say "cannot mount the state disk $dev"
    fi
    if dev=$(disk bases); then
        mount -t ext4 -o ro,nosuid,nodev,noexec "$dev" /usr/share/dormouse/bases ||
            say "cannot mount the disk of base images $dev"
    fi
}

halt_now() {
    sync
    umount $state 2>/dev/null || mount -o remount,ro $state 2>/dev/null
    umount /usr/share/dormouse/bases 2>/dev/null
    poweroff -f
}

run_once() {
    out=$(port run) || out=$(param dormouse.port) || out=/dev/console
    case $out in /dev/ttyS*) stty raw -F "$out" ;; esac
    # Through a pipe, because a port has one opener and programs like to open /dev/stderr.
    mkfifo /run/out
    cat /run/out >"$out" &
    reader=$!
    "$1" </dev/null >/run/out 2>&1
    code=$?
    # Whatever the program left running holds the pipe open and would hide its end.
    for proc in /proc/[0-9]*; do
        pid=${proc#/proc/}
        [ "$pid" = 1 ] || [ "$pid" = $reader ] || kill -9 "$pid" 2>/dev/null
    done
    wait $reader
    say "exit $code"
    halt_now
}

hand_over() { # waits until dormoused serves, then sends what a client needs
    until [ -e /run/dormouse/ready ]; do
        # An event ends the wait; the limit only covers one that came before the watch.
        read -r -t 1 _
    done
    out=$(port boot) || return 0
    for file in bootstrap.env ca.pem; do
        echo "#file $file"
        cat $state/$file
    done >"$out"
    echo "#end" >"$out"
}

orders() {
    in=$(port ctl) || return 0
    while read -r order; do
        case $order in
        poweroff) kill -TERM 1 ;;
        *) say "unknown order '$order'" ;;
        esac
    done <"$in"
}

supervise() {
    log=$state/log
    mkdir -p $log
    if [ -f $log/dormoused.log ] && [ "$(stat -c %s $log/dormoused.log)" -gt 8388608 ]; then
        mv $log/dormoused.log $log/dormoused.log.1
    fi
    mkfifo /run/log /run/events
    out=$(port log) || out=/dev/console
    tee -a $log/dormoused.log </run/log >"$out" &
    exec 3>/run/log
    inotifyd - /run/dormouse:wy >/run/events 2>/dev/null 3>&- &
    hand_over </run/events 3>&- &
    orders 3>&- &

    trap 'stop=1; kill -TERM $daemon 2>/dev/null' TERM INT
    # Settings of dormoused: dormouse.conf.NAME=VALUE on the kernel command line.
    set -- --listen 0.0.0.0:8443
    for word in $cmdline; do
        case $word in dormouse.conf.*=*) set -- "$@" "--${word#dormouse.conf.}" ;; esac
    done
    while [ -z "$stop" ]; do
        begin=$(cut -d. -f1 /proc/uptime)
        dormoused "$@" </dev/null >&3 2>&3 3>&- &
        daemon=$!
        code=0
        wait $daemon || code=$?
        while kill -0 $daemon 2>/dev/null; do # a signal ended the wait, not the daemon
            wait $daemon
            code=$?
        done
        [ -z "$stop" ] || break
        say "dormoused ended with status $code, starting it again"
        rm -f /run/dormouse/ready
        # A daemon that cannot start must not fill the disk with its complaints.
        [ $(($(cut -d. -f1 /proc/uptime) - begin)) -ge 2 ] || sleep 2
    done
    exec 3>&-
    say "stopped"
    halt_now
}

mount_all
ulimit -n 1048576 # the hard limit too
ulimit -Sn 65536
read -r cmdline </proc/cmdline
# shellcheck disable=SC2046  # the list is words
modprobe -a $(cat /lib/modules/load) 2>/run/modprobe.log || say "a kernel module is missing"
network
disks
hostname dormouse

if program=$(param dormouse.run); then
    run_once "$program"
else
    supervise
fi
