#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs on the ARM64 host: dormoused as the appliance runs it, images built by the command line
# tool, then the client that measures. Called by inside.sh, whose settings are in the
# environment: daemon-inside.sh RESULTS.
# shellcheck disable=SC3045 # busybox has ulimit -n
set -eu
results=$1
state=/var/lib/dormouse run=/run/dormouse log=$BENCH_WORK/dormoused.log
if [ "$NATIVE" = 1 ]; then
    run=$BENCH_WORK/run
fi
: "${DORMOUSED:=dormoused}" "${BASES:=/usr/share/dormouse/bases}"
port=${BENCH_PORT:-8443}
mkdir -p $state "$run"
ulimit -n 65536
# In memory: while a disk of the emulated machine works, its clock does not count instructions.
# Natively this is in a mount namespace of our own, so the machine's own state is not touched.
# A snapshot as large as its guest would count against the guest's limit on a tmpfs, as nothing of
# that can be written back, so where guests are large there is a file system on top.
case ,$ONLY, in
*,suspend,* | *,sessions,* | *,clones-app,*)
    truncate -s 6G "$BENCH_WORK/state.img"
    /usr/sbin/mke2fs -q -t ext4 -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$BENCH_WORK/state.img"
    mount -t ext4 -o loop,noatime,discard "$BENCH_WORK/state.img" $state
    ;;
*) mount -t tmpfs -o mode=0755,size=60% none $state ;;
esac

up() { # with more settings
    rm -f "$run/ready"
    "$DORMOUSED" --listen 127.0.0.1 --port "$port" --state $state --run "$run" --vmm "$VMM" \
        --kernel "$KERNEL" --initrd "$INITRD" --bases "$BASES" "$@" </dev/null >>"$log" 2>&1 &
    daemon=$!
    until [ -e "$run/ready" ]; do
        kill -0 $daemon 2>/dev/null || {
            tail -n 5 "$log"
            exit 1
        }
        sleep 0.005
    done
}

down() {
    kill -TERM $daemon
    wait $daemon || true
}

has() {
    for name in "$@"; do
        case ,$ONLY, in *",$name,"*) return 0 ;; esac
    done
    return 1
}

# build NAME BASE FILE COMMAND: an image of one file.
build() {
    mkdir -p "$BENCH_WORK/$1"
    cp "$BENCH_FILES/$3" "$BENCH_WORK/$1/"
    chmod 755 "$BENCH_WORK/$1/$3"
    printf 'FROM %s\nCOPY %s /%s\nEXPOSE 8080\nCMD %s\n' "$2" "$3" "$3" "$4" \
        >"$BENCH_WORK/$1/Dockerfile"
    "$BENCH_FILES/dormouse" build --name "$1" --memory 512 --quiet "$BENCH_WORK/$1"
}

# measure CASES IMAGE RUNS
measure() {
    "$BENCH_FILES/daemon" "$1" "$2" "$3" "$log" "$results.part" || status=1
    cat "$results.part" >>"$results" 2>/dev/null || true
    rm -f "$results.part"
}

status=0
: >"$log"
up
set -a
# shellcheck disable=SC1091 # made by dormoused
. $state/bootstrap.env
set +a
export DORMOUSE_URL="https://localhost:$port" AWS_CA_BUNDLE=$state/ca.pem
NGINX_DIR=$BENCH_PEERS
export NGINX_DIR
if has first-byte proxy create list fork; then
    build bench dormouse/debian payload '["/payload", "http", "8080"]' || status=1
    cases=
    for name in first-byte proxy create fork; do
        ! has $name || cases=$cases,$name
    done
    [ -z "$cases" ] || measure "${cases#,}" bench "${RUNS:-11}"
    if has first-byte; then
        down
        up --working-sets 0
        WORKSETS=off measure first-byte bench 6
        down
        up
    fi
fi
if has suspend sessions clones-app; then
    build python dormouse/python workload.py '["python3", "/workload.py"]' || status=1
    ! has suspend || measure suspend python 3
    ! has sessions || measure sessions python 1
    ! has clones-app || CLONES=${CLONES:-200} measure clones-app python 1
fi
if has list; then
    rows=10000
    if ! has first-byte create; then # one that has ended, to be copied
        id=$("$BENCH_FILES/dormouse" run bench --json | sed -n 's/.*"microvmId": *"\([^"]*\)".*/\1/p')
        "$BENCH_FILES/dormouse" terminate "$id"
    fi
    down
    "$BENCH_FILES/records" $state/dormouse.db $rows || status=1
    begin=$(cut -d' ' -f1 /proc/uptime)
    up
    end=$(cut -d' ' -f1 /proc/uptime)
    ROWS=$rows measure list bench 11
    awk -v a="$begin" -v b="$end" -v n=$rows -v clock="$CLOCK" 'BEGIN {
        ms = sprintf("%.0f", (b - a) * 1000)
        printf "{\"case\":\"daemon-start-up\",\"params\":{\"records\":%d},\"metric\":\"time\",", n
        printf "\"unit\":\"ms\",\"median\":%s,\"min\":%s,\"max\":%s,\"runs\":1,", ms, ms, ms
        printf "\"clock\":\"%s\",\"peer\":null,\"peer_median\":null,\"ratio\":null}\n", clock
    }' >>"$results"
fi
grep -E ' (started|resumed|suspended) in ' "$log" | tail -n 6 | sed 's/^/# /'
[ $status -eq 0 ] || tail -n 20 "$log" | sed 's/^/# /'
down
exit $status
