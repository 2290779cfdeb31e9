#!/bin/sh
# Makes what compose.yaml mounts: certificates, keys and folders. What is there already is kept.
set -eu
cd "$(dirname "$0")"
umask 077

deffd kme certs secrets/qkd kme-a kme-b --role kme
deffd kme certs secrets/qkd sae-0 sae-1 sae-2 --role sae
deffd kme certs secrets/flower superlink --role kme

for node in 0 1 2; do
    key="secrets/flower/supernode-$node"
    [ -e "$key" ] || ssh-keygen -q -t ecdsa -b 384 -N "" -C "supernode-$node" -f "$key"
done
[ -e secrets/flower/superexec-secret ] || head -c 32 /dev/urandom > secrets/flower/superexec-secret

for client in 0 1 2; do
    mkdir -p "state/client-$client" "data/client-$client"
done
mkdir -p state/kme-a state/kme-b fibre runs

# Containers run as whoever owns these files, and never as root.
user="$(id -u):$(id -g)"
if [ "$(id -u)" = 0 ]; then
    user=49999:49999
    chown -R "$user" secrets state data fibre runs
fi
echo "DEFFD_USER=$user" > .env
