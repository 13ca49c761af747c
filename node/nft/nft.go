// Package nft looks at nftables tables without nft, which reads every element of every set of a table first; that takes long.
// It changes nothing. Start at Rules and Elements.
package nft

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// genmsgBytes is the size of the header before a message's attributes, in which the kernel counts changes of all tables.
	genmsgBytes = 4
	// dumpTries bounds how often a list is read again because somebody changed rules, of any table, meanwhile.
	dumpTries = 5
)

// Rules identifies the rules of an IPv4 table: it is another one whenever somebody changed one. That of no table is that of an
// empty one.
func Rules(table string) (string, error) {
	all, err := rules(table)
	hash := sha256.New()
	for _, m := range all {
		hash.Write(m[genmsgBytes:])
	}
	return hex.EncodeToString(hash.Sum(nil)), err
}

// HasRules tells whether there is any in an IPv4 table; without it, there is none.
func HasRules(table string) (bool, error) {
	all, err := rules(table)
	return len(all) > 0, err
}

func rules(table string) ([][]byte, error) {
	all, err := dump(unix.NFT_MSG_GETRULE, nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
	if err != nil {
		return nil, fmt.Errorf("list rules of nftables table %s: %w", table, err)
	}
	return all, nil
}

// Elements digests those of a map or set of an IPv4 table; those of none are none.
func Elements(table, set string) (all Digest, err error) {
	messages, err := dump(unix.NFT_MSG_GETSETELEM, nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(table)),
		nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set)))
	if err != nil {
		return Digest{}, fmt.Errorf("list elements of %s in nftables table %s: %w", set, table, err)
	}
	for _, m := range messages {
		for kind, list := range attributes(m[genmsgBytes:]) {
			if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, element := range attributes(list) {
				all.Add(keyAndValue(element))
			}
		}
	}
	return all, nil
}

// keyAndValue are an element's, as Digest has them.
func keyAndValue(element []byte) (key, value []byte) {
	for kind, data := range attributes(element) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			key = content(data)
		case unix.NFTA_SET_ELEM_DATA:
			value = content(data)
		}
	}
	return key, value
}

func content(data []byte) []byte {
	for kind, value := range attributes(data) {
		if kind != unix.NFTA_DATA_VERDICT {
			return value
		}
		var code, chain []byte
		for kind, part := range attributes(value) {
			switch kind {
			case unix.NFTA_VERDICT_CODE:
				code = part
			case unix.NFTA_VERDICT_CHAIN:
				chain = bytes.TrimRight(part, "\x00")
			}
		}
		return append(slices.Clip(code), chain...)
	}
	return nil
}

// attributes are the parts of a message, or of a part, by their kinds.
func attributes(raw []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(raw) >= unix.SizeofNlAttr {
			size, kind := int(binary.NativeEndian.Uint16(raw)), binary.NativeEndian.Uint16(raw[2:])
			if size < unix.SizeofNlAttr || size > len(raw) || !yield(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), raw[unix.SizeofNlAttr:size]) {
				return
			}
			raw = raw[min(len(raw), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
		}
	}
}

// dump lists objects of nftables; none if what they would be in does not exist.
func dump(kind int, which ...*nl.RtAttr) ([][]byte, error) {
	for try := 1; ; try++ {
		request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
		for _, attribute := range which {
			request.AddData(attribute)
		}
		messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
		switch {
		case errors.Is(err, netlink.ErrDumpInterrupted) && try < dumpTries:
		case errors.Is(err, unix.ENOENT):
			return nil, nil
		default:
			return messages, err
		}
	}
}
