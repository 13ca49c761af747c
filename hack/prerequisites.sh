#!/usr/bin/env bash
# Makes sure that what the demo or the tests need is on this machine: says what is missing, installs it from Debian's packages
# when it may, and otherwise says exactly what to install. Usage: hack/prerequisites.sh demo|demo-cluster|test
set -euo pipefail
purpose=${1:?usage: hack/prerequisites.sh demo|demo-cluster|test}

say() { printf '\033[2m%s\033[0m\n' "== $*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("$2"); }

[ "$(uname -s)" = Linux ] || fail "Mainstay runs Pods on Linux only"
command -v go >/dev/null || fail "Go is missing: install Go 1.26 or newer from https://go.dev/dl"
[ "$(id -u)" = 0 ] || fail "this needs root, to plug Pods into networks: run it as 'sudo make $purpose'"
need git git
need nft nftables
need ip iproute2
need docker docker.io
need dockerd docker.io
need iptables iptables
if [ "$purpose" = demo-cluster ]; then need curl curl; fi
if [ "$purpose" = test ]; then
	[ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || packages+=(busybox-static)
	need tar tar
	need gcc "gcc libc6-dev"
fi
if [ ${#packages[@]} -gt 0 ]; then
	mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
	command -v apt-get >/dev/null || fail "install these and try again: ${packages[*]}"
	say "installing from Debian's packages: ${packages[*]}"
	apt-get update -qq
	# Where Debian keeps the engine's client apart, docker.io alone is only the engine.
	if [[ " ${packages[*]} " == *" docker.io "* ]] && apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
	# shellcheck disable=SC2086 # an entry may name two packages
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${packages[*]} >/dev/null
fi

# The tests start engines of their own.
[ "$purpose" = demo ] || exit 0
answers() { docker version >/dev/null 2>&1; }
if ! answers; then
	say "no Docker Engine answers: starting one"
	if [ -d /run/systemd/system ]; then
		systemctl start docker
	elif ! { [ -x /etc/init.d/docker ] && /etc/init.d/docker start >/dev/null; }; then # which needs rights that a container may lack
		setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
	fi
	for _ in $(seq 60); do
		answers && break
		sleep 0.5
	done
	answers || fail "the Docker Engine does not answer: see 'journalctl -u docker' or /var/log/dockerd.log, then try again"
fi
