#!/usr/bin/env bash
# Packs the binary with all that it needs into a tarball that runs on any Linux with the same or a newer glibc.
#
#   scripts/dist.sh [OUT [BINARY]]      default: target/dist target/release/freshet; prints the tarball's path
#
# In it: freshet, lib/ (the libraries it is linked with, but glibc's), ONNX Runtime, the default model, configurations,
# completions, a unit of systemd, licences.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:-target/dist}
binary=${2:-target/release/freshet}
model=all-MiniLM-L6-v2
models=${FRESHET_MODELS:-vendor/models}
fail() { echo "dist: $*" >&2; exit 1; }

[ -x "$binary" ] || fail "no $binary: run \`make build\` first"
[ -e vendor/onnxruntime/libonnxruntime.so ] || fail "no ONNX Runtime: run \`scripts/setup.sh runtime\` first"
[ -e "$models/$model/model.onnx" ] || fail "no model: run \`scripts/setup.sh model\` first"

version=$("$binary" --version | cut -d' ' -f2)
name=freshet-$version-linux-$(uname -m)
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/.dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/$name
mkdir -p "$root"/{lib,config,completions,vendor/onnxruntime,vendor/models/$model}

install "$binary" "$root/freshet"
# glibc and its loader belong to the system.
ldd "$binary" | awk '$3 ~ /^\// { print $1, $3 }' | while read -r library path; do
    case $library in
        libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.*) ;;
        *) cp -L "$path" "$root/lib/$library" ;;
    esac
done
cp -L vendor/onnxruntime/libonnxruntime.so "$root/vendor/onnxruntime/"
cp vendor/onnxruntime/{LICENSE,ThirdPartyNotices.txt} "$root/vendor/onnxruntime/"
for file in README.md config.json freshet.json model.onnx tokenizer.json; do
    cp "$models/$model/$file" "$root/vendor/models/$model/"
done
cp config/{default,demo,docker,files,kafka}.toml "$root/config/"
cp config/freshet.service LICENSE README.md CHANGELOG.md "$root/"
cp -r config/examples config/prometheus config/grafana "$root/config/"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$root/completions/freshet.$shell"
done
# The same content makes the same bytes.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$work" -cf - "$name" | gzip -9n >"$work/$name.tar.gz"
mv "$work/$name.tar.gz" "$out/"
echo "$out/$name.tar.gz"
