package proxy

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mainstay-cluster/mainstay/node/nft"
)

// raw is the element as the kernel holds it.
func (e element) raw() (key, value []byte) {
	parts := strings.Split(e.key, " . ")
	if strings.HasSuffix(e.set, endpointsSuffix) { // the last part is a number that was drawn, in the machine's order of bytes
		last := len(parts) - 1
		drawn, err := strconv.ParseUint(parts[last], 10, 32)
		mustBe(err)
		key = binary.NativeEndian.AppendUint32(fields(parts[:last]), uint32(drawn))
	} else {
		key = fields(parts)
	}
	switch word, chain, _ := strings.Cut(e.value, " "); {
	case e.value == "":
		return key, nil
	case word == "goto" || word == "drop":
		return key, nft.Verdict(word, chain)
	}
	return key, fields(strings.Split(e.value, " . "))
}

// fields are addresses, protocols and ports.
func fields(parts []string) (raw []byte) {
	for _, part := range parts {
		raw = append(raw, nft.Field(field(part))...)
	}
	return raw
}

func field(text string) []byte {
	switch {
	case text == "tcp":
		return []byte{unix.IPPROTO_TCP}
	case text == "udp":
		return []byte{unix.IPPROTO_UDP}
	case strings.Contains(text, "."):
		address, err := netip.ParseAddr(text)
		mustBe(err)
		return address.AsSlice()
	}
	port, err := strconv.ParseUint(text, 10, 16)
	mustBe(err)
	return binary.BigEndian.AppendUint16(nil, uint16(port))
}

// mustBe panics if what wants.go wrote is not what it writes: a bug.
func mustBe(err error) {
	if err != nil {
		panic("an element that nobody makes: " + err.Error())
	}
}
