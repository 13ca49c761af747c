package nft

import (
	"encoding/binary"
	"hash/fnv"

	"golang.org/x/sys/unix"
)

// Digest tells elements of a map or set from others, in whatever order they stand. Two that are equal are of the same
// elements, unless somebody who knows this code takes pains. The zero value is that of no element.
type Digest struct {
	Count int
	sum   uint64
}

// Add puts in an element: its key and value as the kernel holds them, see Field and Verdict. A set's has no value.
func (d *Digest) Add(key, value []byte) {
	d.Count++
	d.sum += hashOf(key, value)
}

// Remove takes out an element that is in.
func (d *Digest) Remove(key, value []byte) {
	d.Count--
	d.sum -= hashOf(key, value)
}

func hashOf(key, value []byte) uint64 {
	h := fnv.New64a()
	h.Write(key)
	h.Write([]byte{byte(len(key))}) // where the key ends
	h.Write(value)
	return h.Sum64()
}

// fieldBytes: the kernel pads each part of a key or value to whole registers.
const fieldBytes = 4

// Field is one part of a key or value of several, as the kernel holds it.
func Field(raw []byte) []byte {
	return append(raw, make([]byte, (fieldBytes-len(raw)%fieldBytes)%fieldBytes)...)
}

// Verdict is a verdict as a value: "drop", or "goto" and "jump" with a chain.
func Verdict(word, chain string) []byte {
	codes := map[string]int32{"drop": 0, "goto": unix.NFT_GOTO, "jump": unix.NFT_JUMP}
	return append(binary.BigEndian.AppendUint32(nil, uint32(codes[word])), chain...)
}
