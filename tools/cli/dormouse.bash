# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Completion of the command `dormouse` for bash: commands, options, and the names of images and
# microVMs that the host has now. Source it, or install it as
# /usr/share/bash-completion/completions/dormouse.

_dormouse_options() { # of one command, as its help shows them
    dormouse help "$1" 2>/dev/null | sed -nE 's/^  (-., )?(--[a-z-]+).*/\2/p'
}

_dormouse() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' word i
    local commands='deploy build images rm run ps curl token logs exec cp ls update suspend
        resume terminate checkpoint checkpoints rollback fork inspect events keys host doctor env version help'
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        --url | --ca) i=$((i + 1)) ;;
        -*) ;;
        *)
            command=$word
            break
            ;;
        esac
    done
    case $prev in
    --ca)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --memory | -m)
        if [[ $command != token ]]; then
            mapfile -t COMPREPLY < <(compgen -W '512 1024 2048 4096 8192' -- "$cur")
            return
        fi
        ;;
    --image | -i)
        if [[ $command = ps ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(dormouse images -q 2>/dev/null)" -- "$cur")
            return
        fi
        ;;
    esac
    if [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands --url --ca --json --no-color --help" -- "$cur")
        return
    fi
    if [[ $cur = -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_dormouse_options "$command")" -- "$cur")
        return
    fi
    case $command in
    build | deploy)
        mapfile -t COMPREPLY < <(
            compgen -d -- "$cur"
            compgen -f -X '!*.zip' -- "$cur"
        )
        ;;
    rm | run) mapfile -t COMPREPLY < <(compgen -W "$(dormouse images -q 2>/dev/null)" -- "$cur") ;;
    curl | token | exec | ls | update | suspend | resume | terminate | checkpoint | fork)
        mapfile -t COMPREPLY < <(compgen -W "$(dormouse ps -q 2>/dev/null)" -- "$cur")
        ;;
    logs)
        if [[ " ${COMP_WORDS[*]} " = *' --build '* || " ${COMP_WORDS[*]} " = *' -b '* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(dormouse images -q 2>/dev/null)" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(dormouse ps -aq 2>/dev/null)" -- "$cur")
        fi
        ;;
    checkpoints | rollback) # a microVM, then one of its checkpoints
        if [[ ${COMP_WORDS[COMP_CWORD - 2]} = rollback || $prev = -d || $prev = --delete ]]; then
            word=${COMP_WORDS[COMP_CWORD - 1]}
            [[ $command = rollback ]] || word=${COMP_WORDS[COMP_CWORD - 2]}
            mapfile -t COMPREPLY < <(compgen -W "$(dormouse checkpoints -q "$word" 2>/dev/null)" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(dormouse ps -aq 2>/dev/null)" -- "$cur")
        fi
        ;;
    inspect)
        mapfile -t COMPREPLY < <(compgen -W \
            "$(dormouse images -q 2>/dev/null) $(dormouse ps -aq 2>/dev/null)" -- "$cur")
        ;;
    keys) mapfile -t COMPREPLY < <(compgen -W 'create list revoke' -- "$cur") ;;
    cp)
        mapfile -t COMPREPLY < <(
            compgen -f -- "$cur"
            compgen -W "$(dormouse ps -q 2>/dev/null)" -S : -- "$cur"
        )
        ;;
    help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
    esac
}

complete -F _dormouse dormouse
