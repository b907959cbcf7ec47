#!/bin/sh
# Build the images of operator and sidecar from this checkout, and print their sizes: what `make images` runs.
#
# BUILDER        docker, podman or buildah, with options of its own [the first that is there and works]
# BASE_IMAGE     Python's image that they stand on [python:3.11-slim-bookworm]
# BUILD_IMAGE    the same Python with a C compiler, in which the sidecar's data path is compiled [BASE_IMAGE; the compiler is installed]
# IMAGE_PREFIX   what their names begin with, a registry for instance [postwarden/]
# IMAGE_TAG      [the version in pyproject.toml]
# PIP_CONF, CA   files, for a package index or a CA of your own: secrets of the build, nothing of them stays in an image
# BUILD_OPTIONS  more options of `build`
set -eu
cd "$(dirname "$0")/.."

if [ -z "${BUILDER:-}" ]; then
    if docker info >/dev/null 2>&1; then BUILDER=docker
    elif command -v podman >/dev/null; then BUILDER=podman
    elif command -v buildah >/dev/null; then BUILDER=buildah
    else echo "images/build.sh: none of docker (with its engine running), podman and buildah is here; on Debian: apt-get install buildah" >&2; exit 2
    fi
fi
tag=${IMAGE_TAG:-$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)}
prefix=${IMAGE_PREFIX-postwarden/}
[ $# -gt 0 ] || set -- operator sidecar
for part; do
    image=$prefix$part:$tag
    [ -f "images/$part/Dockerfile" ] || { echo "images/build.sh: there is no images/$part/Dockerfile" >&2; exit 2; }
    compiler=; [ "$part" = operator ] || compiler=${BUILD_IMAGE:-}
    # shellcheck disable=SC2086  # BUILDER and BUILD_OPTIONS hold several words
    $BUILDER build --file "images/$part/Dockerfile" --tag "$image" ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} \
        ${compiler:+--build-arg "BUILD_IMAGE=$compiler"} \
        ${PIP_CONF:+--secret "id=pipconf,src=$PIP_CONF"} ${CA:+--secret "id=ca,src=$CA"} ${BUILD_OPTIONS:-} .
    # shellcheck disable=SC2086
    $BUILDER images "$image"
done
