#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Starts, stops and asks for a local Dormouse host: the appliance in an emulated ARM64 machine,
# or, on an ARM64 machine with KVM, dormoused as a plain process. `make up` and `make down`.
#
# Everything that belongs to one instance is in one directory, so several can run side by side,
# each with its own directory and port. Only processes recorded there are ever signalled.
set -eu

usage() {
    cat <<'END'
Usage: tools/host.sh up | down | status | wait

  up      start the host, wait until its API answers, write RUN/env for `. RUN/env`
  down    stop it in an orderly way; the state stays
  status  say whether it runs; exit status 3 if not
  wait    wait until the API of a host that is being started answers

Environment:
  DORMOUSE_RUN    directory of this instance (build/run)
  DORMOUSE_PORT   port of the API on 127.0.0.1 (8443)
  DORMOUSE_STATE  disk image with all state (RUN/state.img); native: directory (RUN/state)
  DORMOUSE_STATE_SIZE  its size when it is made, sparse (64G)
  HOST_MEM=8G SMP=2 GIC=3|2 DETERMINISTIC=1  the emulated machine
  DORMOUSE_CONF   settings of dormoused, as in "log-level=debug max-duration=60"
  DORMOUSE_EMULATE=1   emulate even where KVM could be used
  UP_TIMEOUT      seconds until the API must answer (120)
END
}

die() {
    echo "error: $*" >&2
    exit 1
}

umask 077 # secrets in the state, the environment and the logs
here=$PWD
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tools/emulator.sh
. "$top/tools/emulator.sh"

build=$(realpath -m "${BUILD:-$top/build}")
run=$(realpath -m "${DORMOUSE_RUN:-$build/run}")
port=${DORMOUSE_PORT:-8443}
limit=${UP_TIMEOUT:-120}
case $port$limit in
*[!0-9]*) die "DORMOUSE_PORT and UP_TIMEOUT must be numbers, not '$port' and '$limit'" ;;
esac
if [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
    die "DORMOUSE_PORT must be between 1 and 65535, not $port"
fi

native() {
    [ "$(uname -m)" = aarch64 ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] &&
        [ "${DORMOUSE_EMULATE:-0}" != 1 ]
}

# A process is known by its number and the time it was started at, as numbers are used again.
# One that is dead but not yet collected by its parent has no time.
started_at() {
    sed -n 's/.*) //; /^[^ZX]/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

remember() {
    printf '%s %s\n' "$1" "$(started_at "$1")" >"$run/pid"
}

running() { # sets pid
    local since
    [ -s "$run/pid" ] && read -r pid since <"$run/pid" && [ -n "${since:-}" ] &&
        [ "$(started_at "$pid")" = "$since" ]
}

# ended SECONDS: waits for the process to end. It is no child, so there is only looking.
ended() {
    local deadline=$((SECONDS + $1))
    while running; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

build_id() { # of what would be started now
    if native; then
        stat -L -c '%n %Y %s' "$build"/arm64/dormoused
    else
        stat -L -c '%n %Y %s' "$build"/appliance/{Image,initrd.cpio} "$build/bases/bases.img" \
            2>/dev/null || true
    fi
}

rotate() {
    [ ! -e "$1" ] || mv -f "$1" "$1.1"
    : >"$1"
}

show_end() { # the last words of a host that did not come up
    local log
    for log in "$run/console.log" "$run/dormoused.log"; do
        [ -s "$log" ] || continue
        echo "the end of $log:" >&2
        tail -n 15 "$log" | sed 's/^/  | /' >&2
    done
}

make_state_disk() {
    [ ! -e "$state" ] || return 0
    mkdir -p "$(dirname "$state")"
    truncate -s "${DORMOUSE_STATE_SIZE:-64G}" "$state.new"
    # Few inodes, as the files are large; not to be zeroed by the machine at leisure.
    mke2fs -q -t ext4 -L dormouse-state -m 1 -i 65536 -J size=64 \
        -E assume_storage_prezeroed=1,nodiscard "$state.new" ||
        die "cannot make the state disk '$state'; is e2fsprogs 1.47 or later installed?"
    mv "$state.new" "$state"
}

start_emulated() {
    local word settings
    emulator_check || exit 1
    if [ ! -s "$build/appliance/Image" ] || [ ! -s "$build/appliance/initrd.cpio" ]; then
        die "'$build/appliance' is missing or incomplete; run 'make' first"
    fi
    state=$(realpath -m "${DORMOUSE_STATE:-$run/state.img}")
    make_state_disk
    # Relative names below: a socket's address has room for 108 bytes only.
    cd "$run"
    rm -f ctl.in ctl.out qmp.sock boot.out
    mkfifo -m 600 ctl.in ctl.out
    rotate console.log
    rotate dormoused.log
    emulator_args
    emulator_disk "$state" state
    [ ! -s "$build/bases/bases.img" ] || emulator_disk "$build/bases/bases.img" bases ro
    emulator_net "tcp:127.0.0.1:$port-:8443"
    settings=" dormouse.conf.public-port=$port"
    for word in ${DORMOUSE_CONF:-}; do settings+=" dormouse.conf.$word"; done
    emulator_port ctl pipe,path=ctl
    emulator_port boot file,path=boot.out
    emulator_port log file,path=dormoused.log,append=on
    "${EMULATOR[@]}" -name "dormouse-$port" -serial file:console.log \
        -qmp unix:qmp.sock,server=on,wait=off -pidfile "$run/qemu.pid" -daemonize \
        -kernel "$build/appliance/Image" -initrd "$build/appliance/initrd.cpio" \
        -append "$EMULATOR_CMDLINE$settings" 2>qemu.err || {
        case $(cat qemu.err) in
        *'host forwarding'*) die "port $port is taken; choose another with DORMOUSE_PORT" ;;
        *lock*) die "the state disk '$state' is in use by another host; set DORMOUSE_STATE" ;;
        *) cat qemu.err >&2 && die "the emulator did not start (above)" ;;
        esac
    }
    read -r pid <qemu.pid
    remember "$pid"
}

