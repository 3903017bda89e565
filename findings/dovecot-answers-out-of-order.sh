#!/bin/bash
# Dovecot 2.3.19.1 (Debian 12: dovecot-core, dovecot-imapd 1:2.3.19.1+dfsg1-2.1+deb12u*), the `imap` process alone on a pipe.
#
# Of two commands that a client pipelines, a UID SEARCH and the FETCH behind it, the FETCH can be answered first: its responses and its
# tagged OK come between the SEARCH's untagged answer and the SEARCH's tagged OK. RFC 3501 5.5 allows that where there is no ambiguity, but
# whoever takes the order of tagged replies for the order of commands, or takes what comes before a tagged OK for that command's answer, is wrong.
# ESEARCH's (TAG "s") tells whose answer it is.
#
# Seen, for "s UID SEARCH RETURN (ALL) ALL" and "f FETCH 1:* (FLAGS)" in one write:
#   * ESEARCH (TAG "s") UID ALL 1
#   * 1 FETCH (FLAGS (\Recent))
#   f OK Fetch completed
#   s OK Search completed
#
# It depends on how far the input has come, so it is tried up to 50 times. Exits 0 when it was seen, 1 when not.
set -u
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir" || exit 2
version=$(apt-cache madison dovecot-core | awk '$3 ~ /2\.3\.19/ { print $3; exit }')
[ -n "$version" ] || { echo "no Dovecot 2.3.19 in this machine's apt sources" >&2; exit 2; }
apt-get download "dovecot-core=$version" "dovecot-imapd=$version" >/dev/null 2>&1 || exit 2
for deb in *.deb; do dpkg -x "$deb" root || exit 2; done
mkdir -p home/Maildir/cur home/Maildir/new home/Maildir/tmp
printf 'Subject: one\r\n\r\nhello\r\n' > home/Maildir/new/1.a.b
as=()
if [ "$(id -u)" = 0 ]; then
  chown -R 65534:65534 home
  as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
fi
talk() {
  {
    printf 'a SELECT INBOX\r\n'
    sleep 0.2
    printf 's UID SEARCH RETURN (ALL) ALL\r\nf FETCH 1:* (FLAGS)\r\n'
    sleep 0.2
    printf 'z LOGOUT\r\n'
  } | (cd home && "${as[@]}" env -i USER=nobody HOME="$dir/home" LD_LIBRARY_PATH="$dir/root/usr/lib/dovecot" DOVECONF_ENV=1 \
    MAIL_LOCATION="maildir:$dir/home/Maildir" "$dir/root/usr/lib/dovecot/imap" 2>/dev/null)
}
for _ in $(seq 50); do
  answer=$(talk | tr -d '\r' | grep -E '^(s|f) OK|^. (ESEARCH|[0-9]+ FETCH)')
  if [ "$(grep -nE '^f OK' <<<"$answer" | cut -d: -f1)" -lt "$(grep -nE '^s OK' <<<"$answer" | cut -d: -f1)" ] 2>/dev/null; then
    echo "$answer"
    exit 0
  fi
done
echo "not seen in 50 tries; the last one:" >&2
echo "$answer" >&2
exit 1
