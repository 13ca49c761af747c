#!/usr/bin/env bash
# Rewrites the `replace` lines that every user of k8s.io/kubernetes needs: that module names its staging modules v0.0.0, so each
# must be pinned to the release that matches. Usage: hack/k8s-replaces.sh v1.36.0
set -euo pipefail
version=${1:?usage: hack/k8s-replaces.sh v1.MINOR.PATCH}
staging=v0.${version#v1.}
mod=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
go mod edit -require="k8s.io/kubernetes@$version"
sed -n 's|^\t\(k8s.io/[^ ]*\) => ./staging/.*|\1|p' "$mod" | while read -r name; do
	go mod edit -replace="$name=$name@$staging"
done