start_native() {
    local file word bases settings=()
    for file in "$build"/arm64/{dormoused,dormouse-vmm} "$build/kernel/Image" \
        "$build/guest/initrd.cpio"; do
        [ -s "$file" ] || die "'$file' is missing; run 'make' first"
    done
    state=$(realpath -m "${DORMOUSE_STATE:-$run/state}")
    mkdir -p "$state"
    bases=$run/bases
    mkdir -p "$bases"
    if [ -s "$build/bases/bases.img" ] && ! mountpoint -q "$bases"; then
        mount -o ro,loop,nosuid,nodev,noexec "$build/bases/bases.img" "$bases" ||
            die "cannot mount the base images; dormoused must be started as root"
    fi
    rotate "$run/dormoused.log"
    rm -f "$run/ready"
    for word in ${DORMOUSE_CONF:-}; do settings+=("--$word"); done
    (
        cd /
        exec setsid "$build/arm64/dormoused" --state "$state" --run "$run" \
            --listen "127.0.0.1:$port" --public-port "$port" \
            --vmm "$build/arm64/dormouse-vmm" --kernel "$build/kernel/Image" \
            --initrd "$build/guest/initrd.cpio" --bases "$bases" \
            ${settings[@]+"${settings[@]}"} </dev/null >>"$run/dormoused.log" 2>&1
    ) &
    pid=$!
    remember "$pid"
}

# take_credentials: what init sent over the port `boot`, once it is complete.
take_credentials() {
    local name
    [ ! -s "$run/bootstrap.env" ] || [ ! -s "$run/ca.pem" ] || return 0
    if native; then
        [ -e "$run/ready" ] || return 1
        for name in bootstrap.env ca.pem; do install -m 600 "$state/$name" "$run/$name"; done
        return 0
    fi
    [ -s "$run/boot.out" ] && [ "$(tail -n 1 "$run/boot.out")" = '#end' ] || return 1
    for name in bootstrap.env ca.pem; do
        awk -v want="#file $name" '/^#/ { on = $0 == want; next } on' "$run/boot.out" \
            >"$run/$name.new"
        mv -f "$run/$name.new" "$run/$name"
    done
    rm -f "$run/boot.out"
}

answers() {
    curl -s -o /dev/null --max-time 5 --cacert "$run/ca.pem" "https://localhost:$port/"
}

quoted() {
    printf "'%s'" "${1//\'/\'\\\'\'}"
}

value() { # one value of bootstrap.env, which is read and never run
    local line
    line=$(sed -n "s/^$1=//p" "$run/bootstrap.env")
    case $line in
    '' | *[!A-Za-z0-9+/=._-]*) die "the host sent no usable $1; look at '$run/dormoused.log'" ;;
    esac
    printf '%s' "$line"
}

