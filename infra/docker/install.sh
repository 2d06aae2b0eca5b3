#!/bin/sh
# Installs what one image holds into /images/<image>, in two steps so that a change of our code keeps the first cached:
#   install.sh dependencies IMAGE...   the image's subset of the lock, wheels only, every hash checked
#   install.sh ours IMAGE...           our packages, copied
# Both leave bytecode, since the root file system will be read-only. SOURCE, TARGET and PYTHON name another repository,
# folder and interpreter: so infra/nitro/install.sh puts the same things on hosts.
set -eu
python=${PYTHON:-python3}
compile() { "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$1"; }
step=$1; shift
cd "${SOURCE:-/src}"
for image in "$@"; do
  list=infra/docker/requirements/$image.txt
  target=${TARGET:-/images/$image}
  case $step in
    dependencies)
      "$python" -m venv --without-pip "$target"
      "$python" -m pip --python "$target/bin/python3" install --quiet --no-compile --no-deps --only-binary :all: \
        --require-hashes -r "$list"
      rm -f "$target"/bin/[Aa]ctivate*
      compile "$target"/lib/python3.*/site-packages
      ;;
    ours)
      site=$(echo "$target"/lib/python3.*/site-packages)
      for folder in $(sed -n '1s/^# ours: //p' "$list"); do
        mkdir -p "$site/daas"
        cp -R "$folder"/src/daas/. "$site/daas/"
      done
      compile "$site/daas"
      ;;
  esac
done
