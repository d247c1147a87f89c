#!/bin/sh
# Builds the sandbox image from Debian packages alone, for machines that reach a Debian mirror but no image registry.
# The same packages as the Dockerfile. Needs root, debootstrap and a running engine:
#
#   sandbox/build.sh [IMAGE]
#
# DEBIAN_SUITE and DEBIAN_MIRROR choose the release and the mirror (default: the machine's own apt source).
set -eu
image=${1:-effect-claw/sandbox:1}
suite=${DEBIAN_SUITE:-bookworm}
packages=git,curl,ripgrep,python3-minimal,python3,jq,ca-certificates,socat

if [ -n "${DEBIAN_MIRROR:-}" ]; then mirror=$DEBIAN_MIRROR
else
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
fi
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
echo "sandbox image: installing Debian $suite (about a minute)" >&2
debootstrap --variant=minbase --include="$packages" "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log" >&2; exit 1; }
rm -f "$root.log"
chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash claw
mkdir -p "$root/workspace"
chown 1000:1000 "$root/workspace"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/usr/share/doc/* "$root"/usr/share/man/* \
  "$root"/usr/share/locale/*
tar -C "$root" -c . | docker import --change 'USER claw' --change 'WORKDIR /workspace' --change 'CMD ["bash"]' - "$image" >/dev/null
echo "sandbox image: $image is ready" >&2
