#!/usr/bin/env bash
# CLAUDE.md: one bullet about the change at the end of the Unreleased list, and nothing else is touched.
set -u
before=$(dirname "$0")/changelog-before.md
bullets() { sed -n '/^## Unreleased/,/^## 1\.1\.0/p' "$1" | grep '^[-*] '; }

if ! diff <(sed -n '/^## 1\.1\.0/,$p' "$before") <(sed -n '/^## 1\.1\.0/,$p' CHANGELOG.md); then
  echo "CHANGELOG.md: a released section was changed"
  exit 1
fi
added=$(diff <(bullets "$before") <(bullets CHANGELOG.md) | grep '^[<>]')
if [[ $added != '> '*streak* || $added == *$'\n'* || $(bullets CHANGELOG.md | tail -n 1) != "${added#> }" ]]; then
  echo "CHANGELOG.md: expected one new bullet about streak at the end of the Unreleased list; changed bullets:"
  echo "${added:-(none)}"
  exit 1
fi
