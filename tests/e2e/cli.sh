#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command line tool against a running host, as TAP. Needs the host's environment:
#     . build/run/env && tests/e2e/cli.sh
# DORMOUSE names the program (build/native/dormouse).
set -u
cd "$(dirname "$0")/../.." || exit 1

if [ -z "${DORMOUSE_URL:-}" ]; then
    echo "Bail out! DORMOUSE_URL is not set; run: make up && . build/run/env"
    exit 1
fi
dormouse=${DORMOUSE:-build/native/dormouse}
if [ ! -x "$dormouse" ]; then
    echo "Bail out! $dormouse is missing; run: make $dormouse"
    exit 1
fi
node=$(tools/node.sh) || exit 1
work=$(mktemp -d)
image=cli-$$-$(date +%s)
count=0 failed=0

cleanup() {
    local ids
    ids=$("$dormouse" ps -q --image "$image" 2>/dev/null)
    # shellcheck disable=SC2086  # one word each
    [ -z "$ids" ] || "$dormouse" terminate $ids >/dev/null 2>&1
    "$dormouse" rm "$image" >/dev/null 2>&1
    rm -rf "$work"
}
trap cleanup EXIT

# run STATUS ARGUMENTS: runs the tool, keeps what it says; true when it exits with STATUS.
run() {
    local want=$1
    shift
    "$dormouse" "$@" >"$work/out" 2>"$work/err"
    local status=$?
    [ $status = "$want" ] || echo "# dormouse $*: exit status $status instead of $want"
    [ $status = "$want" ]
}

out() { # the whole of standard output is this pattern (a glob)
    # shellcheck disable=SC2053
    [[ "$(<"$work/out")" = $1 ]] || { sed 's/^/# out: /' "$work/out" && false; }
}

err() { # standard error has this text
    grep -qF -- "$1" "$work/err" || { sed 's/^/# err: /' "$work/err" && false; }
}

silent() { # nothing on standard output
    [ ! -s "$work/out" ] || { sed 's/^/# out: /' "$work/out" && false; }
}

json() { # standard output is JSON, and this is true of its value v
    "$node" -e "const v = JSON.parse(require('fs').readFileSync('$work/out'));
        process.exit(($1) ? 0 : 1)" || { sed 's/^/# out: /' "$work/out" && false; }
}

# check NAME: the outcome of the command before it.
check() {
    local result=$?
    count=$((count + 1))
    if [ $result = 0 ]; then
        echo "ok $count - $1"
    else
        echo "not ok $count - $1"
        failed=$((failed + 1))
    fi
}

# ---- without a host -------------------------------------------------------------------------

run 0 && out '*dormouse deploy ./app*' && [ "$(grep -c '^  dormouse ' "$work/out")" = 4 ]
check 'no arguments: short help with four examples'

run 0 help && commands=$(sed -nE 's/^  ([a-z]+) +.*/\1/p' "$work/out") && [ -n "$commands" ]
check 'help lists the commands'

missing=
for c in $commands; do
    run 0 help "$c" && out "Usage: dormouse $c *" || missing="$missing help:$c"
    grep -qw "$c" tools/cli/dormouse.bash || missing="$missing completion:$c"
    grep -qE "^\.It Nm Cm ([a-z]+ \| )*$c( |\$)" docs/dormouse.1 || missing="$missing manual:$c"
    while read -r o; do
        grep -qE "Fl ([a-zA-Z] , )?-$o( |\$)" docs/dormouse.1 || missing="$missing manual:--$o"
    done < <(sed -nE 's/^  (-., )?--([a-z-]+).*/\2/p' "$work/out")
done
[ -z "$missing" ] || { echo "# missing:$missing" && false; }
check 'every command is in the help, the completion and the manual'

run 2 imags && err "did you mean: dormouse images" && silent
check 'an unknown command names the nearest'
run 2 ps --al && err 'did you mean --all?' && err 'code:  USAGE'
check 'an unknown option names the nearest'
run 2 suspend && err 'dormouse help suspend'
check 'a missing name is a usage error'
(unset DORMOUSE_URL AWS_ENDPOINT_URL_LAMBDA_MICROVMS && run 2 ps && err 'make up && . build/run/env')
check 'without a host it says how to get one'
run 6 --url https://localhost:1 ps && err 'Connection refused' && err 'make up'
check 'no host at the address'
run 2 --url http://localhost:1 ps && err 'https://'
check 'plain HTTP is refused'

