#!/bin/sh
# Installs what one image holds into /images/<image>, in two steps so that a change of our code keeps the first cached:
#   install.sh dependencies IMAGE...   the image's subset of the lock, wheels only, every hash checked
#   install.sh ours IMAGE...           our packages, copied
# Both leave bytecode, since the root file system will be read-only.
set -eu
compile() { python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$1"; }
step=$1; shift
cd /src
[ "$step" != dependencies ] || { # nkeys, without a wheel, is built by a pinned setuptools
  python3 -m venv --system-site-packages /opt/build
  /opt/build/bin/python3 -m pip install --quiet --require-hashes --only-binary :all: -r infra/docker/requirements/build.txt
}
for image in "$@"; do
  list=infra/docker/requirements/$image.txt
  target=/images/$image
  case $step in
    dependencies)
      python3 -m venv --without-pip "$target"
      /opt/build/bin/python3 -m pip wheel --quiet --no-deps --only-binary :all: --no-binary nkeys --no-build-isolation \
        --use-pep517 --require-hashes --wheel-dir /wheels -r "$list"
      sed -n 's/^\([a-z][^\\]*[^\\ ]\) *\\*$/\1/p' "$list" >/tmp/names
      /opt/build/bin/python3 -m pip --python "$target/bin/python3" install --quiet --no-compile --no-deps --no-index \
        --find-links /wheels -r /tmp/names
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
