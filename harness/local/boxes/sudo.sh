#!/bin/sh
# shellcheck shell=sh disable=SC2154  # $home and $become are set by lines that are put in below
# E2B's sandboxes have sudo, and not every machine does whose programs a sandbox has.
fail() { echo "sudo: $*" >&2 && exit 1; }
user=root login='' told=''
while [ $# -gt 0 ]; do
    case $1 in
    --) shift && break ;;
    --user=*) user=${1#*=} ;;
    --user | --prompt)
        [ $# -gt 1 ] || fail "the option $1 needs a value"
        [ "$1" = --prompt ] || user=$2
        shift
        ;;
    --login) login=1 ;;
    -V | --version) echo "sudo of a sandbox" && exit ;;
    --list) told=list ;;
    --validate) told=nothing ;;
    --preserve-env* | --set-home | --stdin | --background | --non-interactive | --shell | --prompt=*) ;;
    --reset-timestamp | --remove-timestamp) told=${told:-nothing} ;;
    --*) fail "the option $1 is not known in this sandbox" ;;
    -?*)
        letters=${1#-}
        while [ -n "$letters" ]; do
            rest=${letters#?} && letter=${letters%"$rest"} && letters=$rest
            case $letter in
            u | p) # what follows them is theirs, in the same word or the next
                value=$letters letters=''
                [ -n "$value" ] || [ $# -gt 1 ] || fail "the option -$letter needs a value"
                [ -n "$value" ] || { value=$2 && shift; }
                [ "$letter" = p ] || user=$value
                ;;
            i) login=1 ;;
            l) told=list ;;
            v | k | K) told=${told:-nothing} ;;
            [ABEHPSbns]) ;;
            *) fail "the option -$letter is not known in this sandbox" ;;
            esac
        done
        ;;
    *=*)
        # shellcheck disable=SC2163  # $1 is NAME=VALUE
        export "$1"
        ;;
    *) break ;;
    esac
    shift
done
@FIND@
[ -n "$home" ] || fail "there is no user $user in this sandbox"
if [ "$told" = list ]; then
    set -- echo "(ALL : ALL) NOPASSWD: ALL"
elif [ $# = 0 ] && [ -n "$told" ]; then
    set -- true
elif [ -n "$login" ]; then
    [ $# -gt 0 ] || set -- /bin/bash
    # shellcheck disable=SC2016  # it is the other account's shell that reads it
    set -- /bin/bash -l -c 'cd && exec "$@"' bash "$@"
elif [ $# = 0 ]; then
    set -- /bin/bash
fi
# shellcheck disable=SC2086  # it is a command with its options, or nothing
exec $become env HOME="$home" USER="$user" LOGNAME="$user" "$@"
