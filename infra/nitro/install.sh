#!/usr/bin/env bash
# Installs one service on a host with systemd, from this repository: user, folders, packages, unit, sample settings.
#   sudo infra/nitro/install.sh SERVICE [--root DIR] [--no-packages]
# SERVICE: gateway, relay, storage, sealkeeper, kms, key-server, or enclave (the parent instance of the Nitro Enclave).
# Run again for a new version: settings that are there stay. --root puts everything below DIR, and starts nothing.
# PYTHON names a CPython 3.11 or newer with pip and venv; on Amazon Linux 2023: dnf install python3.11 python3.11-pip.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd) repository=$(cd "$(dirname "$0")/../.." && pwd)
usage() { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
service=${1:-}; [ -n "$service" ] && shift || usage
root='' packages=yes
while [ $# -gt 0 ]; do
  case $1 in
    --root) [ $# -ge 2 ] || usage; root=$(realpath -m "$2"); shift 2 ;;
    --no-packages) packages=no; shift ;;
    *) usage ;;
  esac
done
image=$service settings="$service.env" unit="daas@$service.service"
case $service in
  gateway | relay | storage | sealkeeper) units='daas@.service' ;;
  kms | key-server) image=sealkeeper unit="daas-$service.service" units="daas-$service.service" ;;
  enclave)
    image='' settings='enclave.json enclave-forward.env' unit='daas-enclave-forward daas-enclave'
    units='daas-enclave.service daas-enclave-forward.service' ;;
  *) usage ;;
esac

new_enough() { "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=''
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
  if new_enough "$candidate"; then python=$("$candidate" -I -c 'import sys; print(sys.executable)'); break; fi
done
[ -n "$python" ] || { echo 'install: no CPython 3.11 or newer; name one with PYTHON' >&2; exit 1; }

put() { # MODE SOURCE TARGET
  install -D -m "$1" "$2" "$root$3"
}
put 0644 /dev/stdin "/usr/lib/sysusers.d/daas-$service.conf" <<USER
u daas-$service - "K3s-DaaS $service" /var/lib/daas/$service
USER
[ -n "$root" ] || systemd-sysusers "daas-$service.conf"

install -d -m 0755 "$root/etc/daas" "$root/opt/daas"
# Keys and certificates of this service: its user reads them, and only it.
install -d -m 0700 "$root/etc/daas/$service"
[ -n "$root" ] || chown "daas-$service:" "/etc/daas/$service"
for file in $settings; do
  [ -e "$root/etc/daas/$file" ] || put 0600 "$here/env/$file" "/etc/daas/$file"
done
for file in $units; do put 0644 "$here/systemd/$file" "/etc/systemd/system/$file"; done

target=/opt/daas/$service
if [ "$service" = enclave ]; then
  for file in parent.py forward.py; do put 0755 "$here/$file" "$target/$file"; done
  install -d -m 0755 "$root/opt/daas/bin"
  ln -sfn "$python" "$root/opt/daas/bin/python3"
  put 0644 "$here/systemd/allocator.yaml" /etc/nitro_enclaves/allocator.yaml
elif [ "$packages" = yes ]; then
  # The container image's list: wheels by hash, and our packages copied. Replaced as a whole: nothing old stays.
  rm -rf "$root$target.new"
  for step in dependencies ours; do
    SOURCE=$repository TARGET=$root$target.new PYTHON=$python sh "$repository/infra/docker/install.sh" "$step" "$image"
  done
  rm -rf "$root$target"
  mv "$root$target.new" "$root$target"
fi

[ -n "$root" ] || systemctl daemon-reload
echo "installed $service: edit ${settings// / and } in /etc/daas, put keys into /etc/daas/$service, then"
echo "  systemctl enable --now $unit"
