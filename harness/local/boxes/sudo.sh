#!/bin/sh
# shellcheck shell=sh disable=SC2154  # $home and $become are set by lines that are put in below
# E2B's sandboxes have sudo, and not every machine does whose programs a sandbox has.
user=root
while [ $# -gt 0 ]; do
    case $1 in
    -u | --user) user=$2 && shift ;;
    --) shift && break ;;
    -[EHSbikn]* | --preserve-env* | --set-home | --stdin | --background | --login | --non-interactive) ;;
    -*) echo "sudo: the option $1 is not known in this sandbox" >&2 && exit 1 ;;
    *=*)
        # shellcheck disable=SC2163  # $1 is NAME=VALUE
        export "$1"
        ;;
    *) break ;;
    esac
    shift
done
@FIND@
[ -n "$home" ] || { echo "sudo: there is no user $user in this sandbox" >&2 && exit 1; }
[ $# -gt 0 ] || set -- /bin/bash
# shellcheck disable=SC2086  # it is a command with its options, or nothing
exec $become env HOME="$home" USER="$user" LOGNAME="$user" "$@"
