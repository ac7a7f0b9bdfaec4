#!/bin/sh
# shellcheck shell=sh
# E2B's sandboxes have sudo. Here both users share one account: the command gets the other user's name and home, but
# no more permissions than before.
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
case $user in
root) home=@ROOT@ ;;
user) home=@USER@ ;;
*) echo "sudo: there is no user $user in this sandbox" >&2 && exit 1 ;;
esac
[ $# -gt 0 ] || set -- /bin/bash
exec env HOME="$home" USER="$user" LOGNAME="$user" "$@"
