# Runs a command in namespaces of its own, with a network that leads nowhere: bash alone.sh FOLDER COMMAND...
# FOLDER takes what would land in the host's /run and /var/log. All processes end with the command.
set -euo pipefail
folder=$1
shift
export folder
exec unshare --net --mount --pid --fork --kill-child --mount-proc --uts --ipc --propagation private bash -c '
  set -euo pipefail
  hostname n1
  ip link set lo up
  ip link add eth0 type veth peer name eth0p
  ip link set eth0p up
  ip addr add 172.30.0.2/24 dev eth0
  ip link set eth0 up
  ip route add default via 172.30.0.1
  mkdir -p "$folder/log"
  printf "nameserver 127.0.0.53\n" >"$folder/resolv.conf"
  mount --bind "$folder/resolv.conf" /etc/resolv.conf
  mount --bind "$folder/log" /var/log
  mount -t tmpfs tmpfs /run
  code=0
  "$@" || code=$?
  exit "$code"
' alone "$@"