write_env() {
    local url=https://localhost:$port key secret region ca
    key=$(value AWS_ACCESS_KEY_ID)
    secret=$(value AWS_SECRET_ACCESS_KEY)
    region=$(value AWS_REGION)
    ca=$(quoted "$run/ca.pem")
    cat >"$run/env.new" <<END
# For a POSIX shell: . $run/env
unset AWS_PROFILE AWS_SESSION_TOKEN
export AWS_ENDPOINT_URL_LAMBDA_MICROVMS=$url
export AWS_ENDPOINT_URL_S3=$url/s3
export AWS_ACCESS_KEY_ID=$key
export AWS_SECRET_ACCESS_KEY=$secret
export AWS_REGION=$region
export AWS_DEFAULT_REGION=$region
export AWS_CA_BUNDLE=$ca
export NODE_EXTRA_CA_CERTS=$ca
export DORMOUSE_URL=$url
END
    mv -f "$run/env.new" "$run/env"
}

# Polls, as the other end is a machine that boots: in growing steps, up to the deadline.
await_api() {
    local pause=0.05 credentials=0
    while running; do
        [ $credentials = 1 ] || ! take_credentials || credentials=1
        if [ $credentials = 1 ] && answers; then
            write_env
            return 0
        fi
        if [ $SECONDS -ge "$limit" ]; then
            show_end
            die "the API did not answer within $limit s; it may still come: tools/host.sh wait"
        fi
        sleep $pause
        [ $pause != 0.05 ] || pause=0.1
    done
    show_end
    die "the host ended while it was being started"
}

up() {
    command -v curl >/dev/null || die "curl is not installed; run 'make deps'"
    mkdir -p "$run"
    exec {lock}>"$run/lock"
    flock -w "$limit" "$lock" || die "another 'up' or 'down' is at work in '$run'"
    if running; then
        if [ "$(build_id)" = "$(cat "$run/build" 2>/dev/null)" ] && [ -s "$run/env" ] &&
            answers; then
            echo "Dormouse is up already: https://localhost:$port"
            return
        fi
        echo "Dormouse runs an older build, or does not answer: starting it again"
        stop
    fi
    rm -f "$run"/{env,bootstrap.env,ca.pem}
    # The lock is not for the processes that stay.
    if native; then start_native {lock}>&-; else start_emulated {lock}>&-; fi
    build_id >"$run/build"
    await_api
    printf 'Dormouse is up: https://localhost:%s (%s s)\n' "$port" "$SECONDS"
    printf 'In a shell:     . %s\n' "$(realpath --relative-base="$here" "$run/env")"
}

stop() {
    if native; then
        kill -TERM "$pid"
    elif [ -p "$run/ctl.in" ]; then
        # The emulator holds the other end open; a limit in case it does not any more.
        # shellcheck disable=SC2016  # for the inner shell
        timeout 2 sh -c 'echo poweroff >"$1"' - "$run/ctl.in" || true
    fi
    if ! ended "${DOWN_TIMEOUT:-30}"; then
        echo "the host does not stop by itself; ending it" >&2
        kill -TERM "$pid" 2>/dev/null || true
        ended 5 || kill -KILL "$pid" 2>/dev/null || true
        ended 5 || die "process $pid cannot be ended"
    fi
    ! mountpoint -q "$run/bases" || umount "$run/bases"
    rm -f "$run"/{pid,qemu.pid,ctl.in,ctl.out,qmp.sock,boot.out,build,env}
}

down() {
    [ -d "$run" ] || { echo "Dormouse is not running" && return; }
    exec {lock}>"$run/lock"
    flock -w 60 "$lock" || die "another 'up' or 'down' is at work in '$run'"
    if ! running; then
        echo "Dormouse is not running"
        return
    fi
    stop
    echo "Dormouse is down; its state is kept"
}

status() {
    if ! running; then
        echo "Dormouse is not running (make up)"
        return 3
    fi
    echo "process  $pid, since $(ps -o lstart= -p "$pid" | tr -s ' ')"
    echo "memory   $(awk '/^VmRSS/ { printf "%d", $2 / 1024 }' "/proc/$pid/status") MiB"
    [ ! -e "$run/state.img" ] ||
        echo "state    $(du -m "$run/state.img" | cut -f1) MiB in $run/state.img"
    echo "logs     $run/dormoused.log $run/console.log"
    if [ -s "$run/env" ] && answers; then
        echo "API      https://localhost:$port, answers"
    else
        echo "API      does not answer"
        return 1
    fi
}

case ${1:-} in
up) up ;;
down) down ;;
status) status ;;
wait)
    running || die "Dormouse is not running; start it with 'make up'"
    await_api
    ;;
-h | --help | help) usage ;;
*) usage >&2 && exit 2 ;;
esac
