package podnet

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
)

// names are what a cluster's parts are called on a host. They follow from the cluster's id alone, so that two clusters share a
// host, and an agent that knows nothing finds what an earlier one made.
type names struct {
	gateway string // of the device that has the gateway's address, and of the nftables table
	ports   string // what the names of the host's ends of Pods' links begin with
	tunnel  string // of the VXLAN device
	// number is the cluster's network identifier in VXLAN, and the metric of its routes: by protocol and metric they are known.
	number int
}

func namesOf(cluster string) names {
	number, err := strconv.ParseUint(digest(cluster, 6), 16, 24)
	if err != nil {
		panic("podnet: a digest is not hexadecimal: " + err.Error())
	}
	return names{
		gateway: "ms-" + digest(cluster, 8), ports: "mv" + digest(cluster, 4), tunnel: "mx-" + digest(cluster, 8),
		number: max(1, int(number)), // metric 0 would be that of everybody's routes
	}
}

// port is the name of the host's end of a sandbox's link: 15 bytes, as many as the kernel takes.
func (n names) port(key string) string { return n.ports + digest(key, 9) }

func digest(s string, length int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:length]
}

// hardwareAddress is derived from the address, so that nobody's neighbour table is wrong when an address is used again, and
// every node knows it without asking.
func hardwareAddress(address netip.Addr) net.HardwareAddr {
	tail := address.AsSlice()
	if !address.Is4() {
		sum := sha256.Sum256(tail)
		tail = sum[:4]
	}
	return append(net.HardwareAddr{0x0a, 0x6d}, tail...) // 0x0a: locally administered, one receiver
}
