#!/bin/sh
# Makes Postern the smarthost of a Postfix: everything that is not local goes to 127.0.0.1:1025.
#
#   sudo sh smarthost.sh [CONFIG_DIRECTORY] [HOST:PORT]
#
# Postfix runs as its own user, so Postern must let that user in:
#
#   [access]
#   allow = ["same-user", "user:postfix"]
set -eu
directory=${1:-/etc/postfix}
smarthost=${2:-127.0.0.1:1025}
postconf=${POSTCONF:-postconf}

# Brackets: no MX look-up. Postern answers for every recipient and keeps what it accepted, so Postfix need not hold mail back
# while the line is down.
"$postconf" -c "$directory" -e \
  "relayhost = [${smarthost%:*}]:${smarthost##*:}" \
  'smtp_tls_security_level = none' \
  'smtp_sasl_auth_enable = no' \
  'disable_dns_lookups = yes' \
  'maximal_backoff_time = 300s'
echo "relayhost is now $("$postconf" -c "$directory" -h relayhost); run: postfix -c $directory reload"
