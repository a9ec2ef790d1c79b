#!/usr/bin/env bash
# Build the image and start it on a machine without Docker: Debian's buildah, with no daemon and no user namespaces, on a
# base that mmdebstrap makes of Debian's own Python. It shows that the Dockerfile builds and its process answers; what is
# released has the base that the Dockerfile names. Needs root and: apt-get install buildah mmdebstrap
set -euo pipefail
cd "$(dirname "$0")/../.."

for tool in buildah mmdebstrap; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: the image was not built. Fix: apt-get install $tool" >&2; exit 3; }
done
scratch=$(mktemp -d)
b() { buildah --root "$scratch/root" --runroot "$scratch/run" --storage-driver vfs "$@"; }
trap 'b rm --all >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
export BUILDAH_ISOLATION=chroot

echo "the base: Debian's Python" >&2
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,python-is-python3,ca-certificates \
  "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$scratch/base" "${SOURCES:-/etc/apt/sources.list.d/debian.sources}" >&2
base=$(b from scratch)
b add --quiet "$base" "$scratch/base" / >/dev/null
b config --env PIP_BREAK_SYSTEM_PACKAGES=1 "$base"
b commit --quiet "$base" lmstream-base >/dev/null
rm -rf "$scratch/base"

echo "the image" >&2
b build --quiet --file adapters/container/Dockerfile --build-arg BASE=localhost/lmstream-base --pull=never \
  --build-arg LMSTREAM_COMMIT="$(git rev-parse HEAD 2>/dev/null || true)" --format docker --volume /etc/ssl/certs:/etc/ssl/certs:ro --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt --tag lmstream . >/dev/null

echo "its process" >&2
run=$(b from --pull=never localhost/lmstream)
b run "$run" -- lmstream version
b run "$run" -- python /opt/lmstream/entrypoint.py run --help >/dev/null
# Without settings it must say what is missing, and end: not wait, and not start.
code=0
said=$(b run --user 10001:10001 "$run" -- python /opt/lmstream/entrypoint.py run 2>&1) || code=$?
grep "LMS-" <<<"$said" | head -3 || true
if [ "$code" != 2 ] || ! grep -q "LMS-2" <<<"$said"; then
  echo "without settings it ended with $code, not with 2 and what is missing" >&2
  exit 1
fi
echo "built, and it answers" >&2
