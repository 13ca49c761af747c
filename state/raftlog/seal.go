package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// sealed is an entry as it is kept on disk: bbolt has no checksums of its own. It is a copy: raft shares the entry.
func sealed(log *raft.Log) *raft.Log {
	kept := *log
	kept.Extensions = binary.LittleEndian.AppendUint32(nil, sumOf(log))
	return &kept
}

// unseal checks an entry that was read from index and makes it what raft gave. One from before there were seals passes.
func unseal(index uint64, log *raft.Log) error {
	if log.Index != index {
		return fmt.Errorf("in the place of entry %d is entry %d", index, log.Index)
	}
	if log.Extensions == nil {
		return nil
	}
	if len(log.Extensions) != 4 || binary.LittleEndian.Uint32(log.Extensions) != sumOf(log) {
		return fmt.Errorf("the checksum of entry %d differs", index)
	}
	log.Extensions = nil
	return nil
}

func sumOf(log *raft.Log) uint32 {
	head := append(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, log.Index), log.Term), byte(log.Type))
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, log.Data)
}
