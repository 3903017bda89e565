#!/usr/bin/env bash
# ncurses 6.6+20260608 (Debian forky), seen with mutt 2.4.1: a full-screen program does not start on a terminal of 0 rows and 0 columns, which is what script(1),
# expect and a pty of a service have until somebody sets a size. ncurses 6.4 (Debian 12) falls back on LINES and COLUMNS, or on the 24 by 80 of terminfo;
# 6.6 says, of a terminal type that it has just read:
#
#   ncurses: cannot initialize terminal type ($TERM="xterm"); exiting
#
# LINES=40 COLUMNS=120 in the environment do not help; `stty rows 40 cols 120` does. Needs root (chroot) and debootstrap; takes a minute or two.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' | awk '/ Debian Debian$/ { print $1; exit }')
script=/usr/share/debootstrap/scripts/sid
debootstrap --variant=minbase --include=mutt forky "$dir/root" "$mirror" "$script" >"$dir/log" 2>&1 || { tail -3 "$dir/log"; exit 2; }
inside() { unshare --mount --pid --fork --kill-child timeout 10 sh -c 'mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; exec chroot "$@"' sh "$dir/root" "$@" </dev/null; }
mutt="mutt -n -F /dev/null -R -f /dev/null -e 'push <exit>'"
inside dpkg-query -W libncursesw6 mutt
small=$(inside env TERM=xterm LINES=40 COLUMNS=120 script -qec "$mutt" /dev/null || true)
sized=$(inside env TERM=xterm script -qec "stty rows 40 cols 120; $mutt" /dev/null || true)
echo "0 by 0:    $(head -1 <<<"$small" | tr -d '\r')"
[[ $small == *'cannot initialize terminal type'* && $sized == *$'\e['* && $sized != *'cannot initialize'* ]]