# ---- trust and keys -------------------------------------------------------------------------

roots=/etc/ssl/certs/ca-certificates.crt
if [ -r $roots ]; then
    run 6 --ca $roots ps && err 'not trusted' && err 'AWS_CA_BUNDLE'
    check 'a certificate of another authority is refused'
else
    count=$((count + 1))
    echo "ok $count - a certificate of another authority is refused # SKIP no $roots"
fi
port=${DORMOUSE_URL##*:}
run 6 --url "https://another.localhost:${port%/}" ps && err 'not trusted'
check 'the certificate must be for the name'
AWS_SECRET_ACCESS_KEY=wrong run 4 ps && err InvalidSignatureException && err 'request: '
check 'a wrong secret is denied'
AWS_ACCESS_KEY_ID=AKIANOBODY run 4 ps --json && silent &&
    grep -q '^{"error":.*"code":"UnrecognizedClientException"' "$work/err"
check 'an unknown key is denied; errors as JSON'
(unset AWS_ACCESS_KEY_ID && run 4 ps && err 'no access key')
check 'no key'
run 0 doctor && ! grep -q ^fail "$work/out" && grep -q '^ok .*credentials' "$work/out"
check 'doctor is content'
run 6 --url https://localhost:1 doctor && grep -q '^fail.*Connection refused' "$work/out" &&
    grep -q 'try: start a host' "$work/out"
check 'doctor says what is wrong'
run 0 version && out 'dormouse *host*[0-9].*' && run 0 host && out 'host *processes*'
check 'version and host'
run 0 env && env -i sh -c ". '$work/out' && [ -n \"\$AWS_SECRET_ACCESS_KEY\" ] &&
    [ \"\$DORMOUSE_URL\" = '$DORMOUSE_URL' ]"
check 'env can be evaluated'

# ---- images ---------------------------------------------------------------------------------

run 3 build "$work/none"
check 'no such folder'
mkdir "$work/empty"
run 3 build "$work/empty" && err 'no Dockerfile'
check 'a folder without a Dockerfile'
mkdir "$work/bad" && printf 'FROM dormouse/debian\nRUN echo seen; exit 7\nCMD ["/bin/true"]\n' \
    >"$work/bad/Dockerfile"
run 1 build "$work/bad" --name "$image-bad" -q && silent && err 'CONTAINER_BUILD_FAILED' &&
    err '>>>   2 | RUN echo seen; exit 7' && err 'try:'
check 'a failing RUN: reason, excerpt, remedy'
run 0 logs --build "$image-bad" && grep -q 'seen' "$work/out"
check 'its log stays readable'
run 0 rm "$image-bad" && out "$image-bad" && run 3 inspect "$image-bad"
check 'rm'

run 0 build tests/e2e/apps/counter --name "$image" --memory 512 && out "$image:1.0" &&
    err 'RUN python3 -m py_compile' && err "$image.zip" && err 'of memory'
check 'build: log and sizes on standard error, the name on standard output'
run 0 images -q && grep -qx "$image" "$work/out" && run 0 images &&
    grep -q "^$image  *1.0  *CREATED" "$work/out"
check 'images'
run 0 inspect "$image" && json "v.versions[0].build.snapshotBuild.memorySnapshotSizeInBytes > 0"
check 'inspect an image'
run 3 run "${image%?}" && err 'did you mean'
check 'an image that is not there names the nearest'
run 3 run "$image:9" && err "dormouse inspect $image"
check 'a version that is not there'

# ---- microVMs -------------------------------------------------------------------------------

run 0 run "$image" --wait && out 'microvm-????????-*' && err 'running in'
check 'run: the id on standard output'
vm=$(<"$work/out")
short=$(printf '%.16s' "$vm" | cut -c9-)
run 0 ps && grep -q "^$short  *$image:1.0  *RUNNING  *[0-9]*s  *https://" "$work/out"
check 'ps'
run 0 ps -q --image "$image" && out "$vm" && run 0 ps --json --image "$image:1" &&
    json "v.length === 1 && v[0].startedAt.endsWith('Z')"
check 'ps -q, --image and --json'
run 0 curl "$short" / && out '*"count": 1*' && run 0 curl "$vm" && out '*"count": 2*'
check 'curl by the beginning of the id, and by the whole'
run 0 curl "$short" / -i -H 'X-Test: 1' && out 'HTTP/1.1 200*"count": 3*'
check 'curl -i'
run 0 curl "$short" / -d '{}' && out '*501*' && run 1 curl "$short" / -d '{}' -f && silent
check 'curl -d, and -f for a status over 400'
run 1 curl "$short" / --port 81 && err 'APP_CONNECT_FAILED' && silent
check 'curl of a port where nothing listens'
run 2 curl "$short" peek && run 2 curl "$short" '/a b' && run 2 curl "$short" / -H 'a b: c'
check 'curl refuses what is no path or header'
run 0 logs "$short" && grep -q 'stdout request 3' "$work/out" && run 0 logs "$short" -n 1 &&
    [ "$(wc -l <"$work/out")" = 1 ]
check 'logs, and their end'
run 0 token "$short" --minutes 5 --ports 8080,9000-9001 && [ "$(wc -l <"$work/out")" = 1 ] &&
    run 2 token "$short" --ports 0 && run 2 token "$short" --minutes 61
check 'token'
run 5 resume "$short" && err 'RUNNING'
check 'resume of a running one: wrong state'
run 0 suspend "$short" && out "$vm" && run 0 inspect "$short" &&
    json "v.state === 'SUSPENDED' && v.suspendedBytes > 0"
check 'suspend, and what it takes'
run 0 curl "$short" / && out '*"count": 4*' && run 0 inspect "$short" &&
    json "v.generation === 2 && v.lastResumeMs > 0"
check 'the next request wakes it'
run 0 suspend "$short" && run 0 resume "$short" && out "$vm"
check 'resume'

run 0 checkpoint "$short" --name one --tag 'why=test' && out 'checkpoint-*' &&
    run 0 checkpoints --json "$short" &&
    json "v.length === 1 && v[0].name === 'one' && v[0].tags.why === 'test'" &&
    run 0 checkpoints "$short" && out 'CHECKPOINT*one*'
check 'checkpoint, and the list of them'
run 0 rollback "$short" one && out "$vm" && run 3 rollback "$short" two && err 'no checkpoint two' &&
    run 5 checkpoint "$short" --name one && err 'already has a checkpoint named one'
check 'rollback, and what there is not'
run 0 fork "$short" --from one --count 2 --name way && out $'microvm-*\nmicrovm-*' &&
    mapfile -t ways <"$work/out" && run 0 inspect "${ways[0]}" &&
    json "v.name === 'way-1' && v.forkedFrom.microvmId === '$vm'" &&
    run 0 terminate "${ways[@]}" && run 2 fork "$short" --count 0 && run 2 rollback "$short" && err 'dormouse help rollback'
check 'fork'
run 0 checkpoints "$short" --delete one && out 'checkpoint-*' && run 0 checkpoints -q "$short" &&
    silent
check 'deleting a checkpoint'

# ---- commands, files, updates, events, keys --------------------------------------------------

run 9 exec "$vm" -- sh -c 'echo out; echo err >&2; exit 9' && out out && err err
check 'exec: output and exit status'
printf 'typed' >"$work/typed"
"$dormouse" exec -i "$vm" -- tr a-z A-Z <"$work/typed" >"$work/out" 2>"$work/err" && out TYPED
check 'exec -i'
# shellcheck disable=SC2016 # the microVM's shell does the sum
printf 'echo sum-$((1 + 1)); exit 4\n' >"$work/typed"
"$dormouse" exec -it "$vm" -- sh <"$work/typed" >"$work/out" 2>"$work/err"
[ $? = 4 ] && out '*sum-2*' && run 2 exec -t --timeout 3 "$vm" && run 1 exec -t "$vm" -- /no/such/program
check 'exec -it'
run 7 exec --timeout 1 "$vm" -- sleep 60 && err 'its time was up'
check 'exec --timeout'
run 3 exec "$vm" -- /no/such/program
check 'exec of what is not there'
head -c 5000000 /dev/urandom >"$work/blob"
run 0 cp "$work/blob" "$vm:/tmp/new/blob" && run 0 cp "$vm:/tmp/new/blob" "$work/blob.back" &&
    cmp -s "$work/blob" "$work/blob.back" && run 0 ls "$vm" /tmp/new &&
    grep -q '^f0[0-7]*  *5.0 MB  .*  blob$' "$work/out"
check 'cp in, cp out, ls'
run 3 cp "$vm:/no/such/file" "$work/none" && run 2 cp "$work/blob" "$work/blob.back"
check 'cp: what is not there, and two local files'
run 0 update "$vm" --idle 700 --name pet --tag a=b && run 0 inspect "$vm" &&
    json "v.idlePolicy.maxIdleDurationSeconds === 700 && v.name === 'pet' && v.tags.a === 'b'"
check 'update'
run 2 update "$vm" && run 2 update "$vm" --tag nonsense
check 'update: nothing, and nonsense'
as_key() { # with the new key instead of the host's own
    AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret "$@"
}
run 0 keys create --name cli --rights read && grep -q '^AWS_SECRET_ACCESS_KEY=' "$work/out" &&
    key=$(sed -n 's/^AWS_ACCESS_KEY_ID=//p' "$work/out") &&
    secret=$(sed -n 's/^AWS_SECRET_ACCESS_KEY=//p' "$work/out") &&
    as_key run 0 ps && as_key run 4 exec "$vm" -- id
check 'keys create; a key with the right to read'
run 0 keys list && grep -q "^$key  *cli  *read" "$work/out" && run 0 keys revoke "$key" &&
    as_key run 4 ps && run 3 keys revoke "$key"
check 'keys list, keys revoke'
"$dormouse" events --count 2 >"$work/events" 2>&1 &
listener=$!
# Events that come before it listens are not its; some suspend it will see.
for _ in 1 2 3 4 5; do
    run 0 suspend "$vm"
    run 0 resume "$vm"
    [ -d /proc/$listener ] || break
done
wait $listener && [ "$(grep -c "  microvm  *$vm  *$image:1.0  " "$work/events")" = 2 ]
check 'events'

run 5 rm "$image" && err 'xargs dormouse terminate'
check 'an image in use is not removed'

"$dormouse" logs -f "$short" >"$work/followed" 2>"$work/follow.err" &
follower=$!
run 3 terminate ffffffff0000 "$short" && out "$vm" && err "ffffffff0000"
check 'of several names each is tried'
wait $follower && grep -q 'stdout request' "$work/followed"
check 'logs -f ends with the microVM'
run 0 ps -a && grep -q "^$short .*TERMINATED" "$work/out" && run 0 ps && ! grep -q "^$short" "$work/out"
check 'ps -a shows what has ended'
run 5 curl "$short" / && err 'has ended'
check 'curl of one that has ended'

# ---- the whole way --------------------------------------------------------------------------

run 0 deploy tests/e2e/apps/counter --name "$image" -q --idle 60 && out 'https://*.lambda-microvm.*' &&
    err "$image:2.0" && err 'dormouse curl'
check 'deploy: a new version, running, its address on standard output'
ids=$("$dormouse" ps -q --image "$image")
run 0 inspect "$ids" && json "v.idlePolicy.maxIdleDurationSeconds === 60"
check 'with its idle policy'
run 0 rm "$image:1" && run 0 inspect "$image" && json "v.versions.length === 1"
check 'rm of one version'

# An interrupt ends the watching, not the build.
mkfifo "$work/said"
"$dormouse" build tests/e2e/apps/counter --name "$image" >"$work/out" 2>"$work/said" &
builder=$!
while read -r line; do
    echo "$line"
    [[ $line != *'starting the builder'* ]] || kill -INT $builder
done <"$work/said" >"$work/err"
wait $builder
[ $? = 130 ] && err "dormouse logs --build $image:3.0 -f"
check 'interrupting a build says how to go on'
run 0 logs --build "$image" -f && grep -q 'taking the snapshot' "$work/out"
check 'which goes on to its end'

echo "1..$count"
[ $failed = 0 ]
